#!/usr/bin/env python3
"""llama.cpp's own converter, for folders without a tokenizer: the GGUF says tokenizer "none". Same arguments."""
import os
import pathlib
import sys

SOURCE = pathlib.Path(os.environ["LLAMA_CPP_SOURCE"])
sys.path[:0] = [str(SOURCE), str(SOURCE / "gguf-py")]

import convert_hf_to_gguf as converter  # noqa: E402
from conversion.base import TextModel  # noqa: E402

original = converter.get_model_class


def without_vocab(*args, **kwargs):
    cls = original(*args, **kwargs)
    cls.set_vocab = set_none
    return cls


def set_none(self):
    TextModel._set_vocab_none(self)
    self.gguf_writer.add_vocab_size(self.hparams["vocab_size"])


converter.get_model_class = without_vocab
converter.main()
