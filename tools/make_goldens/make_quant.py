#!/usr/bin/env python3
"""Writes tests/goldens/quant: blocks of each GGUF weight format and their float32 values by the gguf package."""
import ctypes
import sys

import gguf
import numpy as np
from gguf.quants import dequantize

import llama_ref
from make_text import ROOT, dump

OUT = ROOT / "tests" / "goldens" / "quant"
COLUMNS = 512
# type -> byte offsets of the fp16 scales (d, then m or dmin) in a block
SCALES = {"F16": None, "BF16": None, "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def random_rows(rng, qtype, name, rows):
    """Random bytes; scales are random, too, but finite: of either sign, a few zero or subnormal."""
    block, size = gguf.GGML_QUANT_SIZES[qtype]
    if SCALES[name] is None:
        half = rng.integers(0, 1 << 16, (rows, COLUMNS)).astype(np.uint16)
        exponent = 0x7C00 if name == "F16" else 0x7F80
        half[(half & exponent) == exponent] &= 0x8FFF  # no infinities, no NaN
        return half.view(np.uint8)
    count = COLUMNS // block
    data = rng.integers(0, 256, (rows, count, size)).astype(np.uint8)
    for offset in SCALES[name]:
        scale = (rng.normal(size=(rows, count)) * 0.02).astype(np.float16)
        scale[0, 0] = 0.0
        scale[0, 1] = np.float16(6e-8 * 37)  # subnormal
        data[:, :, offset : offset + 2] = scale.view(np.uint8).reshape(rows, count, 2)
    return data.reshape(rows, -1)


def real_rows(rng, lib, qtype, rows):
    """Normal values with outliers, a constant row and a row of zeros, quantised by ggml itself."""
    values = rng.normal(size=(rows, COLUMNS)).astype(np.float32) * 0.05
    values[0, ::37] *= 12
    values[rows - 2, :] = 0.125
    values[rows - 1, :] = 0.0
    _, size = gguf.GGML_QUANT_SIZES[qtype]
    block, _ = gguf.GGML_QUANT_SIZES[qtype]
    out = np.zeros((rows, COLUMNS // block * size), np.uint8)
    written = lib.ggml_quantize_chunk(int(qtype), values.ctypes.data, out.ctypes.data, 0, rows, COLUMNS, None)
    assert written == out.size
    return out


def main():
    llama_ref.link_names()
    lib = ctypes.CDLL(str(llama_ref.BIN / "libggml-base.so"))
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    OUT.mkdir(parents=True, exist_ok=True)
    index = []
    for name in SCALES:
        qtype = gguf.GGMLQuantizationType[name]
        rng = np.random.default_rng(int(qtype) + 1000)
        block, size = gguf.GGML_QUANT_SIZES[qtype]
        data = np.concatenate([random_rows(rng, qtype, name, 4), real_rows(rng, lib, qtype, 4)])
        values = dequantize(data, qtype).astype(np.float32)
        assert values.shape == (8, COLUMNS) and np.isfinite(values).all()
        data.tofile(OUT / f"{name.lower()}.blocks.bin")
        values.tofile(OUT / f"{name.lower()}.f32.bin")
        index.append({"type": name, "ggml_type": int(qtype), "block_values": block, "block_bytes": size, "rows": 8, "columns": COLUMNS, "random_rows": 4,
                      "blocks": f"{name.lower()}.blocks.bin", "values": f"{name.lower()}.f32.bin"})
        print(name, data.shape, "largest", np.abs(values).max(), "ggml", compare(lib, qtype, data, values))
    dump(OUT / "index.json", index)


def compare(lib, qtype, data, values):
    """How many values ggml's own dequantisation gives bit for bit alike."""
    if qtype.name in ("F16", "BF16"):
        return "-"
    function = getattr(lib, "dequantize_row_" + qtype.name.lower().replace("_k", "_K"))
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    out = np.zeros_like(values)
    function(data.ctypes.data, out.ctypes.data, out.size)
    return f"{(out == values).sum()} of {out.size} equal, largest difference {np.abs(out - values).max():g}"


if __name__ == "__main__":
    sys.exit(main())
