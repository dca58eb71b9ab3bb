#!/usr/bin/env python3
"""Writes tests/goldens/models: tiny random models as safetensors and GGUF, with float32 logits by transformers."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from llama_ref import Llama
from make_text import ROOT

OUT = ROOT / "tests" / "goldens" / "models"
HERE = pathlib.Path(__file__).resolve().parent
POSITIONS, GREEDY = 48, 24

BASE = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "hidden_act": "silu", "attention_bias": False, "bos_token_id": 1, "eos_token_id": 2,
        "rope_theta": 10000.0, "initializer_range": 0.02, "use_cache": True}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **BASE, "mlp_bias": False, "tie_word_embeddings": False, "rope_scaling": None}
GEMMA3 = {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": 256, "hidden_size": 64, "intermediate_size": 40, "num_hidden_layers": 7, "num_attention_heads": 2,
          "num_key_value_heads": 1, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "query_pre_attn_scalar": 16, "sliding_window": 8,
          "sliding_window_pattern": 6, "rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": None, "attention_bias": False, "attn_logit_softcapping": None,
          "final_logit_softcapping": None, "cache_implementation": "hybrid", "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "attention_dropout": 0.0, "use_cache": True}

# name -> config as published models word it; "weights": the folder whose safetensors it shares;
# "store": (safetensors dtype, GGUF type), "gguf": False where GGUF cannot say it.
MODELS = {
    "llama": {"config": LLAMA, "store": ("bf16", "f16")},
    "llama_linear": {"config": {**LLAMA, "rope_scaling": {"type": "linear", "factor": 4.0}}, "weights": "llama", "store": ("bf16", "bf16")},
    "llama_llama3": {"config": {**LLAMA, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
                     "weights": "llama", "store": ("bf16", "f16")},
    "llama_yarn": {"config": {**LLAMA, "max_position_embeddings": 128, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}}, "weights": "llama", "store": ("bf16", "f16")},
    "mistral": {"config": {**{k: v for k, v in LLAMA.items() if k not in ("mlp_bias", "attention_bias", "rope_scaling")}, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 8},
                "weights": "llama", "store": ("bf16", "f16"), "gguf": False},
    "llama_tied": {"config": {**LLAMA, "hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 3, "num_key_value_heads": 1, "tie_word_embeddings": True, "rope_theta": 100000,
                              "rope_interleaved": False, "pad_token_id": 2}, "store": ("f16", "bf16")},
    "qwen2": {"config": {**{k: v for k, v in BASE.items() if k != "attention_bias"}, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
                         "tie_word_embeddings": False, "use_sliding_window": False, "sliding_window": 32, "max_window_layers": 1, "attention_dropout": 0.0}, "store": ("bf16", "bf16"), "shards": 2},
    "qwen3": {"config": {**BASE, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "tie_word_embeddings": True,
                         "use_sliding_window": False, "sliding_window": None, "max_window_layers": 2, "rope_scaling": None}, "store": ("bf16", "f16")},
    "gemma3": {"config": GEMMA3, "store": ("bf16", "bf16")},
    # What GGUF cannot say: an attention scale that is not head_dim's, another local rope base, layer kinds listed one by one.
    "gemma3_scalar": {"config": {**{k: v for k, v in GEMMA3.items() if k != "sliding_window_pattern"}, "query_pre_attn_scalar": 24, "rope_local_base_freq": 2500.0,
                                 "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                                 "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention"]},
                      "weights": "gemma3", "store": ("bf16", "bf16"), "gguf": False},
    "gpt2": {"config": {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 256, "n_positions": 96, "n_ctx": 96, "n_embd": 48, "n_layer": 2, "n_head": 3, "activation_function": "gelu_new",
                        "layer_norm_epsilon": 1e-5, "bos_token_id": 0, "eos_token_id": 0, "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "initializer_range": 0.02}, "store": ("f16", "f16")},
}
SEEDS = {"llama": 1005, "llama_tied": 1010, "qwen2": 1005, "qwen3": 1005, "gemma3": 1008, "gpt2": 1004}
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}


def random_weights(model, family, seed):
    """Random values for every parameter, each exact in bfloat16 and in float16."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, parameter in sorted(model.named_parameters()):
        shape = tuple(parameter.shape)
        draw = torch.randn(shape, generator=generator)
        is_norm = "norm" in name or ".ln_" in name
        if name.endswith("bias"):
            value = draw * 0.2
        elif is_norm:
            value = draw * 0.25 if family == "gemma3" else torch.rand(shape, generator=generator) + 0.5
        elif "embed" in name or "wte" in name:
            value = draw * (0.06 if family == "gemma3" else 0.25 if model.config.tie_word_embeddings else 1.0)
        elif "wpe" in name:
            value = draw * 0.15
        else:
            fan_in = shape[0] if family == "gpt2" and "lm_head" not in name else shape[1]
            sharp = "q_proj" in name or "k_proj" in name
            value = draw * ((1.6 if sharp else 1.0) / fan_in**0.5)
        value = (torch.round(value * 1024) / 1024).to(torch.bfloat16)
        assert torch.equal(value.float(), value.to(torch.float16).float())
        out[name] = value
    return out


