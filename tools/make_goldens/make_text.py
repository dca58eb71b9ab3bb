#!/usr/bin/env python3
"""Writes tests/goldens/text: hard strings, tiny tokenizers (Hugging Face and GGUF) and their reference ids."""
import io
import json
import os
import pathlib
import sys

import gguf
import numpy as np
import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as sp_pb
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from hard_strings import all_strings, corpus
from llama_ref import Llama

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "goldens" / "text"

# The pre-tokenisers' published patterns (facts of the formats).
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def dump(path, value):
    """One list item a line: small diffs, ASCII only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compact = dict(ensure_ascii=True, separators=(",", ":"))
    if isinstance(value, list):
        body = "[\n" + ",\n".join(json.dumps(v, **compact) for v in value) + "\n]\n"
    else:
        parts = []
        for k, v in value.items():
            if isinstance(v, list) and v:
                parts.append(json.dumps(k) + ":[\n" + ",\n".join(json.dumps(i, **compact) for i in v) + "\n]")
            else:
                parts.append(json.dumps(k) + ":" + json.dumps(v, **compact))
        body = "{\n" + ",\n".join(parts) + "\n}\n"
    path.write_text(body, encoding="ascii")


def byte_level(name):
    """A byte-level BPE in the manner of GPT-2, Llama 3 or Qwen2."""
    tok = Tokenizer(models.BPE(ignore_merges=name == "bpe_llama3"))
    if name == "bpe_gpt2":
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        specials, plain = ["<|endoftext|>"], []
    else:
        pattern = LLAMA3 if name == "bpe_llama3" else QWEN2
        tok.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        if name == "bpe_llama3":
            specials, plain = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], []
        else:
            tok.normalizer = normalizers.NFC()
            specials, plain = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ["<tool_call>", "</tool_call>"]
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=[], show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tok.train_from_iterator(corpus(), trainer)
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    tok.add_tokens([AddedToken(s, special=False, normalized=False) for s in plain])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, "add_prefix_space": False, "model_max_length": 4096,
              "bos_token": specials[0] if name != "bpe_qwen2" else None, "eos_token": specials[1 if name == "bpe_llama3" else -1]}
    if name == "bpe_llama3":
        bos = specials[0]
        tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tok.token_to_id(bos))])])
    return tok, config


def sentencepiece_bpe(name):
    """A SentencePiece BPE with byte fallback, as in Llama 2 (`sp_llama`) or Gemma (`sp_gemma`: no space put in front)."""
    prefix = name == "sp_llama"
    buffer = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in corpus() for line in text.splitlines() if line.strip()]), model_writer=buffer, model_type="bpe", vocab_size=1300,
        byte_fallback=True, character_coverage=0.985, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=prefix,
        split_digits=True, allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2,
        **({} if prefix else {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "pad_piece": "<pad>", "eos_piece": "<eos>", "bos_piece": "<bos>",
                              "user_defined_symbols": ["<start_of_turn>", "<end_of_turn>"]}))
    proto = sp_pb.ModelProto()
    proto.ParseFromString(buffer.getvalue())
    vocab = {p.piece: i for i, p in enumerate(proto.pieces)}
    scores = {p.piece: p.score for p in proto.pieces if p.type == 1}
    pairs = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                pairs.append((-score, vocab[left], vocab[right], left, right))
    merges = [(p[3], p[4]) for p in sorted(pairs)]
    unk = "<unk>"
    tok = Tokenizer(models.BPE(vocab, merges, unk_token=unk, fuse_unk=True, byte_fallback=True))
    steps = ([normalizers.Prepend("\u2581")] if prefix else []) + [normalizers.Replace(" ", "\u2581")]
    tok.normalizer = normalizers.Sequence(steps)
    tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()] + ([decoders.Strip(" ", 1, 0)] if prefix else []))
    bos, eos = ("<s>", "</s>") if prefix else ("<bos>", "<eos>")
    names = [unk, bos, eos] if prefix else ["<pad>", eos, bos, unk, "<start_of_turn>", "<end_of_turn>"]
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in names])
    tok.post_processor = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, vocab[bos])])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, "bos_token": bos, "eos_token": eos, "unk_token": unk,
              "add_bos_token": True, "add_eos_token": False, "model_max_length": 4096}
    return tok, config, proto


def write_gguf(path, tok, config, kind, pre, proto=None):
    """A GGUF with the tokenizer alone (no tensors), with the fields that llama.cpp's converter writes."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(path.stem)
    writer.add_block_count(1)
    writer.add_context_length(4096)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(1)
    writer.add_vocab_size(tok.get_vocab_size())
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    added = tok.get_added_tokens_decoder()
    tokens = [tok.id_to_token(i) for i in range(tok.get_vocab_size())]
    types = []
    for i, _ in enumerate(tokens):
        if proto is not None and i < len(proto.pieces) and proto.pieces[i].type != 1:
            types.append({2: gguf.TokenType.UNKNOWN, 3: gguf.TokenType.CONTROL, 4: gguf.TokenType.CONTROL, 6: gguf.TokenType.BYTE}[proto.pieces[i].type])
        elif i in added:
            types.append(gguf.TokenType.CONTROL if added[i].special else gguf.TokenType.USER_DEFINED)
        else:
            types.append(gguf.TokenType.NORMAL)
    writer.add_token_list(tokens)
    if proto is not None:
        writer.add_token_scores([p.score for p in proto.pieces])
    writer.add_token_types(types)
    if proto is None:
        merges = json.loads(tok.to_str())["model"]["merges"]
        writer.add_token_merges([" ".join(m) for m in merges])
    for key, add in (("bos_token", writer.add_bos_token_id), ("eos_token", writer.add_eos_token_id), ("unk_token", writer.add_unk_token_id)):
        if config.get(key):
            add(tok.token_to_id(config[key]))
    writer.add_add_bos_token(proto is not None or pre == "llama-bpe")
    writer.add_add_eos_token(False)
    if proto is not None:
        writer.add_add_space_prefix(proto.normalizer_spec.add_dummy_prefix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def decode_cases(tok, ids_of_strings):
    """Ids to decode: what the strings gave, and ids drawn at random (broken UTF-8, specials anywhere)."""
    rng = np.random.default_rng(7)
    cases = [ids for ids in ids_of_strings[::9]]
    for _ in range(60):
        cases.append(rng.integers(0, tok.get_vocab_size(), rng.integers(1, 14)).tolist())
    return cases


def tokenizer_goldens(name, strings):
    proto = None
    if name.startswith("bpe"):
        tok, config = byte_level(name)
        kind, pre = "gpt2", {"bpe_gpt2": "gpt-2", "bpe_llama3": "llama-bpe", "bpe_qwen2": "qwen2"}[name]
    else:
        tok, config, proto = sentencepiece_bpe(name)
        kind, pre = "llama", "default"
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    text = json.dumps(json.loads((folder / "tokenizer.json").read_text()), ensure_ascii=True, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text + "\n", encoding="ascii")
    dump(folder / "tokenizer_config.json", config)
    write_gguf(folder / "tokenizer.gguf", tok, config, kind, pre, proto)
    hf = PreTrainedTokenizerFast.from_pretrained(str(folder))
    llama = Llama(folder / "tokenizer.gguf", vocab_only=True)
    rows, differs = [], []
    for i, s in enumerate(strings):
        plain, special = hf(s, add_special_tokens=False)["input_ids"], hf(s)["input_ids"]
        tok.encode_special_tokens = True
        literal = tok.encode(s, add_special_tokens=False).ids
        tok.encode_special_tokens = False
        rows.append({"ids": plain, "with_special": special, "literal": literal})
        if llama.tokenize(s, parse_special=True) != plain:
            differs.append(i)
    decode = []
    for ids in decode_cases(tok, [r["with_special"] for r in rows]):
        decode.append({"ids": ids, "text": hf.decode(ids, skip_special_tokens=False), "text_skip_special": hf.decode(ids, skip_special_tokens=True)})
    dump(folder / "ids.json", {"reference": "transformers", "vocab_size": tok.get_vocab_size(), "llama_cpp_differs": differs, "strings": rows, "decode": decode})
    if proto is not None:
        processor = spm.SentencePieceProcessor(model_proto=proto.SerializeToString())
        bad = [i for i, s in enumerate(strings) if processor.encode(s) != rows[i]["ids"]]
        print(f"  sentencepiece itself differs on {bad}")
    print(name, "vocab", tok.get_vocab_size(), "llama.cpp differs on", [(i, strings[i][:30]) for i in differs])


def smollm2_goldens(strings):
    llama = Llama(os.environ["SMOLLM2_GGUF"], vocab_only=True)
    rows = [{"ids": llama.tokenize(s, parse_special=False), "ids_parse_special": llama.tokenize(s, parse_special=True)} for s in strings]
    rng = np.random.default_rng(11)
    cases = [r["ids_parse_special"] for r in rows[::9]] + [rng.integers(0, llama.n_vocab, rng.integers(1, 14)).tolist() for _ in range(60)]
    decode = []
    for ids in cases:
        decode.append({"ids": ids, "bytes": llama.detokenize(ids).hex(), "bytes_skip_special": llama.detokenize(ids, unparse_special=False).hex()})
    dump(OUT / "smollm2_ids.json", {"reference": "llama.cpp b11434", "vocab_size": llama.n_vocab, "strings": rows, "decode": decode})


def main():
    strings = all_strings()
    print(len(strings), "strings")
    dump(OUT / "hard_strings.json", strings)
    smollm2_goldens(strings)
    for name in ("bpe_gpt2", "bpe_llama3", "bpe_qwen2", "sp_llama", "sp_gemma"):
        tokenizer_goldens(name, strings)


if __name__ == "__main__":
    sys.exit(main())
