#!/usr/bin/env python3
"""Writes tests/goldens/smollm2: what the demo model's GGUF gives in llama.cpp and, dequantised, in transformers."""
import json
import math
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from transformers import AutoModelForCausalLM

import llama_ref
from make_text import ROOT, dump
from prompts import CHAT, FIXED_TEXT, RAW, chatml

OUT = ROOT / "tests" / "goldens" / "smollm2"
GREEDY_TOKENS = 64


def log_softmax(logits):
    wide = logits.astype(np.float64)
    top = wide.max(-1, keepdims=True)
    return wide - top - np.log(np.exp(wide - top).sum(-1, keepdims=True))


def next_logprobs(logits, ids):
    return log_softmax(logits[:-1])[np.arange(len(ids) - 1), ids[1:]]


def perplexity(logprobs):
    return math.exp(-float(np.mean(logprobs)))


def check_dequantisation(model, path):
    """transformers' own reading of the file against the gguf package's, tensor by tensor."""
    tensors = {t.name: dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}
    state = model.state_dict()
    assert np.array_equal(tensors["token_embd.weight"], state["model.embed_tokens.weight"].numpy())
    for i in range(model.config.num_hidden_layers):
        for ours, theirs in (("attn_v", "self_attn.v_proj"), ("attn_output", "self_attn.o_proj"), ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj"), ("attn_norm", "input_layernorm")):
            assert np.array_equal(tensors[f"blk.{i}.{ours}.weight"], state[f"model.layers.{i}.{theirs}.weight"].numpy()), (i, ours)
        for ours, theirs, heads in (("attn_q", "q_proj", 9), ("attn_k", "k_proj", 3)):  # rows of a head: pairs next to each other -> halves
            data = tensors[f"blk.{i}.{ours}.weight"]
            halves = data.reshape(heads, 32, 2, -1).swapaxes(1, 2).reshape(data.shape)
            assert np.array_equal(halves, state[f"model.layers.{i}.self_attn.{theirs}.weight"].numpy()), (i, ours)


class Server:
    """llama-server on a free port; ended by its own handle."""

    def __enter__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        env = {**os.environ, "LD_LIBRARY_PATH": str(llama_ref.BIN)}
        self.process = subprocess.Popen([str(llama_ref.BIN / "llama-server"), "-m", os.environ["SMOLLM2_GGUF"], "--host", "127.0.0.1", "--port", str(self.port), "-t", "2", "-c", "2048", "-np", "1"],
                                        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2)
                return self
            except OSError:
                time.sleep(0.2)
        raise RuntimeError("llama-server does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def complete(self, ids):
        body = {"prompt": ids, "n_predict": GREEDY_TOKENS, "temperature": 0, "n_probs": 2, "cache_prompt": False, "return_tokens": True, "seed": 1}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=600))


def greedy_record(llama, server, kind, text, model):
    prompt = llama.tokenize(text, parse_special=True)
    answer = server.complete(prompt)
    steps = []
    for p in answer["completion_probabilities"]:
        top = p["top_logprobs"]
        steps.append({"id": p["id"], "top": [[t["id"], round(t["logprob"], 5)] for t in top[:2]]})
    tokens = answer["tokens"]
    assert [s["id"] for s in steps] == tokens[: len(steps)], (len(steps), len(tokens))
    record = {"kind": kind, "text": text, "prompt": prompt, "tokens": tokens, "stop": answer["stop_type"], "top": [s["top"] for s in steps]}
    with torch.no_grad():
        logits = model(torch.tensor([prompt + tokens])).logits[0].numpy()[len(prompt) - 1 : -1]
    differ = np.nonzero(logits.argmax(-1) != np.array(tokens))[0]
    gaps = [t[0][1] - t[1][1] for t in record["top"]]
    record["transformers_differs"] = differ.tolist()
    return record, [gaps[i] for i in differ if i < len(gaps)]


def fixed_text(llama, model):
    ids = llama.tokenize(FIXED_TEXT)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
    positions = [0, len(ids) // 2, len(ids) - 1]
    logits[positions].astype(np.float32).tofile(OUT / "logits.bin")
    ours = next_logprobs(logits, ids)
    theirs = next_logprobs(llama.logits(ids, f32_kv=False), ids)
    plain = llama_ref.Llama(os.environ["SMOLLM2_F32_GGUF"])  # the same weights as F32: llama.cpp without 8-bit activations
    plain_f32 = next_logprobs(plain.logits(ids), ids)
    plain.close()
    top = np.argsort(logits, -1)[:, -2:]
    dump(OUT / "text.json", {"text": FIXED_TEXT, "ids": ids, "vocab_size": llama.n_vocab, "logit_positions": positions,
                             "argmax": logits.argmax(-1).tolist(), "argmax_gap": [round(float(l[t[1]] - l[t[0]]), 4) for l, t in zip(logits, top)],
                             "logprobs": [round(float(v), 6) for v in ours], "llama_cpp_logprobs": [round(float(v), 6) for v in theirs],
                             "perplexity_transformers": perplexity(ours), "perplexity_llama_cpp": perplexity(theirs), "perplexity_llama_cpp_f32": perplexity(plain_f32)})
    print(len(ids), "ids; perplexity", perplexity(ours), perplexity(theirs), perplexity(plain_f32), "largest logprob difference", np.abs(ours - theirs).max())


def greedy(llama, model):
    records, count, gaps = [], 0, []
    with Server() as server:
        for kind, text in [("chat", chatml(q)) for q in CHAT] + [("raw", t) for t in RAW]:
            record, parted = greedy_record(llama, server, kind, text, model)
            records.append(record)
            count += len(record["tokens"])
            gaps += parted
    dump(OUT / "greedy.json", records)
    print(count, "greedy tokens;", len(gaps), "differ in transformers;", sum(g > 0.6 for g in gaps), "of them over a gap of 0.6; largest", max(gaps, default=0))
    print({r["stop"] for r in records}, [len(r["tokens"]) for r in records], [len(r["top"]) for r in records])


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    torch.cuda.is_current_stream_capturing = lambda: False
    path = pathlib.Path(os.environ["SMOLLM2_GGUF"])
    llama = llama_ref.Llama(path)
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
    check_dequantisation(model, path)
    if "greedy" not in sys.argv[1:]:
        fixed_text(llama, model)
    if "text" not in sys.argv[1:]:
        greedy(llama, model)


if __name__ == "__main__":
    sys.exit(main())