def save_weights(folder, weights, dtype, shards):
    tensors = {k: v.to(DTYPES[dtype]).contiguous() for k, v in weights.items()}
    if shards == 1:
        save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
        return
    names, index, total = sorted(tensors), {}, 0
    for i in range(shards):
        part = {n: tensors[n] for n in names[i * len(names) // shards : (i + 1) * len(names) // shards]}
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        save_file(part, str(folder / file), metadata={"format": "pt"})
        index.update({n: file for n in part})
        total += sum(t.numel() * t.element_size() for t in part.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1) + "\n")


def convert(folder, out_type, target):
    with tempfile.TemporaryDirectory() as scratch:
        for file in folder.iterdir():
            os.symlink(file.resolve(), pathlib.Path(scratch) / file.name)
        if folder.name == "gpt2":  # the converter trips over the mask that published files carry
            whole = load_file(str(folder / "model.safetensors"))
            pathlib.Path(scratch, "model.safetensors").unlink()
            save_file({k: v for k, v in whole.items() if not k.endswith(".attn.bias")}, scratch + "/model.safetensors", metadata={"format": "pt"})
        vocab = json.loads((folder / "config.json").read_text())["vocab_size"]  # gemma3's conversion counts this file's entries
        pathlib.Path(scratch, "tokenizer.json").write_text(json.dumps({"model": {"vocab": {str(i): i for i in range(vocab)}}, "added_tokens": []}))
        subprocess.run([sys.executable, str(HERE / "convert_without_vocab.py"), scratch, "--outtype", out_type, "--outfile", str(target), "--model-name", folder.name],
                       check=True, capture_output=True, text=True)


def make(name, spec):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = {**spec["config"], "torch_dtype": {"bf16": "bfloat16", "f16": "float16"}[spec["store"][0]], "transformers_version": "4.50.0"}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if "weights" in spec:
        os.symlink(f"../{spec['weights']}/model.safetensors", folder / "model.safetensors")
    else:
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(folder)))
        weights = random_weights(model, name, SEEDS[name])
        if name == "gpt2":  # as the published file has it: no prefix, and the causal mask stored as if it were a weight
            weights = {k.removeprefix("transformer."): v for k, v in weights.items()}
            weights.update({f"h.{i}.attn.bias": torch.ones(96, 96).tril().view(1, 1, 96, 96) for i in range(2)})
        save_weights(folder, weights, spec["store"][0], spec.get("shards", 1))
    for file in folder.glob("*.safetensors"):
        file.resolve().chmod(0o644)
    model, info = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and all(k.endswith(".attn.bias") for k in info["unexpected_keys"]) and not info["mismatched_keys"], info
    model.eval()
    with tempfile.TemporaryDirectory() as scratch:  # the same config as transformers 5 writes it
        model.config.save_pretrained(scratch)
        newer = {**json.loads(pathlib.Path(scratch, "config.json").read_text()), "dtype": config["torch_dtype"]}
        (folder / "config_v5.json").write_text(json.dumps(newer, indent=1) + "\n")
    rng = np.random.default_rng(5)
    ids = rng.integers(3, model.config.vocab_size, POSITIONS).tolist()
    ids[20:24] = ids[4:8]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
        sequence, gaps = list(ids), []
        for _ in range(GREEDY):
            last = model(torch.tensor([sequence])).logits[0, -1].numpy()
            top = np.sort(last)[-2:]
            gaps.append(round(float(top[1] - top[0]), 5))
            sequence.append(int(last.argmax()))
    logits.astype(np.float32).tofile(folder / "logits.bin")
    record = {"ids": ids, "vocab_size": model.config.vocab_size, "greedy": sequence[POSITIONS:], "greedy_gap": gaps, "has_gguf": spec.get("gguf", True)}
    if record["has_gguf"]:
        convert(folder, spec["store"][1], folder / "model.gguf")
        record["llama_cpp"] = check(folder, ids, logits, spec["store"][1])
    (folder / "golden.json").write_text(json.dumps(record) + "\n")
    size = sum(f.stat().st_size for f in folder.iterdir() if not f.is_symlink())
    print(f"{name}: {size} bytes, logits std {logits.std():.2f} largest {np.abs(logits).max():.2f}, smallest greedy gap {min(gaps)}, {record.get('llama_cpp')}", flush=True)


def check(folder, ids, logits, stored):
    """llama.cpp on the committed file, and on the same weights as F32 (where it does not round activations)."""
    out = {}
    with tempfile.TemporaryDirectory() as scratch:
        plain = pathlib.Path(scratch) / "f32.gguf"
        convert(folder, "f32", plain)
        for label, path in (("f32", plain), (stored, folder / "model.gguf")):
            llama = Llama(path)
            got = llama.logits(ids)
            llama.close()
            out[f"{label}_max_relative"] = float(f"{np.abs(got - logits).max() / np.abs(logits).max():.2g}")
            out[f"{label}_argmax_equal"] = int((got.argmax(-1) == logits.argmax(-1)).sum())
    return out


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.cuda.is_current_stream_capturing = lambda: False  # the stand-in CUDA libraries know no stream
    for name, spec in MODELS.items():
        if len(sys.argv) < 2 or name in sys.argv[1:]:
            make(name, spec)


if __name__ == "__main__":
    sys.exit(main())
