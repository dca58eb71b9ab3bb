"""Start, stop, keys, bad starts, the command-line client, curl."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import grpc
import httpx
import pytest
from conftest import BIN, MODEL, GrpcApi, rpc_error_details, sse_events

PELTON = str(BIN / "pelton")


def run(*command, **kwargs):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_running_answers_end_and_exits_zero(new_server, how):
    server = new_server()
    result = {}

    def ask():
        body = {"prompt": "Once", "max_tokens": 200, "ignore_eos": True, "temperature": 0}
        result["answer"] = httpx.post(server.http + "/v1/completions", json=body, timeout=60)

    thread = threading.Thread(target=ask)
    thread.start()
    while server.metric("pelton:num_requests_running") == 0:
        time.sleep(0.01)
    assert server.stop(how) == 0
    thread.join()
    assert result["answer"].status_code == 200
    assert result["answer"].json()["usage"]["completion_tokens"] == 200


@pytest.mark.parametrize("signals", [1, 2])
def test_a_drain_that_is_over_tells_every_client_so(new_server, signals):
    server = new_server("--drain-timeout-s", "0.5" if signals == 1 else "30", "--max-model-len", "8192")
    body = {"prompt": "Once", "max_tokens": 8000, "ignore_eos": True, "temperature": 0}
    seen = {}

    def unary():
        seen["unary"] = httpx.post(server.http + "/v1/completions", json=body, timeout=60)

    def stream():
        with httpx.stream("POST", server.http + "/v1/completions", json={**body, "stream": True}, timeout=60) as answer:
            seen["stream"] = list(sse_events(answer))

    def call():
        request = {"prompt": {"text": "Once"}, "sampling": {"max_tokens": 8000, "ignore_eos": True}}
        try:
            seen["grpc"] = GrpcApi(server.grpc).call("pelton.v1.Inference", "Complete", request)
        except grpc.RpcError as error:
            seen["grpc"] = rpc_error_details(error)

    threads = [threading.Thread(target=target) for target in (unary, stream, call)]
    for thread in threads:
        thread.start()
    while server.metric("pelton:num_requests_running") < 3:
        time.sleep(0.01)
    for _ in range(signals):
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    assert server.process.wait(20) == 0
    for thread in threads:
        thread.join()
    assert seen["unary"].status_code == 503 and seen["unary"].json()["error"]["code"] == "draining"
    assert json.loads(seen["stream"][-2])["error"]["code"] == "draining"
    assert seen["stream"][-1] == "[DONE]"
    assert seen["grpc"][:2] == ("UNAVAILABLE", "DRAINING")


def test_a_signal_while_the_model_loads_ends_the_start(tmp_path):
    shape = pathlib.Path(__file__).parents[2] / "bench/shapes/llama-3.2-1b"
    command = [str(BIN / "pelton-server"), str(shape), "--load-format", "dummy", "--quantization", "q8_0"]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    loading = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    loading.send_signal(signal.SIGINT)
    out, log = loading.communicate(timeout=5)
    assert loading.returncode == 0 and "ready" not in out and "stopped while loading" in log


def test_an_api_key_guards_everything_but_health(new_server):
    server = new_server("--api-key", "s3cret-key")
    key = {"Authorization": "Bearer s3cret-key"}
    for route in ["/health", "/ready"]:
        assert httpx.get(server.http + route).status_code == 200
    for route in ["/v1/models", "/metrics", "/version"]:
        assert httpx.get(server.http + route).status_code == 401
        assert httpx.get(server.http + route, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert httpx.get(server.http + route, headers=key).status_code == 200
    assert run(PELTON, "models", "--server", server.grpc).returncode == 5
    assert run(PELTON, "models", "--server", server.grpc, env={**os.environ, "PELTON_API_KEY": "s3cret-key"}).returncode == 0
    assert run(PELTON, "health", "--server", server.grpc).returncode == 0
    assert server.stop() == 0
    assert "s3cret-key" not in server.log.decode()


def test_no_prompt_text_in_the_log(new_server):
    server = new_server("--log-level", "debug", "--log-format", "json")
    canary = "zqxcanaryzqx"
    httpx.post(server.http + "/v1/completions", json={"prompt": canary, "max_tokens": 4})
    httpx.post(server.http + "/v1/completions", json={"prompt": canary, "max_tokens": -4})
    httpx.post(server.http + "/v1/chat/completions", content="{" + canary)
    assert server.stop() == 0
    log = server.log.decode()
    assert canary not in log
    for line in log.splitlines():
        json.loads(line)


def test_bad_starts_say_what_is_wrong(server, tmp_path):
    binary = str(BIN / "pelton-server")
    busy = server.http.removeprefix("http://")
    answer = run(binary, MODEL, "--http", busy, "--grpc", "127.0.0.1:0")
    assert answer.returncode == 1 and busy.split(":")[1] in answer.stderr
    answer = run(binary, "/nonexistent.gguf")
    assert answer.returncode == 1 and "nonexistent" in answer.stderr
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    answer = run(binary, str(broken))
    assert answer.returncode == 1 and answer.stderr.startswith("pelton-server: ")
    assert run(binary, MODEL, "--max-num-seq", "3").returncode == 2
    assert run(binary).returncode == 2
    assert run(binary, MODEL, "--host", "0.0.0.0").returncode == 2


def test_memory_stays_within_its_bound_while_the_model_loads(new_server):
    server = new_server("--kv-cache-memory-bytes", "64MiB")
    with open(f"/proc/{server.process.pid}/status") as status:
        peak_kib = int(re.search(r"VmHWM:\s+(\d+)", status.read()).group(1))
    # 1.1 x the weights, the KV cache, 60 MB, and 1.5 KB for each of 49,152 tokens.
    bound = 1.1 * os.path.getsize(MODEL) + (64 << 20) + 60e6 + 1500 * 49152
    assert peak_kib * 1024 < bound, f"{peak_kib / 1024:.0f} MiB at most, {bound / 2**20:.0f} allowed"


def test_ready_turns_503_while_draining(new_server):
    server = new_server()
    with httpx.stream("POST", server.http + "/v1/completions", json={"prompt": "a", "max_tokens": 1000, "ignore_eos": True, "stream": True}, timeout=60) as stream:
        lines = stream.iter_lines()  # kept: a dropped iterator closes the stream
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 5
        while httpx.get(server.http + "/ready").status_code != 503:
            assert time.monotonic() < end
            time.sleep(0.02)
        refused = httpx.post(server.http + "/v1/completions", json={"prompt": "b"})
        assert refused.status_code == 503
    assert server.process.wait(40) == 0


def test_the_pelton_command_talks_to_the_server(server):
    asked = run(PELTON, "chat", "--server", server.grpc, "--temperature", "0", "--max-tokens", "16", "--stats", "Say hello.")
    assert asked.returncode == 0 and asked.stdout.strip() and "TTFT" in asked.stderr
    ids = run(PELTON, "tokenize", "--server", server.grpc, "The river").stdout.strip()
    assert run(PELTON, "detokenize", "--server", server.grpc, ids).stdout.strip() == "The river"
    done = run(PELTON, "complete", "--server", server.grpc, "--max-tokens", "4", "--temperature", "0", "--ids", ids)
    text = run(PELTON, "complete", "--server", server.grpc, "--max-tokens", "4", "--temperature", "0", "The river")
    assert done.stdout == text.stdout
    talk = run(PELTON, "chat", "--server", server.grpc, "--max-tokens", "8", input="Hi\n/reset\nHi\n")
    assert talk.returncode == 0
    assert run(PELTON, "complete", "--server", server.grpc, "--temperature", "-3", "x").returncode == 3
    assert run(PELTON, "models", "--server", server.grpc, "--json").returncode == 0
    assert run(PELTON, "health", "--server", "127.0.0.1:1").returncode == 4


def test_bench_measures_both_front_ends(server, tmp_path):
    report = tmp_path / "bench.json"
    small = ["--concurrency", "1,4", "--requests", "4", "--max-tokens", "8", "--max-words", "30", "--no-ceilings"]
    answer = run(PELTON, "bench", "--server", server.grpc, *small, "--json", str(report))
    assert answer.returncode == 0, answer.stderr
    runs = json.loads(report.read_text())["runs"]
    assert [r["completed"] for r in runs] == [4, 4]
    assert all(r["completion_tokens"] == 32 for r in runs)
    answer = run(PELTON, "bench", "--url", server.http, *small, "--json", str(report))
    assert answer.returncode == 0, answer.stderr
    assert all(r["completion_tokens"] == 32 for r in json.loads(report.read_text())["runs"])


def test_curl_line_of_the_readme_works(server):
    body = '{"messages": [{"role": "user", "content": "Name three rivers."}], "max_tokens": 16}'
    answer = run("curl", "-sS", server.http + "/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body)
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"]


def test_metrics_count_what_was_done(new_server):
    server = new_server()
    answer = httpx.post(server.http + "/v1/completions", json={"prompt": "One two three", "max_tokens": 5, "ignore_eos": True}, timeout=30).json()
    assert server.metric("pelton:generation_tokens_total") == 5
    assert server.metric("pelton:prompt_tokens_total") == answer["usage"]["prompt_tokens"]
    assert server.metric("pelton:request_success_total") == 1
    assert server.metric("pelton:time_to_first_token_seconds_count") == 1
    assert server.metric("pelton:inter_token_latency_seconds_count") == 4


def test_dummy_weights_take_and_give_ids(new_server):
    shapes = BIN.parents[2] / "bench" / "shapes"
    server = new_server("--load-format", "dummy", "--quantization", "q8_0", model=str(shapes / "smollm2-135m"))
    answer = httpx.post(server.http + "/v1/completions", json={"prompt": [1, 2, 3], "max_tokens": 4, "return_token_ids": True, "ignore_eos": True}, timeout=60)
    assert answer.status_code == 200 and len(answer.json()["choices"][0]["token_ids"]) == 4
    refused = httpx.post(server.http + "/v1/completions", json={"prompt": "text"}, timeout=60)
    assert refused.status_code == 400


def test_memory_stays_within_the_stated_bound(new_server):
    cache = 64 << 20
    server = new_server("--kv-cache-memory-bytes", str(cache))
    for number in range(4):
        httpx.post(server.http + "/v1/completions", json={"prompt": f"Story {number}", "max_tokens": 64, "ignore_eos": True}, timeout=60)
    status = open(f"/proc/{server.process.pid}/status").read()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024
    bound = 1.1 * os.path.getsize(MODEL) + cache + (60 << 20) + 1536 * 49152
    assert resident <= bound, (resident / 2**20, bound / 2**20)
