// The real TextStream: incremental detokenisation and stop strings. A Detokenizer is shared and
// thread-safe, and the tokenizer must outlive it; a stream belongs to one thread. A token costs
// time linear in its own bytes, whatever came before.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/ids.h"
#include "core/sampling_params.h"
#include "text/text_stream.h"
#include "text/tokenizer.h"

namespace pelton {

class Detokenizer final : public TextStreamFactory {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // Reads of `params`: stop, include_stop_str_in_output, skip_special_tokens. A space that the
  // tokenizer does not show at the start of a text is shown after a prompt that has text itself.
  std::unique_ptr<TextStream> start(std::span<const TokenId> prompt_tail,
                                    const SamplingParams& params) const override;

 private:
  const Tokenizer& tokenizer_;
};

// Token ids to text without stop strings: the part that Tokenizer::decode shares.
class TokenDecoder {
 public:
  TokenDecoder(const Tokenizer& tokenizer, bool skip_special_tokens, bool at_start)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens), at_start_(at_start) {}

  void append(TokenId token, std::string& out);  // appends what is complete to `out`
  void finish(std::string& out);                 // an unfinished character becomes U+FFFD

 private:
  void append_bytes(std::string_view bytes, std::string& out);

  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  bool at_start_;  // nothing shown yet: the leading space rule still applies
  // The character under way, at most 4 bytes, and how many more bytes it needs.
  char pending_[4] = {};
  int pending_size_ = 0;
  int needed_ = 0;
  unsigned char next_low_ = 0x80, next_high_ = 0xBF;  // what the next byte may be
};

}  // namespace pelton
