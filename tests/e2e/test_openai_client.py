"""The openai package against the running server: sync, async, streaming, errors."""

import asyncio

import openai
import pytest

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.http + "/v1", api_key="unused", max_retries=0)


def test_models_lists_the_served_model(client, server):
    assert [model.id for model in client.models.list()] == [server.model]
    assert client.models.retrieve(server.model).id == server.model


def test_chat_streamed_equals_unary(client, server):
    arguments = dict(model=server.model, messages=QUESTION, temperature=0, max_tokens=24)
    whole = client.chat.completions.create(**arguments)
    assert whole.choices[0].message.role == "assistant"
    assert whole.choices[0].message.content
    text, usage, reasons = "", None, []
    for chunk in client.chat.completions.create(**arguments, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert text == whole.choices[0].message.content
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert usage.prompt_tokens == whole.usage.prompt_tokens
    assert reasons == [whole.choices[0].finish_reason]


def test_completion_streamed_equals_unary_and_seed_decides(client, server):
    arguments = dict(model=server.model, prompt="Once upon a time", temperature=0.9, seed=7, max_tokens=24)
    whole = client.completions.create(**arguments).choices[0].text
    streamed = "".join(c.choices[0].text for c in client.completions.create(**arguments, stream=True) if c.choices)
    assert streamed == whole
    other = client.completions.create(**{**arguments, "seed": 8}).choices[0].text
    assert other != whole


def test_logprobs_have_both_shapes(client, server):
    chat = client.chat.completions.create(model=server.model, messages=QUESTION, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3)
    content = chat.choices[0].logprobs.content
    assert len(content) == chat.usage.completion_tokens
    assert all(len(entry.top_logprobs) == 3 for entry in content)
    assert content[0].logprob == pytest.approx(content[0].top_logprobs[0].logprob)
    plain = client.completions.create(model=server.model, prompt="The sky is", max_tokens=4, temperature=0, logprobs=2)
    assert len(plain.choices[0].logprobs.token_logprobs) == 4


def test_several_prompts_are_several_choices(client, server):
    answer = client.completions.create(model=server.model, prompt=["One two", "Three four"], max_tokens=4, temperature=0)
    assert [choice.index for choice in answer.choices] == [0, 1]
    alone = client.completions.create(model=server.model, prompt="Three four", max_tokens=4, temperature=0)
    assert answer.choices[1].text == alone.choices[0].text


def test_async_streams_side_by_side_equal_solo_runs(server):
    async def ask(client, number):
        stream = await client.completions.create(model=server.model, prompt=f"Number {number} is", max_tokens=16, temperature=0, stream=True)
        return "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])

    async def run():
        async with openai.AsyncOpenAI(base_url=server.http + "/v1", api_key="unused") as client:
            together = await asyncio.gather(*[ask(client, n) for n in range(16)])
            alone = [await ask(client, n) for n in range(16)]
            return together, alone

    together, alone = asyncio.run(run())
    assert together == alone


@pytest.mark.parametrize(
    "change, kind, param",
    [
        ({"model": "nope"}, openai.NotFoundError, "model"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"n": 2}, openai.BadRequestError, "n"),
        ({"max_tokens": 10**8}, openai.BadRequestError, "max_tokens"),
    ],
)
def test_errors_are_the_clients_own_types(client, server, change, kind, param):
    arguments = dict(model=server.model, messages=QUESTION)
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{**arguments, **change})
    assert caught.value.param == param


def test_unsupported_parameter_has_its_code(client, server):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=server.model, prompt="x", presence_penalty=1.0)
    assert caught.value.code == "unsupported_parameter"
