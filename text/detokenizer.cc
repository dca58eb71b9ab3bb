#include "text/detokenizer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "text/stop_checker.h"

namespace pelton {

TokenDecoder::TokenDecoder(const Tokenizer& tokenizer, bool skip_special_tokens, bool at_start)
    : tokenizer_(tokenizer),
      skip_special_tokens_(skip_special_tokens),
      at_start_(at_start && tokenizer.leading_space() != LeadingSpace::kKeep) {}

void TokenDecoder::append(TokenId token, std::string& out) {
  if (skip_special_tokens_ && tokenizer_.is_special(token)) return;
  std::string_view bytes = tokenizer_.token_bytes(token);
  if (at_start_ && tokenizer_.is_in_vocab(token)) {
    if (tokenizer_.leading_space() == LeadingSpace::kStripRun) {
      bytes.remove_prefix(std::min(bytes.find_first_not_of(' '), bytes.size()));
    } else if (bytes.starts_with(' ')) {
      bytes.remove_prefix(1);
      at_start_ = false;
    }
    // An empty token leaves the text at its start, except that Metaspace counts tokens.
    if (!bytes.empty() || tokenizer_.leading_space() == LeadingSpace::kStripRun) at_start_ = false;
  }
  utf8_.append(bytes, out);
}

namespace {

class DetokenizerStream final : public TextStream {
 public:
  DetokenizerStream(const Tokenizer& tokenizer, const SamplingParams& params, bool at_start)
      : decoder_(tokenizer, params.skip_special_tokens, at_start),
        stop_(params.stop, params.include_stop_str_in_output) {}

  Delta append(TokenId token, bool may_stop) override {
    std::string text;
    decoder_.append(token, text);
    Delta delta;
    if (!may_stop) {
      stop_.finish(delta.text);
      delta.text += text;
      return delta;
    }
    std::optional<std::string> stopped = stop_.append(text, delta.text);
    if (stopped) {
      delta.stopped = true;
      delta.stop_string = *std::move(stopped);
    }
    return delta;
  }

  std::string finish() override {
    std::string text;
    decoder_.finish(text);
    std::string out;
    // U+FFFD may itself complete a stop string; the answer has ended either way.
    if (!stop_.append(text, out)) stop_.finish(out);
    return out;
  }

 private:
  TokenDecoder decoder_;
  StopChecker stop_;
};

}  // namespace

std::unique_ptr<TextStream> Detokenizer::start(std::span<const TokenId> prompt_tail,
                                               const SamplingParams& params) const {
  // Tokens that show nothing (a BOS) leave the answer at the start of its text.
  const bool at_start = std::all_of(prompt_tail.begin(), prompt_tail.end(), [&](TokenId token) {
    return tokenizer_.token_bytes(token).empty() ||
           (params.skip_special_tokens && tokenizer_.is_special(token));
  });
  return std::make_unique<DetokenizerStream>(tokenizer_, params, at_start);
}

}  // namespace pelton
