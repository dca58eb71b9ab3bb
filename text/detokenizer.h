// The real TextStream: incremental detokenisation and stop strings. A Detokenizer is shared and
// thread-safe, and the tokenizer must outlive it; a stream belongs to one thread. A token costs
// time linear in its own bytes, whatever came before.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "core/ids.h"
#include "core/sampling_params.h"
#include "core/utf8.h"
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

// Token ids to text, without stop strings: what Tokenizer::decode and the streams share.
class TokenDecoder {
 public:
  // `at_start`: nothing was shown before, so a leading space may have to go.
  TokenDecoder(const Tokenizer& tokenizer, bool skip_special_tokens, bool at_start);

  void append(TokenId token, std::string& out);  // appends what is complete to `out`
  void finish(std::string& out) { utf8_.finish(out); }

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  bool at_start_;  // the leading space rule still applies
  Utf8Decoder utf8_;
};

}  // namespace pelton
