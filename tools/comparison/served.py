"""Both engines as servers, one at a time, under the same client on the same cores."""

import json
import re
import tempfile
import urllib.error
import urllib.request

from comparison.processes import Failure, free_port, wait_for

TOKENS_OUT = 64
MIN_WORDS, MAX_WORDS = 20, 120
PEER_CONTEXT = 512  # of each slot: the longest prompt and its answer


def measure_round(record, model, options, tool, runner, peer_first, say):
    engines = [("llama.cpp HTTP", run_peer), ("pelton", run_pelton)]
    for engine, run in engines if peer_first else reversed(engines):
        say(f"server: {engine}")
        try:
            run(record, model, options, tool, runner)
        except (Failure, OSError, ValueError, KeyError) as error:
            say(f"server: {engine}: {error}")
            record["failures"].append(f"server, {engine}: {error}")


def healthy(address):
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def run_peer(record, model, options, tool, runner):
    slots = max(options.streams)
    port = free_port()
    command = [tool.program("llama-server"), "-m", model, "-t", options.threads, "-np", slots]
    command += ["-c", slots * PEER_CONTEXT, "--host", "127.0.0.1", "--port", port]
    process, log = runner.server(command, "llama-server.log")
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: healthy(address), process, f"llama-server (log: {log})")
        features = re.search(r"system_info:.*", log.read_text(errors="replace"))
        record["machine"]["llama.cpp"] = features.group(0) if features else ""
        load(record, "llama.cpp HTTP", ["--url", address], options, runner)
    finally:
        runner.stop(process)


def run_pelton(record, model, options, tool, runner):
    command = [options.bin / "pelton-server", model, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    command += ["--threads", options.threads] + options.pelton_flag
    process, log = runner.server(command, "pelton-server.log")
    try:
        ready = wait_for(
            lambda: re.search(r"^ready .*$", log.read_text(errors="replace"), re.M), process, f"pelton-server (log: {log})"
        ).group(0)
        http, grpc = (re.search(rf"{kind}=(\S+)", ready).group(1) for kind in ("http", "grpc"))
        load(record, "pelton HTTP", ["--url", "http://" + http], options, runner)
        load(record, "pelton gRPC", ["--server", grpc], options, runner)
    finally:
        runner.stop(process)


def load(record, engine, target, options, runner):
    # No prompt is sent twice to one server, so that no prefix cache holds it.
    seed = record["served_seeds"].setdefault(engine, 1_000_001 if engine == "pelton gRPC" else 1)
    for streams in options.streams:
        requests = max(4, streams) if options.quick else max(8, 3 * streams)
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            command = [options.bin / "pelton", "bench", *target, "--no-ceilings", "--json", file.name]
            command += ["--concurrency", streams, "--requests", requests, "--max-tokens", TOKENS_OUT]
            command += ["--min-words", MIN_WORDS, "--max-words", MAX_WORDS, "--seed", seed]
            runner.output(command, 240, nice=True)
            run = json.load(open(file.name))
        seed += 1
        summary = run["runs"][0]
        figures = record["served"].setdefault(engine, {}).setdefault(str(streams), {"tok_s": [], "ttft_ms": [], "itl_ms": []})
        figures["tok_s"].append(summary["output_tokens_per_s"])
        figures["ttft_ms"].append(summary["ttft_ms"]["p50"])
        figures["itl_ms"].append(summary["itl_ms"]["p50"])
    record["served_seeds"][engine] = seed
