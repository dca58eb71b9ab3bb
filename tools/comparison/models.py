"""The models that both engines read: the demo model, and random weights in well-known shapes."""

import dataclasses
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@dataclasses.dataclass(frozen=True)
class Model:
    title: str
    shape: str = ""  # of bench/shapes; "": the demo model's file
    matrices: str = ""
    head: str = ""  # of embedding and head, as the peer's own quantiser would choose
    decode: int = 64  # tokens
    batched: bool = True  # 32 sequences at once are measured too
    repeats: int = 3  # of prefill and decode in one round


def _small(matrices, head):
    return Model(f"135M shape, {matrices}", "smollm2-135m", matrices, head)


def _large(matrices, head):
    return Model(f"1B shape, {matrices}", "llama-3.2-1b", matrices, head, decode=32, batched=False, repeats=1)


ALL = {
    "demo": Model("SmolLM2-135M Q4_1 (demo)"),
    "135m-bf16": _small("bf16", "bf16"),
    "135m-q8_0": _small("q8_0", "q8_0"),
    "135m-q4_0": _small("q4_0", "q8_0"),
    "1b-bf16": _large("bf16", "bf16"),
    "1b-q8_0": _large("q8_0", "q8_0"),
    "1b-q4_0": _large("q4_0", "q6_k"),
}


def default_cache():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "pelton" / "compare"


def file_of(name, options, say):
    """The GGUF file, fetched or made on first use."""
    model = ALL[name]
    if not model.shape:
        done = subprocess.run([ROOT / "tools/fetch_model"], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit("compare_llama_cpp: the demo model cannot be had: " + done.stderr.strip()[-300:])
        return pathlib.Path(done.stdout.strip().splitlines()[-1])
    path = options.cache / f"{model.shape}-random-{model.matrices}.gguf"
    if not path.exists():
        say(f"writing {path.name}")
        command = [options.bin / "pelton-bench", ROOT / "bench/shapes" / model.shape, "--write-gguf", path]
        subprocess.run(command + ["--quantization", model.matrices, "--head", model.head], check=True)
    return path
