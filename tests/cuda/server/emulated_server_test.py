"""pelton-server on the emulated card against the same server on the CPU, over HTTP.

    emulated_server_test.py SERVER MODELS

Answers are the CPU's up to a parting where the two best tokens lie within bf16's tolerance, with
products by cuBLASLt too, whose choices stand in the cache folder and are read again; a card that is lost ends what is in flight within a second and the process with 70; a machine without a card
is told what is missing. Standard library only.
"""

import atexit
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

SERVER, MODELS = sys.argv[1], sys.argv[2]
NEAR_TIE = 0.35  # in log probability: what bf16 activations may shift in these models


class Server:
    def __init__(self, model, *flags, **environment):
        self.process = subprocess.Popen(
            [SERVER, model, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--max-model-len",
             "96", "--max-num-seqs", "4", "--block-size", "16", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PELTON_EMULATED_MEMORY_MIB": "64", **environment})
        atexit.register(self.process.kill)  # whatever fails, nothing stays
        self.address = None
        for line in self.process.stdout:
            if line.startswith("ready "):
                self.address = dict(f.split("=", 1) for f in line.split()[1:])["http"]
                break
        assert self.address, self.process.stderr.read()

    def request(self, body, path="/v1/completions"):
        connection = http.client.HTTPConnection(self.address, timeout=120)
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None,
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()

    def stop(self):
        self.process.terminate()
        return self.process.wait(30)


def complete(server, prompt, seed):
    body = {"prompt": prompt, "max_tokens": 12, "temperature": 0, "logprobs": 0, "seed": seed,
            "return_token_ids": True, "ignore_eos": True}
    status, text = server.request(body)
    assert status == 200, text
    choice = json.loads(text)["choices"][0]
    return choice["token_ids"], choice["logprobs"]["token_logprobs"]


def check_answers(model, *flags, **environment):
    prompts = [[(7 * i + 3 * j) % 60 + 4 for j in range(4 + 9 * i)] for i in range(4)]
    answers = {}
    for device in ("cpu", "cuda"):
        server = Server(model, "--device", device, *flags, **environment)
        status, models = server.request(None, "/v1/models")
        assert status == 200, models
        results = [None] * len(prompts)

        def run(i):
            results[i] = complete(server, prompts[i], i)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(results), f"{device}: an answer failed"
        answers[device] = results
        assert server.stop() == 0
    for i, (on_cpu, on_card) in enumerate(zip(answers["cpu"], answers["cuda"])):
        for at, (a, b) in enumerate(zip(on_cpu[0], on_card[0])):
            # Each is its device's best: where the ids differ, a near tie is a small difference too.
            assert abs(on_cpu[1][at] - on_card[1][at]) < NEAR_TIE, (model, i, at, a, b)
            if a != b:
                break


def check_library(model):
    """Products by (emulated) cuBLASLt, its choices measured once and kept where XDG says."""
    with tempfile.TemporaryDirectory() as cache:
        check_answers(model, "--batch-invariant=false", XDG_CACHE_HOME=cache)
        choices = os.path.join(cache, "pelton", "gemm-sm90-bf16.txt")
        with open(choices) as file:
            lines = file.read().splitlines()
        assert "emulated sm_90" in lines[0], lines[0]
        to_library = [line for line in lines[1:] if line.split()[5] == "1"]
        assert to_library, "no product went to the library"
        written = os.stat(choices).st_mtime_ns
        check_answers(model, "--batch-invariant=false", XDG_CACHE_HOME=cache)
        assert os.stat(choices).st_mtime_ns == written, "measured again"


def check_loss(model):
    with tempfile.TemporaryDirectory() as folder:
        loss = os.path.join(folder, "lost")
        server = Server(model, "--device", "cuda", PELTON_EMULATED_LOSS_FILE=loss)
        outcome = {}

        def run():
            outcome["answer"] = server.request(
                {"prompt": [5, 6, 7], "max_tokens": 90, "temperature": 0, "ignore_eos": True})
            outcome["at"] = time.monotonic()

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.3)
        lost_at = time.monotonic()
        open(loss, "w").close()
        thread.join()
        status, text = outcome["answer"]
        if status == 200:  # it had ended before
            print("note: the answer was complete before the card was lost")
        else:
            assert status == 503, (status, text)
            assert outcome["at"] - lost_at < 1.0, outcome["at"] - lost_at
        if status == 200:
            try:
                server.request({"prompt": [5], "max_tokens": 4})
            except OSError:
                pass
        assert server.process.wait(10) == 70


def check_missing():
    for card, words in (("none", "no card"), ("no_driver", "no CUDA driver")):
        done = subprocess.run([SERVER, MODELS + "/llama", "--device", "cuda"], text=True,
                              capture_output=True, env={**os.environ, "PELTON_EMULATED_CARD": card})
        assert done.returncode != 0 and words in done.stderr, done.stderr
    server = Server(MODELS + "/llama", "--device", "auto", PELTON_EMULATED_CARD="none")
    assert server.stop() == 0  # auto: the CPU


for name in ("llama", "gemma3", "qwen3", "gpt2"):
    check_answers(f"{MODELS}/{name}")
check_library(MODELS + "/llama")
check_loss(MODELS + "/llama")
check_missing()
print("passed")
