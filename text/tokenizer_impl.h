// What a Tokenizer holds; for text/*.cc alone.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/ffi/abi.h"
#include "text/tokenizer.h"

namespace pelton {

struct Tokenizer::Impl {
  PeltonTokenizer* handle = nullptr;
  PeltonVocabulary vocabulary{};  // views into what `handle` owns
  TokenizerOptions options;
  SpecialTokenIds special_ids;
  std::vector<TokenId> end_ids;
  std::vector<std::string> control_tokens;

  Impl() = default;
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  bool known(TokenId id) const { return id >= 0 && static_cast<size_t>(id) < vocabulary.size; }
  uint8_t flags(TokenId id) const { return known(id) ? vocabulary.flags[id] : 0; }
  std::string_view entry(const char* data, const uint32_t* ends, TokenId id) const {
    if (!known(id)) return {};
    const uint32_t begin = id == 0 ? 0 : ends[id - 1];
    return {data + begin, ends[id] - begin};
  }
};

}  // namespace pelton
