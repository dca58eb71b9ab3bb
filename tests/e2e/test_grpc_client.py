"""A Python gRPC client without generated code: reflection, health, models, tokens, deadlines."""

import json
import pathlib
import re
import shutil
import subprocess

import grpc
import pytest
from conftest import GrpcApi, rpc_error_details
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def test_reflection_names_every_service(server):
    with grpc.insecure_channel(server.grpc) as channel:
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {"pelton.v1.Inference", "pelton.v1.Models", "grpc.health.v1.Health"} <= services


def test_health_is_serving_for_the_server_and_each_service(server):
    with grpc.insecure_channel(server.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ["", "pelton.v1.Inference", "pelton.v1.Models"]:
            status = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status
            assert status == health_pb2.HealthCheckResponse.SERVING, service


def test_models_tell_what_is_served(server, api):
    models = api.call("pelton.v1.Models", "List", {}).models
    assert [model.name for model in models] == [server.model]
    model = api.call("pelton.v1.Models", "Get", {"name": server.model})
    assert model.architecture == "llama"
    assert model.vocab_size == 49152
    assert model.max_model_len == 2048
    with pytest.raises(grpc.RpcError) as caught:
        api.call("pelton.v1.Models", "Get", {"name": "nope"})
    assert rpc_error_details(caught.value)[:2] == ("NOT_FOUND", "MODEL_NOT_FOUND")


def test_tokens_go_there_and_back(server, api):
    text = "Grüße, 世界! 🎈"
    ids = list(api.call("pelton.v1.Inference", "Tokenize", {"text": text}).token_ids)
    assert api.call("pelton.v1.Inference", "Detokenize", {"token_ids": ids}).text == text


@pytest.mark.parametrize("method", ["Embed", "Rerank", "Classify"])
def test_what_is_not_built_says_so(api, method):
    body = {"Embed": {"inputs": [{"text": "x"}]}, "Rerank": {"query": "q", "documents": ["d"]}, "Classify": {"inputs": [{"text": "x"}]}}
    with pytest.raises(grpc.RpcError) as caught:
        api.call("pelton.v1.Inference", method, body[method])
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline_ends_the_call_and_frees_its_blocks(server, api):
    body = {"prompt": {"text": "Count:"}, "sampling": {"max_tokens": 1500, "ignore_eos": True}}
    with pytest.raises(grpc.RpcError) as caught:
        for _ in api.call("pelton.v1.Inference", "CompleteStream", body, timeout=0.3):
            pass
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.wait_idle()


def test_the_name_that_a_client_gives_its_call_is_in_the_log(new_server):
    server = new_server("--log-level", "debug", "--log-format", "json")
    body = {"prompt": {"text": "A secret prompt"}, "sampling": {"max_tokens": 2}}
    GrpcApi(server.grpc).call("pelton.v1.Inference", "Complete", body, metadata=[("x-request-id", "order-17")])
    assert server.wait_idle()
    assert server.stop() == 0
    lines = [line for line in server.log.decode().splitlines() if "order-17" in line]
    assert lines and all(json.loads(line)["client_request_id"] == "order-17" for line in lines), server.log
    assert "secret" not in server.log.decode()


@pytest.mark.skipif(shutil.which("grpcurl") is None, reason="no grpcurl on the PATH")
def test_the_grpcurl_line_of_the_readme_works_as_printed(server):
    readme = (pathlib.Path(__file__).parents[2] / "README.md").read_text()
    line = re.search(r"^    grpcurl .*?\n(?:      .*\n)*", readme, re.M).group(0)
    assert "127.0.0.1:8001" in line
    line = line.replace("127.0.0.1:8001", server.grpc)
    answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert re.search('"finish(_r|R)eason": "FINISH_REASON_', answer.stdout), answer.stdout
    assert '"text": ' in answer.stdout


def test_a_method_that_there_is_not_says_so(server):
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/pelton.v1.Inference/Sing")(b"", timeout=5)
    assert rpc_error_details(caught.value)[:2] == ("UNIMPLEMENTED", "UNKNOWN_METHOD")
