// What the engine needs of text: token ids in, text out, stop strings seen. The engine works
// without one (ids only); the real one is text/detokenizer.h. A stream belongs to one request and
// is used by the engine thread alone; a factory is shared and thread-safe.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "core/ids.h"
#include "core/sampling_params.h"

namespace pelton {

class TextStream {
 public:
  virtual ~TextStream() = default;

  struct Delta {
    std::string text;         // newly released, valid UTF-8; what may begin a stop string, or is
                              // an unfinished character, is held back
    bool stopped = false;     // a stop string is complete: the text ends here, append no more
    std::string stop_string;  // which
  };
  // One generated token more. Never fails: bytes that are not UTF-8 become U+FFFD, as in a decode
  // of the whole. `may_stop` false: stop strings are not looked for in this token's text, nor
  // across its end (min_tokens).
  virtual Delta append(TokenId token, bool may_stop) = 0;
  // The answer ended otherwise (length, EOS, abort): releases what was held back.
  virtual std::string finish() = 0;
};

class TextStreamFactory {
 public:
  virtual ~TextStreamFactory() = default;
  // `prompt_tail`: the last prompt tokens (any number; 16 suffice), which decide on joining spaces.
  virtual std::unique_ptr<TextStream> start(std::span<const TokenId> prompt_tail,
                                            const SamplingParams& params) const = 0;
};

}  // namespace pelton
