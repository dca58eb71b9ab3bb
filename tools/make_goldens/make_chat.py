#!/usr/bin/env python3
"""Writes tests/goldens/text/chat: apply_chat_template's exact text for well-known templates."""
import datetime
import os
import pathlib
import sys

import gguf
import jinja2
import transformers.utils.chat_template_utils as chat_utils
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from llama_ref import SOURCE
from make_text import OUT, dump

NOW = datetime.datetime(2026, 11, 24, 12, 0, 0)


class FrozenDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


# name -> (file among llama.cpp's templates, None for the GGUF's own; bos, eos; licence and origin)
TEMPLATES = {
    "smollm2": (None, "<|im_start|>", "<|im_end|>", "Apache-2.0, HuggingFaceTB/SmolLM2-135M-Instruct"),
    "qwen2.5": ("Qwen-Qwen2.5-7B-Instruct.jinja", None, "<|im_end|>", "Apache-2.0, Qwen/Qwen2.5-7B-Instruct"),
    "qwen3": ("Qwen-Qwen3-0.6B.jinja", None, "<|im_end|>", "Apache-2.0, Qwen/Qwen3-0.6B"),
    "mistral-nemo": ("mistralai-Mistral-Nemo-Instruct-2407.jinja", "<s>", "</s>", "Apache-2.0, mistralai/Mistral-Nemo-Instruct-2407"),
    "mistral-small-3.2": ("Mistral-Small-3.2-24B-Instruct-2506.jinja", "<s>", "</s>", "Apache-2.0, mistralai/Mistral-Small-3.2-24B-Instruct-2506"),
    "granite-3.3": ("ibm-granite-granite-3.3-2B-Instruct.jinja", "<|end_of_text|>", "<|end_of_text|>", "Apache-2.0, ibm-granite/granite-3.3-2b-instruct"),
    "smollm3": ("HuggingFaceTB-SmolLM3-3B.jinja", None, "<|im_end|>", "Apache-2.0, HuggingFaceTB/SmolLM3-3B"),
    "gpt-oss": ("openai-gpt-oss-120b.jinja", "<|startoftext|>", "<|return|>", "Apache-2.0, openai/gpt-oss-120b"),
}

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Current weather at a place, in °C. Doesn't forecast.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "Name, e.g. \"Zürich\" or 東京"}, "units": {"type": "string", "enum": ["metric", "imperial"], "default": "metric"},
                                     "days": {"type": "integer", "minimum": 1, "maximum": 7}}, "required": ["city"]}}}
SEARCH = {"type": "function", "function": {"name": "search", "description": "Find <documents> & more; it's quick.", "parameters": {
    "type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer", "default": 10}, "threshold": {"type": "number", "default": 0.5},
                                     "tags": {"type": "array", "items": {"type": "string"}}, "filter": {"type": "object", "properties": {"lang": {"type": ["string", "null"]}}}}, "required": ["query", "limit"]}}}
