"""pelton chat in a terminal: Ctrl-C ends the answer, not the program; the conversation goes on."""

import os
import pty
import select
import time

from conftest import BIN


class Terminal:
    def __init__(self, *command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "dumb"
            os.execv(command[0], command)
        self.seen = ""

    def wait_for(self, text, seconds=20):
        end = time.monotonic() + seconds
        while text not in self.seen and time.monotonic() < end:
            readable, _, _ = select.select([self.fd], [], [], 0.1)
            if readable:
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    break
        assert text in self.seen, self.seen
        self.seen = self.seen.split(text, 1)[1]

    def wait_for_more(self, count, seconds=20):
        end = time.monotonic() + seconds
        while len(self.seen) < count and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
        assert len(self.seen) >= count

    def send(self, text):
        os.write(self.fd, text.encode())

    def exit_code(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_ctrl_c_stops_the_answer_and_the_conversation_goes_on(server):
    terminal = Terminal(str(BIN / "pelton"), "chat", "--server", server.grpc, "--ignore-eos", "--max-tokens", "1200", "--temperature", "0")
    terminal.wait_for("> ")
    for _ in range(2):
        terminal.send("Tell me a long story about a river.\n")
        terminal.wait_for("river.")  # the echo
        terminal.wait_for_more(40)
        terminal.send("\x03")
        terminal.wait_for("> ")
        assert server.wait_idle()
    terminal.send("/exit\n")
    assert terminal.exit_code() == 0
