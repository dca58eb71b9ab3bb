"""Child processes: priority, time limits, and an end by process id whatever happens."""

import os
import signal
import socket
import subprocess
import time


class Failure(Exception):
    """A measurement that gave no figure; the text says why."""


class Runner:
    def __init__(self, realtime, log_dir):
        self.realtime = realtime
        self.log_dir = log_dir
        self.running = []
        log_dir.mkdir(parents=True, exist_ok=True)

    def _start(self, command, stdout, stderr, nice):
        prefix = []
        if self.realtime:
            # A server under FIFO would keep its own client off the cores: those are niced instead.
            prefix = ["nice", "-n", "-15"] if nice else ["chrt", "-f", "10"]
        process = subprocess.Popen(
            prefix + [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
        self.running.append(process)
        return process

    def output(self, command, seconds, nice=False):
        """Standard output of a program that must end well within `seconds`."""
        process = self._start(command, subprocess.PIPE, subprocess.PIPE, nice)
        try:
            out, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{os.path.basename(str(command[0]))} took longer than {seconds} s") from None
        finally:
            self.stop(process)
        if process.returncode != 0:
            tail = errors.decode(errors="replace").strip().splitlines()[-1:]
            raise Failure(f"{os.path.basename(str(command[0]))} ended with {process.returncode}: {' '.join(tail)[:300]}")
        return out.decode(errors="replace")

    def server(self, command, log_name):
        """A server in the background; its output goes to the returned file."""
        path = self.log_dir / log_name
        with open(path, "wb") as log:
            process = self._start(command, log, subprocess.STDOUT, True)
        return process, path

    def stop(self, process):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.running:
            self.running.remove(process)

    def stop_all(self):
        for process in list(self.running):
            self.stop(process)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, process, what, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Failure(f"{what} ended with {process.returncode} before it was ready")
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise Failure(f"{what} was not ready after {seconds} s")
