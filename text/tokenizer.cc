#include "text/tokenizer.h"

#include <fmt/format.h>

#include <limits>

#include "text/detokenizer.h"
#include "text/ffi_util.h"
#include "text/tokenizer_impl.h"

namespace pelton {

using text_internal::check_text;
using text_internal::slice;
using text_internal::slices;
using text_internal::take;
using text_internal::to_status;

namespace {

std::optional<TokenId> optional_id(int64_t id) {
  if (id < 0) return std::nullopt;
  return static_cast<TokenId>(id);
}

// An id that no vocabulary has becomes one that the crate refuses by name.
int64_t id_or_absent(const std::optional<int64_t>& id) {
  if (!id) return -1;
  return *id < 0 ? std::numeric_limits<int64_t>::max() : *id;
}

int32_t flag_or_absent(const std::optional<bool>& flag) {
  return flag ? (*flag ? 1 : 0) : -1;
}

int64_t total_bytes(const std::vector<std::string>& texts) {
  int64_t sum = 0;
  for (const std::string& text : texts) sum += static_cast<int64_t>(text.size());
  return sum;
}

Status too_large(std::string_view what, int64_t bytes, int64_t limit) {
  return absl::InvalidArgumentError(
      fmt::format("{}: {} bytes; at most {} are taken", what, bytes, limit));
}

}  // namespace

Tokenizer::Impl::~Impl() {
  pelton_tokenizer_free(handle);
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  PeltonVocabulary& vocabulary = impl_->vocabulary;
  vocabulary = pelton_tokenizer_vocabulary(impl_->handle);
  impl_->special_ids = {optional_id(vocabulary.bos), optional_id(vocabulary.eos),
                        optional_id(vocabulary.unk), optional_id(vocabulary.pad)};
  for (size_t i = 0; i < vocabulary.num_end_ids; ++i) {
    impl_->end_ids.push_back(static_cast<TokenId>(vocabulary.end_ids[i]));
  }
  for (TokenId id = 0; id < vocab_size(); ++id) {
    if (is_special(id)) impl_->control_tokens.emplace_back(token_text(id));
  }
}

Tokenizer::~Tokenizer() = default;

StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::from_json(std::string_view tokenizer_json,
                                                          std::string_view tokenizer_config_json,
                                                          const TokenizerOptions& options) {
  PELTON_RETURN_IF_ERROR(check_text(tokenizer_json, options.max_file_bytes, "tokenizer.json"));
  PELTON_RETURN_IF_ERROR(
      check_text(tokenizer_config_json, options.max_file_bytes, "tokenizer_config.json"));
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  PeltonBuffer error{};
  const int32_t code =
      pelton_tokenizer_from_json(slice(tokenizer_json), slice(tokenizer_config_json),
                                 options.max_vocab_size, &impl->handle, &error);
  if (code != 0) return to_status(code, error);
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::from_gguf(const GgufTokenizerFields& fields,
                                                          const TokenizerOptions& options) {
  const int64_t bytes = total_bytes(fields.tokens) + total_bytes(fields.merges);
  if (bytes > options.max_file_bytes) {
    return too_large("tokenizer.ggml.tokens and merges", bytes, options.max_file_bytes);
  }
  const std::vector<PeltonSlice> tokens = slices(fields.tokens);
  const std::vector<PeltonSlice> merges = slices(fields.merges);
  PeltonGgufFields raw{};
  raw.model = slice(fields.model);
  raw.pre = slice(fields.pre);
  raw.tokens = tokens.data();
  raw.num_tokens = tokens.size();
  raw.scores = fields.scores.data();
  raw.num_scores = fields.scores.size();
  raw.types = fields.token_types.data();
  raw.num_types = fields.token_types.size();
  raw.merges = merges.data();
  raw.num_merges = merges.size();
  raw.bos = id_or_absent(fields.bos_token_id);
  raw.eos = id_or_absent(fields.eos_token_id);
  raw.unk = id_or_absent(fields.unknown_token_id);
  raw.pad = id_or_absent(fields.padding_token_id);
  raw.eot = id_or_absent(fields.eot_token_id);
  raw.eom = id_or_absent(fields.eom_token_id);
  raw.add_bos = flag_or_absent(fields.add_bos_token);
  raw.add_eos = flag_or_absent(fields.add_eos_token);
  raw.add_space_prefix = flag_or_absent(fields.add_space_prefix);
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  PeltonBuffer error{};
  const int32_t code =
      pelton_tokenizer_from_gguf(&raw, options.max_vocab_size, &impl->handle, &error);
  if (code != 0) return to_status(code, error);
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

StatusOr<std::vector<TokenId>> Tokenizer::encode(std::string_view text, bool add_special_tokens,
                                                 SpecialTokens special) const {
  PELTON_RETURN_IF_ERROR(check_text(text, max_text_bytes(), "text"));
  PeltonIds ids{};
  PeltonBuffer error{};
  const bool as_text = special == SpecialTokens::kAsText;
  const int32_t code = pelton_tokenizer_encode(impl_->handle, slice(text), add_special_tokens,
                                               as_text, &ids, &error);
  if (code != 0) return to_status(code, error);
  return take(ids);
}

StatusOr<std::vector<TokenId>> Tokenizer::encode_marked(std::string_view text,
                                                        char32_t mark) const {
  PELTON_RETURN_IF_ERROR(check_text(text, max_text_bytes(), "text"));
  PeltonIds ids{};
  PeltonBuffer error{};
  const int32_t code =
      pelton_tokenizer_encode_marked(impl_->handle, slice(text), mark, &ids, &error);
  if (code != 0) return to_status(code, error);
  return take(ids);
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  std::string text;
  TokenDecoder decoder(*this, skip_special_tokens, /*at_start=*/true);
  for (const TokenId id : ids) decoder.append(id, text);
  decoder.finish(text);
  return text;
}

int Tokenizer::vocab_size() const {
  return static_cast<int>(impl_->vocabulary.size);
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  const PeltonVocabulary& vocabulary = impl_->vocabulary;
  return impl_->entry(vocabulary.bytes, vocabulary.byte_ends, id);
}

std::string_view Tokenizer::token_text(TokenId id) const {
  const PeltonVocabulary& vocabulary = impl_->vocabulary;
  return impl_->entry(vocabulary.texts, vocabulary.text_ends, id);
}

std::optional<TokenId> Tokenizer::token_to_id(std::string_view token_text) const {
  return optional_id(pelton_tokenizer_token_to_id(impl_->handle, slice(token_text)));
}

bool Tokenizer::is_special(TokenId id) const {
  return (impl_->flags(id) & 2) != 0;
}
bool Tokenizer::is_in_vocab(TokenId id) const {
  return (impl_->flags(id) & 1) != 0;
}

const SpecialTokenIds& Tokenizer::special_ids() const {
  return impl_->special_ids;
}
const std::vector<TokenId>& Tokenizer::end_ids() const {
  return impl_->end_ids;
}
const std::vector<std::string>& Tokenizer::control_tokens() const {
  return impl_->control_tokens;
}
LeadingSpace Tokenizer::leading_space() const {
  return static_cast<LeadingSpace>(impl_->vocabulary.leading_space);
}
int64_t Tokenizer::max_text_bytes() const {
  return impl_->options.max_text_bytes;
}

}  // namespace pelton
