"""Both front ends give the same tokens, text, usage, finish reasons and errors."""

import grpc
import httpx
import pytest
from conftest import load_json, rpc_error_details, sse_events
from parity_cases import all_cases, grpc_body, http_body

HTTP_STATUS_OF = {
    "INVALID_ARGUMENT": 400,
    "UNIMPLEMENTED": 400,
    "OUT_OF_RANGE": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
}
# The word of OpenAI's errors for each reason of gRPC's.
CODE_OF = {
    "INVALID_FIELD": "invalid_value",
    "UNSUPPORTED_PARAMETER": "unsupported_parameter",
    "MODEL_NOT_FOUND": "model_not_found",
    "CONTEXT_LENGTH_EXCEEDED": "context_length_exceeded",
}
FINISH = {1: "stop", 2: "length"}


def test_there_are_sixty_cases():
    assert len(all_cases()) >= 60
    assert len({item["name"] for item in all_cases()}) == len(all_cases())


def ask_http(server, item):
    route = "/v1/chat/completions" if item["messages"] is not None else "/v1/completions"
    return httpx.post(server.http + route, json=http_body(server.model, item), timeout=60)


def ask_grpc(server, api, item, stream=False):
    method = "Chat" if item["messages"] is not None else "Complete"
    return api.call("pelton.v1.Inference", method + ("Stream" if stream else ""), grpc_body(server.model, item))


def json_name(field):
    """OpenAI's name of a proto field's path: "sampling.top_p" is "top_p", a prompt is one field."""
    return "prompt" if field.startswith("prompt") else field.removeprefix("sampling.").split("[")[0]


def grpc_text(choice):
    return choice.text if hasattr(choice, "text") else "".join(part.text for part in choice.message.content)


@pytest.mark.parametrize("item", all_cases(), ids=lambda item: item["name"])
def test_same_answer_or_same_error(server, api, item):
    http = ask_http(server, item)
    if " refused " in item["name"]:
        with pytest.raises(grpc.RpcError) as caught:
            ask_grpc(server, api, item)
        code, reason, field = rpc_error_details(caught.value)
        error = http.json()["error"]
        assert http.status_code == HTTP_STATUS_OF[code], (code, error)
        assert CODE_OF[reason] == error["code"]
        assert (code == "UNIMPLEMENTED") == (reason == "UNSUPPORTED_PARAMETER")
        if field is not None and error["param"] is not None:
            assert json_name(field) == error["param"].split("[")[0], (field, error)
        return

    assert http.status_code == 200, http.text
    answer = http.json()
    choice = answer["choices"][0]
    response = ask_grpc(server, api, item)
    other = response.choices[0]
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    assert text == grpc_text(other)
    assert choice["token_ids"] == list(other.token_ids)
    assert choice["finish_reason"] == FINISH[other.finish_reason]
    assert answer["usage"]["prompt_tokens"] == response.usage.prompt_tokens
    assert answer["usage"]["completion_tokens"] == response.usage.completion_tokens
    assert len(choice["token_ids"]) == response.usage.completion_tokens

    pieces, ids, reasons = "", [], []
    for message in ask_grpc(server, api, item, stream=True):
        usage = message.usage
        for part in message.choices:
            pieces += grpc_text(part)
            ids += part.token_ids
            reasons += [part.finish_reason] if part.finish_reason else []
    assert (pieces, ids, reasons) == (text, list(other.token_ids), [other.finish_reason])
    counts = (response.usage.prompt_tokens, response.usage.completion_tokens)
    assert (usage.prompt_tokens, usage.completion_tokens) == counts

    body = {**http_body(server.model, item), "stream": True, "stream_options": {"include_usage": True}}
    route = "/v1/chat/completions" if item["messages"] is not None else "/v1/completions"
    pieces, ids, reasons, usage, last = "", [], [], None, None
    with httpx.stream("POST", server.http + route, json=body, timeout=60) as stream:
        for data in sse_events(stream):
            last = data
            if data == "[DONE]":
                continue
            usage = load_json(data).get("usage") or usage
            for part in load_json(data)["choices"]:
                pieces += part["text"] if "text" in part else part["delta"].get("content") or ""
                ids += part.get("token_ids") or []
                reasons += [part["finish_reason"]] if part["finish_reason"] else []
    assert last == "[DONE]"
    assert (pieces, ids, reasons) == (text, list(other.token_ids), [FINISH[other.finish_reason]])
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == counts
