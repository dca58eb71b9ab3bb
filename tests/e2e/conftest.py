"""Fixtures: a running server on free ports, and typed access to its two front ends."""

import json
import os
import pathlib
import re
import select
import signal
import subprocess
import time

import grpc
import httpx
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

BIN = pathlib.Path(os.environ["E2E_BIN"])
MODEL = os.environ["E2E_MODEL"]


class Server:
    """pelton-server as a child process; `http` and `grpc` are its addresses once it is ready."""

    def __init__(self, *arguments, model=MODEL, env=None):
        command = [str(BIN / "pelton-server"), model, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            command + list(arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        self.ready_line = self._wait_ready()
        self.http = "http://" + re.search(r"http=(\S+)", self.ready_line).group(1)
        self.grpc = re.search(r"grpc=(\S+)", self.ready_line).group(1)
        self.model = re.search(r"model=(\S+)", self.ready_line).group(1)
        self.log = b""
        os.set_blocking(self.process.stderr.fileno(), False)

    def _wait_ready(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            readable, _, _ = select.select([self.process.stdout], [], [], 0.2)
            if readable:
                line = self.process.stdout.readline().decode()
                if line.startswith("ready "):
                    return line
                if not line:
                    break
        self.process.kill()
        raise RuntimeError("no ready line: " + self.process.stderr.read().decode())

    def read_log(self):
        chunk = self.process.stderr.read()
        self.log += chunk or b""
        return self.log.decode(errors="replace")

    def metric(self, name):
        text = httpx.get(self.http + "/metrics", headers=self.auth()).text
        return sum(float(v) for v in re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.M))

    def auth(self):
        return {}

    def wait_idle(self, seconds=20):
        end = time.monotonic() + seconds
        names = ["pelton:num_requests_running", "pelton:num_requests_waiting", "pelton:kv_cache_usage_perc"]
        while time.monotonic() < end:
            if all(self.metric(name) == 0 for name in names):
                return True
            time.sleep(0.05)
        return False

    def stop(self, how=signal.SIGINT, seconds=40):
        self.process.send_signal(how)
        code = self.process.wait(seconds)
        self.read_log()
        self.process.stdout.close()
        self.process.stderr.close()
        return code


class GrpcApi:
    """The services by reflection alone, as grpcurl sees them: no generated code."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))

    def call(self, service, method, body, timeout=60, metadata=None):
        descriptor = self.pool.FindServiceByName(service).FindMethodByName(method)
        request_type = message_factory.GetMessageClass(descriptor.input_type)
        response_type = message_factory.GetMessageClass(descriptor.output_type)
        request = json_format.ParseDict(body, request_type())
        path = f"/{service}/{method}"
        maker = self.channel.unary_stream if descriptor.server_streaming else self.channel.unary_unary
        stub = maker(path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=response_type.FromString)
        return stub(request, timeout=timeout, metadata=metadata)


def rpc_error_details(error):
    """(code name, ErrorInfo reason, first violated field) of a failed call."""
    from google.rpc import error_details_pb2, status_pb2  # googleapis-common-protos

    reason = field = None
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        status = status_pb2.Status.FromString(value)
        for detail in status.details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(bad) and bad.field_violations:
                field = bad.field_violations[0].field
    return error.code().name, reason, field


@pytest.fixture(scope="session")
def server():
    running = Server("--max-model-len", "2048")
    yield running
    assert running.stop() == 0, running.log.decode(errors="replace")


@pytest.fixture(scope="session")
def api(server):
    return GrpcApi(server.grpc)


@pytest.fixture
def new_server():
    """Starts servers with arguments of a test's own; ends what is left of them."""
    started = []

    def start(*arguments, **kwargs):
        started.append(Server(*arguments, **kwargs))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def sse_events(response):
    """The data of each event of a streaming httpx response."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield line[6:]


def load_json(text):
    return json.loads(text)
