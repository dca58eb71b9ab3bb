"""Prefill, decode and 32 sequences at once, straight on each engine, with the same file."""

import json

from comparison import models
from comparison.processes import Failure

PREFILL = 512
BATCH = 32
SECONDS = 180  # the longest run of one program
BATCH_PROMPT = 32
BATCH_DECODE = 64  # so that the context is 64 in the middle


def measure_round(record, files, options, tool, runner, peer_first, say):
    for name, path in files.items():
        engines = [("llama.cpp", measure_peer), ("pelton", measure_pelton)]
        for engine, measure in engines if peer_first else reversed(engines):
            say(f"{name}: {engine}")
            try:
                measure(record, name, path, options, tool, runner)
            except (Failure, ValueError, KeyError, IndexError) as error:
                say(f"{name}: {engine}: {error}")
                record["failures"].append(f"{name}, {engine}: {error}")


def add(record, name, figure, engine, samples):
    figures = record["offline"].setdefault(name, {}).setdefault(figure, {})
    figures.setdefault(engine, []).extend(samples)


def measure_peer(record, name, path, options, tool, runner):
    model = models.ALL[name]
    command = [tool.program("llama-bench"), "-m", path, "-t", options.threads, "-o", "json"]
    command += ["-p", PREFILL, "-n", model.decode, "-r", model.repeats]
    for test in json.loads(runner.output(command, SECONDS)):
        add(record, name, "prefill" if test["n_prompt"] else "decode", "llama.cpp", test["samples_ts"])
    if not model.batched:
        return
    command = [tool.program("llama-batched-bench"), "-m", path, "-t", options.threads]
    command += ["-c", BATCH * (BATCH_PROMPT + BATCH_DECODE), "-b", 2048, "-ub", 512]
    command += ["-npp", BATCH_PROMPT, "-ntg", BATCH_DECODE, "-npl", BATCH, "--output-format", "jsonl"]
    lines = [line for line in runner.output(command, SECONDS).splitlines() if line.startswith("{")]
    add(record, name, "batch", "llama.cpp", [json.loads(lines[-1])["speed_tg"]])


def measure_pelton(record, name, path, options, tool, runner):
    model = models.ALL[name]
    base = [options.bin / "pelton-bench", path, "--json", "--threads", options.threads] + options.pelton_flag
    single = ["--prefill", PREFILL, "--decode", model.decode, "--repeats", model.repeats]
    take(record, name, json.loads(runner.output(base + single, SECONDS)), {"prefill": "prefill", "decode": "decode"})
    if not model.batched:
        return
    together = ["--prefill", 0, "--decode", BATCH_DECODE, "--context", BATCH_PROMPT, "--batch", BATCH, "--repeats", 1]
    take(record, name, json.loads(runner.output(base + together, SECONDS)), {"decode": "batch"})


def take(record, name, result, kinds):
    record["ceilings"].append(result["ceilings"])
    record["machine"]["pelton"] = result["backend"]
    record["weights"][name] = result["model"]
    for figure in result["figures"]:
        kind = kinds[figure["name"].split()[0]]
        add(record, name, kind, "pelton", figure["repeats_tokens_per_second"])
        # What the ceilings of this run allow, in tokens a second.
        limits = record["limits"].setdefault(name, {}).setdefault(kind, {"read": [], "peak": []})
        rate = figure["tokens_per_second"]
        limits["peak"].append(rate / figure["of_peak"])
        if "of_read" in figure:
            limits["read"].append(rate / figure["of_read"])
