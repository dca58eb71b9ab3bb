"""A thousand requests given up at random moments, over both front ends, leave nothing behind."""

import concurrent.futures
import os
import random
import socket
import time

import grpc
import httpx
from conftest import GrpcApi

COUNT = int(os.environ.get("E2E_CANCELS", "200"))  # `make test-long` sets 1000


def give_up_http(server, rng):
    """Sends a streaming request on a raw socket and closes it, politely or not, at a random moment."""
    host, port = server.http.removeprefix("http://").split(":")
    body = '{"prompt": "Story %d:", "max_tokens": 400, "stream": true, "ignore_eos": true}' % rng.randrange(10**6)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        if rng.random() < 0.1:  # in the middle of sending
            connection.sendall((head + body)[: rng.randrange(1, len(head) + len(body))].encode())
            return
        connection.sendall((head + body).encode())
        connection.settimeout(5)
        for _ in range(rng.randrange(0, 4)):
            connection.recv(rng.randrange(1, 2000))
        time.sleep(rng.random() * 0.05)
        if rng.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def give_up_grpc(api, rng):
    body = {"prompt": {"text": f"Story {rng.randrange(10**6)}:"}, "sampling": {"max_tokens": 400, "ignore_eos": True}}
    try:
        call = api.call("pelton.v1.Inference", "CompleteStream", body, timeout=0.05 if rng.random() < 0.2 else 60)
        for _ in range(rng.randrange(0, 4)):
            next(call)
        time.sleep(rng.random() * 0.05)
        call.cancel()
    except (grpc.RpcError, StopIteration):
        pass


def test_cancels_leave_no_block_no_sequence_no_stream(server):
    apis = [GrpcApi(server.grpc) for _ in range(4)]
    for api in apis:  # descriptors are read once, not by many threads at a time
        api.call("pelton.v1.Models", "List", {})
        list(api.call("pelton.v1.Inference", "CompleteStream", {"prompt": {"text": "x"}, "sampling": {"max_tokens": 1}}))

    def one(number):
        rng = random.Random(number)
        if number % 2:
            give_up_http(server, rng)
        else:
            give_up_grpc(apis[number // 2 % 4], rng)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(COUNT)))
    assert server.wait_idle(), httpx.get(server.http + "/metrics").text
    # Neighbours are unharmed: a request afterwards is answered as ever.
    answer = httpx.post(server.http + "/v1/completions", json={"prompt": "The sky is", "max_tokens": 4, "temperature": 0}, timeout=30)
    assert answer.status_code == 200
