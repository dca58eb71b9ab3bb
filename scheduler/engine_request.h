// One request inside the engine: its parameters, its text, and the output that the current step
// makes. Engine thread only.
//
// When an answer ends, as in vLLM: a token drawn is counted and appears in `tokens`, the ending one
// (EOS or of stop_token_ids) included. The text of EOS is never shown, that of a stop token only
// with include_stop_str_in_output. Before min_tokens neither can be drawn. A stop string goes
// before the length as a reason; tokens after it are neither shown nor counted.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/request.h"
#include "model/model_runner.h"
#include "scheduler/engine.h"
#include "scheduler/scheduler.h"

namespace pelton {

// The request as the scheduler sees it; takes what it can from it.
SequenceSpec sequence_spec(Request& request);

class EngineRequest {
 public:
  // `text` null: ids only. `eos` outlives the request.
  EngineRequest(const Request& request, std::shared_ptr<OutputSink> sink,
                std::span<const TokenId> eos, std::unique_ptr<TextStream> text);

  RequestId id() const { return output_.id; }
  const std::shared_ptr<OutputSink>& sink() const { return sink_; }
  bool ended() const { return output_.finished(); }
  bool has_output() const { return ended() || !output_.tokens.empty(); }
  int num_generated() const { return output_.usage.completion_tokens; }

  // How the row that draws the token at `position`, or scores the prompt token there, is sampled.
  SampleRow draw_row(int logit_row, int position) const;
  SampleRow score_row(int logit_row, int position, TokenId token) const;

  void note_scheduled(TimePoint now, int cached_tokens);
  void take_prompt_logprobs(PositionLogprobs logprobs);
  // The next token; `full`: the sequence can take no more after it. May end the request.
  void take_token(SampledToken sampled, bool full, TimePoint now);
  // Ends it now, for a reason from outside; releases text that was held back.
  void end(FinishReason reason, Status status, TimePoint now);
  // The step's output, to be called when has_output().
  RequestOutput take_output();

 private:
  // kNone, or why this token ends the answer; `show`: whether its text is part of it.
  FinishReason judge(TokenId token, bool full, bool& show);

  const SamplingParams params_;
  const std::shared_ptr<OutputSink> sink_;
  const std::span<const TokenId> eos_;
  std::unique_ptr<TextStream> text_;
  std::vector<TokenId> banned_;  // while fewer than min_tokens are drawn
  std::vector<PositionLogprobs> prompt_logprobs_;
  TimePoint arrival_;
  TimePoint first_scheduled_ = TimePoint::max();
  TimePoint first_token_ = TimePoint::max();
  RequestOutput output_;  // of this step; usage and timing go on
};

}  // namespace pelton
