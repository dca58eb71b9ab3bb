"""Bodies and headers that clients legally send, beyond those of OpenAI's own client."""

import os

import httpx
from conftest import BIN
from test_lifecycle import run

TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
ASK = [{"role": "user", "content": "What time is it?"}]


def test_a_conversation_with_tools_can_be_tokenized(server):
    plain = httpx.post(server.http + "/tokenize", json={"messages": ASK})
    for more in [{"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": "auto"}]:
        answer = httpx.post(server.http + "/tokenize", json={"messages": ASK, **more})
        assert answer.status_code == 200, answer.text
        assert answer.json()["count"] >= plain.json()["count"]


def test_a_call_without_arguments_is_a_call_with_none(server):
    counts = set()
    for arguments in [{"arguments": "{}"}, {"arguments": ""}, {"arguments": None}, {}]:
        call = {"id": "c1", "type": "function", "function": {"name": "now", **arguments}}
        messages = [*ASK, {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "noon"}]
        answer = httpx.post(server.http + "/v1/chat/completions", json={"messages": messages, "max_tokens": 1}, timeout=30)
        assert answer.status_code == 200, answer.text
        counts.add(answer.json()["usage"]["prompt_tokens"])
    assert len(counts) == 1


def test_neutral_values_of_older_fields_are_accepted(server):
    body = {"messages": ASK, "max_tokens": 1, "function_call": "none", "functions": [], "thinking_token_budget": -1}
    assert httpx.post(server.http + "/v1/chat/completions", json=body, timeout=30).status_code == 200
    body["function_call"] = "auto"
    assert httpx.post(server.http + "/v1/chat/completions", json=body).json()["error"]["param"] == "function_call"


def test_a_prompt_of_one_token_has_one_empty_log_probability(server):
    for route, body in [("completions", {"prompt": [9]}), ("completions", {"prompt": [9, 10]})]:
        answer = httpx.post(f"{server.http}/v1/{route}", json={**body, "max_tokens": 1, "prompt_logprobs": 0}, timeout=30)
        logprobs = answer.json()["choices"][0]["prompt_logprobs"]
        assert len(logprobs) == len(body["prompt"]) and logprobs[0] is None


def test_white_space_before_the_parameters_of_a_media_type(server):
    for kind, status in [("application/json ; charset=utf-8", 200), ("application/json\t;x=y", 200), ("application/jsonx", 415)]:
        answer = httpx.post(server.http + "/v1/completions", content='{"prompt": "x", "max_tokens": 1}', headers={"Content-Type": kind}, timeout=30)
        assert answer.status_code == status, kind


def test_what_is_refused_before_the_scheduler_is_in_no_metric(server):
    before = server.metric("pelton:request_success_total"), server.metric("pelton:e2e_request_latency_seconds_count")
    for body in [{"prompt": ""}, {"prompt": "x", "max_tokens": 0}, {"prompt": "word " * 4000}]:
        assert httpx.post(server.http + "/v1/completions", json=body).status_code == 400
    assert server.wait_idle()
    assert (server.metric("pelton:request_success_total"), server.metric("pelton:e2e_request_latency_seconds_count")) == before


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(server):
    proxies = {name: "http://127.0.0.1:9" for name in ["http_proxy", "https_proxy", "grpc_proxy"]}
    environment = {key: value for key, value in os.environ.items() if key.lower() != "no_proxy"}
    answer = run(str(BIN / "pelton"), "health", "--server", server.grpc, env={**environment, **proxies})
    assert answer.returncode == 0, answer.stderr
