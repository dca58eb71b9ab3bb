//! The C ABI of Pelton's text room over `tokenizers` and `minijinja`; declared in abi.h, which
//! states each function's contract. No panic crosses it: each call returns a status and a text.

mod abi;
mod bounded;
mod decoding;
mod error;
mod gguf;
mod marks;
mod model;
mod pre_tokenizers;
mod python;
mod template;
mod template_inputs;
mod tokenizer;
mod tokenizer_json;

#[global_allocator]
static ALLOCATOR: bounded::CountingAllocator = bounded::CountingAllocator;
