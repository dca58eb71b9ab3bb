#include "scheduler/engine_request.h"

#include <algorithm>
#include <utility>

namespace pelton {
namespace {

bool contains(std::span<const TokenId> ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

SequenceSpec sequence_spec(Request& request) {
  SequenceSpec spec;
  spec.id = SequenceId(request.id.value);
  for (const PromptSpan& span : request.prompt) {
    spec.prompt.insert(spec.prompt.end(), span.tokens.begin(), span.tokens.end());
  }
  spec.max_tokens = request.params.max_tokens;
  spec.priority = request.priority;
  spec.tenant = std::move(request.tenant);
  spec.adapter = request.adapter;
  spec.deadline = request.deadline;
  spec.use_prefix_cache = request.use_prefix_cache;
  spec.score_prompt = request.params.prompt_logprobs >= 0;
  return spec;
}

EngineRequest::EngineRequest(const Request& request, std::shared_ptr<OutputSink> sink,
                             std::span<const TokenId> eos, std::unique_ptr<TextStream> text)
    : params_(request.params),
      sink_(std::move(sink)),
      eos_(eos),
      text_(std::move(text)),
      arrival_(request.arrival) {
  output_.id = request.id;
  for (const PromptSpan& span : request.prompt) {
    output_.usage.prompt_tokens += static_cast<int>(span.tokens.size());
  }
  if (params_.min_tokens > 0) {
    banned_.assign(eos.begin(), eos.end());
    banned_.insert(banned_.end(), params_.stop_token_ids.begin(), params_.stop_token_ids.end());
  }
}

SampleRow EngineRequest::draw_row(int logit_row, int position) const {
  SampleRow row;
  row.logit_row = logit_row;
  row.temperature = params_.temperature;
  row.top_k = params_.top_k;
  row.top_p = params_.top_p;
  row.min_p = params_.min_p;
  row.seed = params_.seed;
  row.position = static_cast<uint64_t>(position);
  row.logprobs = params_.logprobs;
  if (num_generated() < params_.min_tokens) row.banned = banned_;
  return row;
}

SampleRow EngineRequest::score_row(int logit_row, int position, TokenId token) const {
  SampleRow row;
  row.logit_row = logit_row;
  row.position = static_cast<uint64_t>(position);
  row.logprobs = params_.prompt_logprobs;
  row.forced_token = token;
  return row;
}

void EngineRequest::note_scheduled(TimePoint now, int cached_tokens) {
  if (first_scheduled_ != TimePoint::max()) return;
  first_scheduled_ = now;
  output_.timing.queued = now - arrival_;
  output_.usage.cached_tokens = cached_tokens;
}

void EngineRequest::take_prompt_logprobs(PositionLogprobs logprobs) {
  prompt_logprobs_.push_back(std::move(logprobs));
}

void EngineRequest::take_token(SampledToken sampled, bool full, TimePoint now) {
  if (num_generated() == 0) {
    first_token_ = now;
    output_.timing.prefill = now - first_scheduled_;
    output_.prompt_logprobs = std::move(prompt_logprobs_);
  }
  ++output_.usage.completion_tokens;
  output_.timing.decode = now - first_token_;
  output_.tokens.push_back(sampled.token);
  if (params_.logprobs >= 0) output_.logprobs.push_back(std::move(sampled.logprobs));

  bool show = true;
  FinishReason reason = judge(sampled.token, full, show);
  if (text_ != nullptr && show) {
    TextStream::Delta delta = text_->append(sampled.token, num_generated() > params_.min_tokens);
    output_.text += delta.text;
    if (delta.stopped) {
      reason = FinishReason::kStop;
      output_.stop_string = std::move(delta.stop_string);
      text_.reset();  // the text ends here: nothing that was held back follows
    }
  }
  if (reason != FinishReason::kNone) end(reason, absl::OkStatus(), now);
}

FinishReason EngineRequest::judge(TokenId token, bool full, bool& show) {
  if (num_generated() >= params_.min_tokens) {
    if (!params_.ignore_eos && contains(eos_, token)) {
      show = false;
      return FinishReason::kStop;
    }
    if (contains(params_.stop_token_ids, token)) {
      show = params_.include_stop_str_in_output;
      output_.stop_token = token;
      return FinishReason::kStop;
    }
  }
  return full || num_generated() >= params_.max_tokens ? FinishReason::kLength
                                                       : FinishReason::kNone;
}

void EngineRequest::end(FinishReason reason, Status status, TimePoint now) {
  if (text_ != nullptr) output_.text += text_->finish();
  text_.reset();
  output_.finish_reason = reason;
  output_.status = std::move(status);
  // It may have ended in the queue or before its first token.
  if (first_scheduled_ == TimePoint::max()) {
    output_.timing.queued = now - arrival_;
  } else if (first_token_ == TimePoint::max()) {
    output_.timing.prefill = now - first_scheduled_;
  }
}

RequestOutput EngineRequest::take_output() {
  RequestOutput next;
  next.id = output_.id;
  next.usage = output_.usage;
  next.timing = output_.timing;
  next.finish_reason = output_.finish_reason;  // ended() stays true
  return std::exchange(output_, std::move(next));
}

}  // namespace pelton
