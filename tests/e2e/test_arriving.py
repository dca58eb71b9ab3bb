"""What arriving gRPC messages may hold: requests that never end cost a bounded amount of memory."""

import pathlib
import re
import socket
import time

import h2.connection
import h2.events

CONNECTIONS = 3
STREAMS = 64  # of each: 3 x 64 x 7 MiB are 1.3 GiB
SENT = 7 << 20
CLAIMED = 8 << 20
QUOTA = 512 << 20


def resident(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) << 10


class UnfinishedRequests:
    """One connection, over which messages begin and do not end."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(0.5)
        self.http = h2.connection.H2Connection()
        self.http.initiate_connection()
        self.left = {}
        self.stuck = False

    def open(self, authority):
        stream = self.http.get_next_available_stream_id()
        self.http.send_headers(stream, [
            (":method", "POST"), (":scheme", "http"), (":authority", authority),
            (":path", "/pelton.v1.Inference/Complete"),
            ("content-type", "application/grpc"), ("te", "trailers"),
        ])  # fmt: skip
        self.left[stream] = SENT
        self.http.send_data(stream, b"\0" + CLAIMED.to_bytes(4, "big"))

    def send_some(self):
        """Everything the windows let through now; then what the server says to that."""
        for stream in list(self.left):
            count = min(self.left[stream], self.http.local_flow_control_window(stream))
            while count > 0:
                frame = min(count, self.http.max_outbound_frame_size)
                self.http.send_data(stream, bytes(frame))
                self.left[stream] -= frame
                count -= frame
            if self.left[stream] == 0:
                del self.left[stream]
        try:
            self.socket.sendall(self.http.data_to_send())
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            self.stuck = True
            return
        self.stuck = not data
        for event in self.http.receive_data(data) if data else []:
            if isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                self.left.pop(event.stream_id, None)


def test_messages_that_never_end_hold_a_bounded_amount_of_memory(new_server):
    from conftest import GrpcApi

    server = new_server("--max-model-len", "512")
    api = GrpcApi(server.grpc)
    ask = {"prompt": {"text": "Hello"}, "sampling": {"max_tokens": 2}}
    api.call("pelton.v1.Inference", "Complete", ask)
    before = resident(server.process)
    clients = [UnfinishedRequests(server.grpc) for _ in range(CONNECTIONS)]
    for client in clients:
        for _ in range(STREAMS):
            client.open(server.grpc)
    most = 0
    end = time.monotonic() + 60
    while any(client.left and not client.stuck for client in clients) and time.monotonic() < end:
        for client in clients:
            if client.left and not client.stuck:
                client.send_some()
        most = max(most, resident(server.process))
    held = most - before
    print(f"held {held >> 20} MiB; {sum(len(c.left) for c in clients)} not taken")
    assert held < QUOTA + (128 << 20)
    for client in clients:
        client.socket.close()
    # Whoever was there before, or comes after, is served.
    end = time.monotonic() + 30
    while True:
        try:
            api.call("pelton.v1.Inference", "Complete", ask, timeout=5)
            break
        except Exception:
            assert time.monotonic() < end
            time.sleep(0.2)
    assert server.wait_idle()
    assert server.stop() == 0
