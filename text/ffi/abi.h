// The C ABI of the Rust crate in this folder, for text/*.cc alone. Every call that can fail returns
// 0 or a code (absl::StatusCode's values, or kFfiTemplateRaised) and then sets `error`; objects are
// immutable and may be used from any thread; what is handed out is freed once by its own function.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

inline constexpr int32_t kFfiTemplateRaised = 100;

struct PeltonSlice {  // borrowed
  const char* data;
  size_t size;
};
struct PeltonBuffer {  // owned by the receiver; pelton_buffer_free
  char* data;
  size_t size, capacity;
};
struct PeltonIds {  // owned by the receiver; pelton_ids_free
  uint32_t* data;
  size_t size, capacity;
};

struct PeltonGgufFields {
  PeltonSlice model, pre;
  const PeltonSlice* tokens;
  size_t num_tokens;
  const float* scores;
  size_t num_scores;
  const int32_t* types;
  size_t num_types;
  const PeltonSlice* merges;
  size_t num_merges;
  int64_t bos, eos, unk, pad, eot, eom;        // -1: absent
  int32_t add_bos, add_eos, add_space_prefix;  // -1: absent
};

struct PeltonVocabulary {  // views into the tokenizer
  size_t size;             // one more than the highest id
  const char* texts;
  const uint32_t* text_ends;  // [size] where in `texts` each ends; it begins where the last ended
  const char* bytes;
  const uint32_t* byte_ends;  // [size]
  const uint8_t* flags;       // [size] 1: in the vocabulary, 2: special
  const uint32_t* end_ids;
  size_t num_end_ids;
  int64_t bos, eos, unk, pad;  // -1: none
  uint8_t leading_space;       // pelton::LeadingSpace
};

struct PeltonRenderInputs {
  PeltonSlice messages, tools, documents, extra;  // JSON; empty: absent
  uint8_t add_generation_prompt, continue_final_message, parse_tool_arguments;
  uint8_t mark_control_tokens;
  // Formats the time of the request, on a thread of its own and maybe after the call has returned:
  // (now_unix_seconds, now_is_set, format, its size, out, its capacity) -> size.
  size_t (*strftime)(int64_t, uint8_t, const char*, size_t, char*, size_t);
  int64_t now_unix_seconds;
  uint8_t now_is_set;
};

// Of one render.
struct PeltonTemplateLimits {
  uint64_t fuel;
  uint64_t max_milliseconds;
  size_t max_output_bytes;
};

struct PeltonTokenizer;
struct PeltonTemplate;

void pelton_buffer_free(PeltonBuffer buffer);
void pelton_ids_free(PeltonIds ids);

int32_t pelton_tokenizer_from_json(PeltonSlice json, PeltonSlice config, size_t max_vocab,
                                   PeltonTokenizer** out, PeltonBuffer* error);
int32_t pelton_tokenizer_from_gguf(const PeltonGgufFields* fields, size_t max_vocab,
                                   PeltonTokenizer** out, PeltonBuffer* error);
void pelton_tokenizer_free(PeltonTokenizer* tokenizer);
PeltonVocabulary pelton_tokenizer_vocabulary(const PeltonTokenizer* tokenizer);
int64_t pelton_tokenizer_token_to_id(const PeltonTokenizer* tokenizer, PeltonSlice token);  // or -1
int32_t pelton_tokenizer_encode(const PeltonTokenizer* tokenizer, PeltonSlice text,
                                uint8_t add_special, uint8_t as_text, PeltonIds* out,
                                PeltonBuffer* error);
int32_t pelton_tokenizer_encode_marked(const PeltonTokenizer* tokenizer, PeltonSlice text,
                                       uint32_t mark, PeltonIds* out, PeltonBuffer* error);

// `source`, or what `config` (tokenizer_config.json, may be empty) has where that is empty.
int32_t pelton_template_new(const PeltonTokenizer* tokenizer, PeltonSlice source,
                            PeltonSlice config, const PeltonTemplateLimits* limits,
                            PeltonTemplate** out, PeltonBuffer* error);
void pelton_template_free(PeltonTemplate* tmpl);
// `mark`: the code point that breaks up control tokens in `out`; 0: none asked for.
int32_t pelton_template_render(const PeltonTemplate* tmpl, const PeltonRenderInputs* inputs,
                               PeltonBuffer* out, uint32_t* mark, PeltonBuffer* error);
}
