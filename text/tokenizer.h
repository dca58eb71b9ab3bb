// Text to token ids and back, from a tokenizer.json or from a GGUF file's own fields. Immutable
// once made: every method is const and safe from any thread. The caller owns the Tokenizer; what
// the methods hand out as views lives as long as it does.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/ids.h"
#include "core/status.h"

namespace pelton {

// What a GGUF file says of its tokenizer: the keys tokenizer.ggml.*, copied over by the caller
// (text/ knows no file formats). Empty vectors and nullopt: the key is absent.
struct GgufTokenizerFields {
  std::string model;                // "gpt2" (byte-level BPE) or "llama" (SentencePiece BPE)
  std::string pre;                  // names gpt2's pre-tokeniser ("smollm", "qwen2"); "": default
  std::vector<std::string> tokens;  // [vocab]
  std::vector<float> scores;        // [vocab]; `llama` needs them
  // [vocab] 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<int32_t> token_types;
  std::vector<std::string> merges;  // "left right", best first; `gpt2` needs them
  std::optional<int64_t> bos_token_id, eos_token_id, unknown_token_id, padding_token_id;
  std::optional<int64_t> eot_token_id, eom_token_id;
  std::optional<bool> add_bos_token, add_eos_token, add_space_prefix;
};

struct TokenizerOptions {
  // A tokenizer.json or a GGUF vocabulary beyond these is refused, before it is read any further.
  int64_t max_file_bytes = int64_t{128} << 20;
  int64_t max_vocab_size = int64_t{1} << 21;
  // Longer texts are INVALID_ARGUMENT with reason TEXT_TOO_LONG.
  int64_t max_text_bytes = int64_t{8} << 20;
};

enum class SpecialTokens : uint8_t {
  kParse,   // control tokens that stand in the text become their ids, as in transformers
  kAsText,  // they are ordinary text: nothing in the text can become a control token
};

// How a sequence of token bytes becomes text; the detokenizer follows it.
enum class LeadingSpace : uint8_t {
  kKeep,
  kStripOne,  // SentencePiece: one space at the very start of the text is not shown
  kStripRun,  // Metaspace: none of the spaces that open the first token is shown
};

// The ids of the named special tokens; nullopt where the model has none.
struct SpecialTokenIds {
  std::optional<TokenId> bos, eos, unk, pad;
};

class Tokenizer {
 public:
  // `tokenizer_config_json` may be empty; it names bos, eos, unk and pad, and adds the added tokens
  // that tokenizer.json lacks. INVALID_ARGUMENT: malformed. UNIMPLEMENTED: a part (model or
  // decoder) that is well-formed and not supported, by name.
  static StatusOr<std::unique_ptr<Tokenizer>> from_json(std::string_view tokenizer_json,
                                                        std::string_view tokenizer_config_json,
                                                        const TokenizerOptions& options = {});
  static StatusOr<std::unique_ptr<Tokenizer>> from_gguf(const GgufTokenizerFields& fields,
                                                        const TokenizerOptions& options = {});
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Time and memory grow linearly with the text, whatever it is (about a
  // second a MiB at worst). INVALID_ARGUMENT: not valid UTF-8, longer than max_text_bytes, or half
  // a million white-space characters in a row, where the library would split wrongly.
  // `add_special_tokens`: what the model puts around every text (BOS).
  StatusOr<std::vector<TokenId>> encode(std::string_view text, bool add_special_tokens,
                                        SpecialTokens special = SpecialTokens::kParse) const;

  // Encodes a text in which `mark` (a code point; 0: none) breaks up what must not be a control
  // token: unbroken control tokens become their ids, the text between is encoded as text after its
  // marks are removed. No special tokens are added. See chat_template.h.
  StatusOr<std::vector<TokenId>> encode_marked(std::string_view text, char32_t mark) const;

  // Valid UTF-8 (bytes that are not become U+FFFD, one a maximal ill-formed run). Ids outside the
  // vocabulary are nothing. Equal to the concatenation of a detokenizer stream's deltas.
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const;

  // One more than the highest id. A model's embedding may have more rows (padding).
  int vocab_size() const;
  // What the token stands for, as raw bytes: maybe not UTF-8 on their own, maybe with a leading
  // space that is not shown at the start of a text. Empty outside the vocabulary.
  std::string_view token_bytes(TokenId id) const;
  // The vocabulary's own spelling ("Ġthe", "<0x0A>", "<|im_end|>"); empty outside the vocabulary.
  std::string_view token_text(TokenId id) const;
  std::optional<TokenId> token_to_id(std::string_view token_text) const;
  // Left out of the text with skip_special_tokens; can not be forged by content.
  bool is_special(TokenId id) const;
  bool is_in_vocab(TokenId id) const;

  const SpecialTokenIds& special_ids() const;
  // Every id that ends an answer as far as the tokenizer's files say: eos, then GGUF's eot, eom
  // and tokens whose names are known to end a turn. (generation_config.json is the caller's.)
  const std::vector<TokenId>& end_ids() const;
  // Spellings of the control tokens, in id order: what content must not forge.
  const std::vector<std::string>& control_tokens() const;
  LeadingSpace leading_space() const;
  int64_t max_text_bytes() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
  friend class ChatTemplate;
};

}  // namespace pelton
