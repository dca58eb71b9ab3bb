#include "server/validate_sampling.h"

#include <utility>

#include "core/sampling_limits.h"
#include "server/random_id.h"

namespace pelton {
namespace {

using namespace sampling_limits;  // NOLINT: this file checks them

constexpr int kMaxAnswers = 128;
constexpr int kMaxTokenList = 1024;
constexpr int kMaxBadWords = 128;
constexpr int kMaxChoices = 1024;
constexpr size_t kMaxConstraintBytes = size_t{256} << 10;
constexpr size_t kMaxCacheSaltBytes = 128;
constexpr int kMaxPriority = 1000;
constexpr int kMaxPatternSize = 1024;

void check_stops(const v1::SamplingParams& s, const ModelLimits& limits, const FieldCheck& check) {
  check.count("stop", s.stop_size(), kMaxStops);
  for (const std::string& stop : s.stop()) {
    check.require("stop", !stop.empty() && stop.size() <= kMaxStopBytes,
                  "each string must be 1 to 1024 bytes long");
  }
  check.require("stop", s.stop().empty() || limits.has_tokenizer,
                "this model has no tokenizer, so there is no text to stop at");
  check.token_ids("stop_token_ids", s.stop_token_ids(), kMaxStopTokenIds, limits.vocab_size);
}

void check_structured_output(const v1::StructuredOutput& output, const FieldCheck& check) {
  using Constraint = v1::StructuredOutput;
  check.bytes("json_schema", output.json_schema(), kMaxConstraintBytes);
  check.bytes("regex", output.regex(), kMaxConstraintBytes);
  check.bytes("grammar", output.grammar(), kMaxConstraintBytes);
  check.bytes("structural_tag", output.structural_tag(), kMaxConstraintBytes);
  check.count("choice", output.choice().values_size(), kMaxChoices);
  size_t choice_bytes = 0;
  for (const std::string& value : output.choice().values()) choice_bytes += value.size();
  check.require("choice", choice_bytes <= kMaxConstraintBytes, "at most 256 KiB are allowed");
  const bool neutral =
      output.constraint_case() == Constraint::CONSTRAINT_NOT_SET ||
      (output.constraint_case() == Constraint::kJsonObject && !output.json_object());
  check.unbuilt("", !neutral);
}

void check_repetition(const v1::RepetitionDetection& detection, const FieldCheck& check) {
  check.integer("max_pattern_size", detection.max_pattern_size(), 0, kMaxPatternSize);
  check.integer("min_pattern_size", detection.min_pattern_size(), 0, detection.max_pattern_size());
  check.integer("min_count", detection.min_count(), detection.max_pattern_size() > 0 ? 2 : 0,
                1 << 20);
}

// What is declared and bounded, and not built yet.
void check_unbuilt(const v1::SamplingParams& s, const ModelLimits& limits,
                   const FieldCheck& check) {
  constexpr RealRange kPenalty{-2, 2};
  if (s.has_n()) check.integer("n", s.n(), 1, kMaxAnswers);
  check.real("presence_penalty", s.presence_penalty(), kPenalty);
  check.real("frequency_penalty", s.frequency_penalty(), kPenalty);
  if (s.has_repetition_penalty()) {
    check.real("repetition_penalty", s.repetition_penalty(), {0, 2, true});
  }
  check.count("logit_bias", s.logit_bias_size(), kMaxTokenList);
  for (const auto& [id, bias] : s.logit_bias()) {
    check.require("logit_bias", id >= 0 && id < limits.vocab_size,
                  "an id is not in the vocabulary");
    check.real("logit_bias", bias, {-100, 100});
  }
  check.token_ids("allowed_token_ids", s.allowed_token_ids(), kMaxTokenList, limits.vocab_size);
  check.token_ids("logprob_token_ids", s.logprob_token_ids(), kMaxTokenList, limits.vocab_size);
  check.count("bad_words", s.bad_words_size(), kMaxBadWords);
  for (const std::string& word : s.bad_words()) {
    check.require("bad_words", !word.empty() && word.size() <= kMaxStopBytes,
                  "each word must be 1 to 1024 bytes long");
  }
  if (s.has_truncate_prompt_tokens()) {
    check.integer("truncate_prompt_tokens", s.truncate_prompt_tokens(), 1, limits.max_model_len);
  }
  if (s.has_thinking_token_budget()) {
    check.integer("thinking_token_budget", s.thinking_token_budget(), -1, kInt32Max);
  }
  if (s.has_repetition_detection()) {
    check_repetition(s.repetition_detection(), check.in("repetition_detection"));
  }
  check.token_ids("prompt_logprob_token_ids", s.prompt_logprob_token_ids(), kMaxTokenList,
                  limits.vocab_size);
  check.integer("prompt_logprob_start", s.prompt_logprob_start(), 0, limits.max_model_len);
  if (s.has_stream_interval()) check.integer("stream_interval", s.stream_interval(), 1, 1 << 20);
  if (s.has_structured_output()) {
    check_structured_output(s.structured_output(), check.in("structured_output"));
  }

  check.unbuilt("detokenize", s.has_detokenize() && !s.detokenize());
  check.unbuilt("n", s.has_n() && s.n() > 1);
  check.unbuilt("presence_penalty", s.presence_penalty() != 0);
  check.unbuilt("frequency_penalty", s.frequency_penalty() != 0);
  check.unbuilt("repetition_penalty", s.has_repetition_penalty() && s.repetition_penalty() != 1);
  check.unbuilt("logit_bias", !s.logit_bias().empty());
  check.unbuilt("allowed_token_ids", !s.allowed_token_ids().empty());
  check.unbuilt("bad_words", !s.bad_words().empty());
  check.unbuilt("truncate_prompt_tokens", s.has_truncate_prompt_tokens());
  check.unbuilt("thinking_token_budget",
                s.has_thinking_token_budget() && s.thinking_token_budget() >= 0);
  check.unbuilt("repetition_detection", s.repetition_detection().max_pattern_size() > 0);
  check.unbuilt("prompt_logprob_token_ids", !s.prompt_logprob_token_ids().empty());
  check.unbuilt("prompt_logprob_start", s.prompt_logprob_start() > 0);
  check.unbuilt("stream_interval", s.has_stream_interval() && s.stream_interval() > 1);
  check.unbuilt("logprob_token_ids", !s.logprob_token_ids().empty());
}

}  // namespace

void check_sampling(const v1::SamplingParams& s, const ModelLimits& limits,
                    const FieldCheck& check) {
  if (s.has_max_tokens()) check.integer("max_tokens", s.max_tokens(), 1, kInt32Max);
  check.integer("min_tokens", s.min_tokens(), 0, s.has_max_tokens() ? s.max_tokens() : kInt32Max);
  if (s.has_temperature()) check.real("temperature", s.temperature(), {0, kMaxTemperature});
  check.integer("top_k", s.top_k(), -1, kInt32Max);
  if (s.has_top_p()) check.real("top_p", s.top_p(), {0, 1, true});
  check.real("min_p", s.min_p(), {0, 1});
  check_stops(s, limits, check);
  if (s.has_logprobs()) check.integer("logprobs", s.logprobs(), 0, kMaxLogprobs);
  if (s.has_prompt_logprobs()) {
    check.integer("prompt_logprobs", s.prompt_logprobs(), 0, kMaxLogprobs);
  }
  check_unbuilt(s, limits, check);
}

void check_scheduling(const v1::Scheduling& scheduling, const FieldCheck& check) {
  check.integer("priority", scheduling.priority(), -kMaxPriority, kMaxPriority);
  check.bytes("cache_salt", scheduling.cache_salt(), kMaxCacheSaltBytes);
  check.integer("data_parallel_rank", scheduling.data_parallel_rank(), 0, kInt32Max);
  check.unbuilt("cache_salt", !scheduling.cache_salt().empty());
  check.unbuilt("data_parallel_rank", scheduling.data_parallel_rank() != 0);
}

SamplingParams to_core(v1::SamplingParams sampling) {
  SamplingParams out;
  out.max_tokens = sampling.max_tokens();
  out.min_tokens = sampling.min_tokens();
  if (sampling.has_temperature()) out.temperature = sampling.temperature();
  out.top_k = sampling.top_k() < 0 ? 0 : sampling.top_k();
  if (sampling.has_top_p()) out.top_p = sampling.top_p();
  out.min_p = sampling.min_p();
  out.seed = sampling.has_seed() ? sampling.seed() : random_seed();
  for (std::string& stop : *sampling.mutable_stop()) out.stop.push_back(std::move(stop));
  out.stop_token_ids.assign(sampling.stop_token_ids().begin(), sampling.stop_token_ids().end());
  out.include_stop_str_in_output = sampling.include_stop_str_in_output();
  out.ignore_eos = sampling.ignore_eos();
  if (sampling.has_skip_special_tokens()) out.skip_special_tokens = sampling.skip_special_tokens();
  if (sampling.has_logprobs()) out.logprobs = sampling.logprobs();
  if (sampling.has_prompt_logprobs()) out.prompt_logprobs = sampling.prompt_logprobs();
  return out;
}

}  // namespace pelton