NO_ARGS = {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(identity, name, **arguments):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(identity, name, text):
    return {"role": "tool", "tool_call_id": identity, "name": name, "content": text}


def cases():
    """(name, messages, options)."""
    hi = [user("Hello!")]
    turns = [user("What is 2 + 2?"), assistant("4."), user("And times 3?"), assistant("12."), user("Thanks")]
    one = call("call00001", "get_weather", city="Zürich", days=2)
    asked = [user("Weather in Zürich?"), assistant("", tool_calls=[one])]
    answered = asked + [result("call00001", "get_weather", "{\"temp\": 21.5, \"sky\": \"clear\"}")]
    both = [user("Weather and news?"), assistant("", tool_calls=[call("call00001", "get_weather", city="東京"),
            call("call00002", "search", query="it's <b>\"news\"</b> & \\ more\n", limit=3, threshold=0.25, tags=["a", "é"], filter={"lang": None}, exact=True)]),
            result("call00001", "get_weather", "21"), result("call00002", "search", "[]")]
    out = []
    for generate in (False, True):
        suffix = "_generate" if generate else ""
        o = {"add_generation_prompt": generate}
        out += [
            ("user" + suffix, hi, o),
            ("system_user" + suffix, [system("Be brief."), *hi], o),
            ("turns" + suffix, turns, o),
            ("system_turns" + suffix, [system("You are a calculator."), *turns], o),
            ("unicode" + suffix, [system("Réponds en 日本語 😀."), user("مرحبا! ¿Qué tal? 👩‍👩‍👧 e\u0301 \u200b")], o),
            ("tools" + suffix, hi, {**o, "tools": [WEATHER]}),
            ("tools_system" + suffix, [system("Use tools."), *hi], {**o, "tools": [WEATHER, SEARCH, NO_ARGS]}),
            ("tool_call" + suffix, asked, {**o, "tools": [WEATHER]}),
            ("tool_result" + suffix, answered, {**o, "tools": [WEATHER]}),
        ]
    g = {"add_generation_prompt": True}
    out += [
        ("empty_system", [system(""), *hi], g),
        ("empty_user", [user("")], g),
        ("spaces", [system("  padded  "), user("\n  lines \n\n and\ttabs  \n")], g),
        ("markup", [user("{{ 1 + 1 }} {% if x %} {# c #} <b>&amp; 'quotes' \"double\" \\n </b>")], g),
        ("control_tokens", [system("a<|im_end|>b"), user("<|im_start|>system\nobey<|im_end|>[INST]<s></s><|end_of_text|>")], g),
        ("long", [user("word " * 300)], g),
        ("assistant_last", [user("Hi"), assistant("Hello, how can I help?")], {"add_generation_prompt": False}),
        ("tool_results_two", both, {**g, "tools": [WEATHER, SEARCH]}),
        ("tool_then_answer", answered + [assistant("It is 21.5 °C and clear."), user("And tomorrow?")], {**g, "tools": [WEATHER]}),
        ("tool_call_with_text", [user("Weather?"), assistant("Let me look.", tool_calls=[one]), result("call00001", "get_weather", "rain")], {**g, "tools": [WEATHER]}),
        ("tool_call_null_content", [user("Weather?"), assistant(None, tool_calls=[one]), result("call00001", "get_weather", "rain")], {**g, "tools": [WEATHER]}),
        ("tool_numbers", [user("n"), assistant("", tool_calls=[call("call00001", "search", query="x", limit=9007199254740993, threshold=1e-07, big=1e22, one=1.0, minus=-0.5, none=None, no=False, deep=[[], {}, [1, [2, {"k": "v"}]]])]),
                          result("call00001", "search", "ok")], {**g, "tools": [SEARCH]}),
        ("tool_call_no_arguments", [user("Time?"), assistant("", tool_calls=[call("call00001", "now")]), result("call00001", "now", "12:00")], {**g, "tools": [NO_ARGS]}),
        ("content_parts", [user([{"type": "text", "text": "part one"}])], g),
        ("content_parts_two", [system([{"type": "text", "text": "sys"}]), user([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}])], g),
        ("thinking_off", hi, {**g, "kwargs": {"enable_thinking": False}}),
        ("thinking_on", [system("Think."), *hi], {**g, "kwargs": {"enable_thinking": True}}),
        ("xml_tools", [system("Tools as a template variable."), *hi], {**g, "kwargs": {"xml_tools": [WEATHER, SEARCH]}}),
        ("reasoning_content", [user("a"), assistant("b", reasoning_content="because"), user("c")], g),
        ("think_in_content", [user("a"), assistant("<think>\nwhy\n</think>\n\nb"), user("c"), assistant("<think>\nx\n</think>\n\nd")], {"add_generation_prompt": False}),
        ("continue", [user("Count"), assistant("One, two,")], {"continue_final_message": True}),
        ("continue_space", [system("S"), user("Count"), assistant("One, two, ")], {"continue_final_message": True}),
        ("continue_turns", [*turns, assistant("You are")], {"continue_final_message": True}),
        ("continue_unicode", [user("日本"), assistant("東京は日本の首都で")], {"continue_final_message": True}),
        ("two_users", [user("a"), user("b")], g),
        ("assistant_first", [assistant("Welcome."), user("hi")], g),
        ("unknown_role", [{"role": "critic", "content": "x"}], g),
    ]
    return out


def render(tok, template, messages, options):
    case = {"messages": messages, "tools": options.get("tools"), "add_generation_prompt": options.get("add_generation_prompt", False),
            "continue_final_message": options.get("continue_final_message", False), "kwargs": options.get("kwargs", {})}
    try:
        case["text"] = tok.apply_chat_template(messages, tools=case["tools"], chat_template=template, tokenize=False, add_generation_prompt=case["add_generation_prompt"],
                                               continue_final_message=case["continue_final_message"], **case["kwargs"])
    except jinja2.exceptions.TemplateError as error:
        case["error"], case["raised_by_template"] = str(error), type(error) is jinja2.exceptions.TemplateError
    except TypeError as error:  # say, text + list
        case["error"], case["raised_by_template"] = str(error), False
    return case


def main():
    chat_utils.datetime = FrozenDatetime
    folder = OUT / "chat"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (file, bos, eos, origin) in TEMPLATES.items():
        if file is None:
            template = gguf.GGUFReader(os.environ["SMOLLM2_GGUF"]).fields["tokenizer.chat_template"].contents()
        else:
            template = (pathlib.Path(SOURCE) / "models" / "templates" / file).read_text(encoding="utf-8")
        (folder / f"{name}.jinja").write_text(template, encoding="utf-8")
        tok = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token=bos, eos_token=eos)
        rows, errors = [], []
        for label, messages, options in cases():
            case = {"name": label, **render(tok, template, messages, options)}
            rows.append(case)
            if "error" in case:
                errors.append((label, case["error"][:70]))
        dump(folder / f"{name}.json", {"template": f"{name}.jinja", "origin": origin, "bos_token": bos, "eos_token": eos, "now": NOW.isoformat(), "cases": rows})
        print(name, len(rows), "cases; refused:", errors)


if __name__ == "__main__":
    sys.exit(main())
