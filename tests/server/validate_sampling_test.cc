// Every field of SamplingParams: below, at and above its bounds.
#include <cmath>
#include <limits>
#include <string>

#include "tests/server/convert_fixture.h"

namespace pelton {
namespace {

const float kNan = std::nanf("");
const float kInf = std::numeric_limits<float>::infinity();
const float kAboveOne = std::nextafter(1.0F, 2.0F);
constexpr int kMax = std::numeric_limits<int32_t>::max();
constexpr int kMin = std::numeric_limits<int32_t>::min();

using S = v1::SamplingParams;
const Row<S> kSamplingRows[] = {
    {"max_tokens", Verdict::kInvalid, [](S& s) { s.set_max_tokens(0); }},
    {"max_tokens", Verdict::kInvalid, [](S& s) { s.set_max_tokens(-1); }},
    {"max_tokens", Verdict::kFine, [](S& s) { s.set_max_tokens(1); }},
    {"max_tokens", Verdict::kFine, [](S& s) { s.set_max_tokens(kContext - 1); }},
    {"max_tokens", Verdict::kTooLong, [](S& s) { s.set_max_tokens(kContext); }},
    {"max_tokens", Verdict::kTooLong, [](S& s) { s.set_max_tokens(kMax); }},
    {"min_tokens", Verdict::kInvalid, [](S& s) { s.set_min_tokens(-1); }},
    {"min_tokens", Verdict::kFine, [](S& s) { s.set_min_tokens(16); }},
    {"min_tokens", Verdict::kInvalid, [](S& s) { s.set_min_tokens(kMax); }},
    {"min_tokens", Verdict::kInvalid, [](S& s) { s.set_min_tokens(4), s.set_max_tokens(3); }},
    {"min_tokens", Verdict::kFine, [](S& s) { s.set_min_tokens(4), s.set_max_tokens(4); }},
    {"temperature", Verdict::kInvalid, [](S& s) { s.set_temperature(-0.001F); }},
    {"temperature", Verdict::kFine, [](S& s) { s.set_temperature(0); }},
    {"temperature", Verdict::kFine, [](S& s) { s.set_temperature(100); }},
    {"temperature", Verdict::kInvalid, [](S& s) { s.set_temperature(100.001F); }},
    {"temperature", Verdict::kInvalid, [](S& s) { s.set_temperature(kNan); }},
    {"temperature", Verdict::kInvalid, [](S& s) { s.set_temperature(kInf); }},
    {"temperature", Verdict::kInvalid, [](S& s) { s.set_temperature(-kInf); }},
    {"top_k", Verdict::kInvalid, [](S& s) { s.set_top_k(-2); }},
    {"top_k", Verdict::kInvalid, [](S& s) { s.set_top_k(kMin); }},
    {"top_k", Verdict::kFine, [](S& s) { s.set_top_k(-1); }},
    {"top_k", Verdict::kFine, [](S& s) { s.set_top_k(kMax); }},
    {"top_p", Verdict::kInvalid, [](S& s) { s.set_top_p(0); }},
    {"top_p", Verdict::kFine, [](S& s) { s.set_top_p(1e-6F); }},
    {"top_p", Verdict::kFine, [](S& s) { s.set_top_p(1); }},
    {"top_p", Verdict::kInvalid, [](S& s) { s.set_top_p(kAboveOne); }},
    {"top_p", Verdict::kInvalid, [](S& s) { s.set_top_p(kNan); }},
    {"min_p", Verdict::kInvalid, [](S& s) { s.set_min_p(-0.1F); }},
    {"min_p", Verdict::kFine, [](S& s) { s.set_min_p(1); }},
    {"min_p", Verdict::kInvalid, [](S& s) { s.set_min_p(kAboveOne); }},
    {"min_p", Verdict::kInvalid, [](S& s) { s.set_min_p(kNan); }},
    {"seed", Verdict::kFine, [](S& s) { s.set_seed(std::numeric_limits<uint64_t>::max()); }},
    {"stop", Verdict::kFine,
     [](S& s) {
       for (int i = 0; i < 16; ++i) s.add_stop("x");
     }},
    {"stop", Verdict::kInvalid,
     [](S& s) {
       for (int i = 0; i < 17; ++i) s.add_stop("x");
     }},
    {"stop", Verdict::kInvalid, [](S& s) { s.add_stop(""); }},
    {"stop", Verdict::kFine, [](S& s) { s.add_stop(std::string(1024, 'x')); }},
    {"stop", Verdict::kInvalid, [](S& s) { s.add_stop(std::string(1025, 'x')); }},
    {"stop_token_ids", Verdict::kInvalid, [](S& s) { s.add_stop_token_ids(-1); }},
    {"stop_token_ids", Verdict::kFine, [](S& s) { s.add_stop_token_ids(kVocab - 1); }},
    {"stop_token_ids", Verdict::kInvalid, [](S& s) { s.add_stop_token_ids(kVocab); }},
    {"stop_token_ids", Verdict::kFine,
     [](S& s) {
       for (int i = 0; i < 256; ++i) s.add_stop_token_ids(1);
     }},
    {"stop_token_ids", Verdict::kInvalid,
     [](S& s) {
       for (int i = 0; i < 257; ++i) s.add_stop_token_ids(1);
     }},
    {"include_stop_str_in_output", Verdict::kFine,
     [](S& s) { s.set_include_stop_str_in_output(true); }},
    {"ignore_eos", Verdict::kFine, [](S& s) { s.set_ignore_eos(true); }},
    {"logprobs", Verdict::kInvalid, [](S& s) { s.set_logprobs(-1); }},
    {"logprobs", Verdict::kFine, [](S& s) { s.set_logprobs(20); }},
    {"logprobs", Verdict::kInvalid, [](S& s) { s.set_logprobs(21); }},
    {"prompt_logprobs", Verdict::kInvalid, [](S& s) { s.set_prompt_logprobs(-1); }},
    {"prompt_logprobs", Verdict::kFine, [](S& s) { s.set_prompt_logprobs(0); }},
    {"prompt_logprobs", Verdict::kInvalid, [](S& s) { s.set_prompt_logprobs(21); }},
    {"skip_special_tokens", Verdict::kFine, [](S& s) { s.set_skip_special_tokens(false); }},
    {"detokenize", Verdict::kFine, [](S& s) { s.set_detokenize(true); }},
    {"detokenize", Verdict::kUnbuilt, [](S& s) { s.set_detokenize(false); }},
    {"spaces_between_special_tokens", Verdict::kFine,
     [](S& s) { s.set_spaces_between_special_tokens(false); }},
    {"n", Verdict::kInvalid, [](S& s) { s.set_n(0); }},
    {"n", Verdict::kInvalid, [](S& s) { s.set_n(-1); }},
    {"n", Verdict::kFine, [](S& s) { s.set_n(1); }},
    {"n", Verdict::kUnbuilt, [](S& s) { s.set_n(128); }},
    {"n", Verdict::kInvalid, [](S& s) { s.set_n(129); }},
    {"presence_penalty", Verdict::kInvalid, [](S& s) { s.set_presence_penalty(-2.001F); }},
    {"presence_penalty", Verdict::kUnbuilt, [](S& s) { s.set_presence_penalty(-2); }},
    {"presence_penalty", Verdict::kUnbuilt, [](S& s) { s.set_presence_penalty(2); }},
    {"presence_penalty", Verdict::kInvalid, [](S& s) { s.set_presence_penalty(kNan); }},
    {"frequency_penalty", Verdict::kInvalid, [](S& s) { s.set_frequency_penalty(2.001F); }},
    {"frequency_penalty", Verdict::kUnbuilt, [](S& s) { s.set_frequency_penalty(0.5F); }},
    {"frequency_penalty", Verdict::kInvalid, [](S& s) { s.set_frequency_penalty(kInf); }},
    {"repetition_penalty", Verdict::kInvalid, [](S& s) { s.set_repetition_penalty(0); }},
    {"repetition_penalty", Verdict::kFine, [](S& s) { s.set_repetition_penalty(1); }},
    {"repetition_penalty", Verdict::kUnbuilt, [](S& s) { s.set_repetition_penalty(2); }},
    {"repetition_penalty", Verdict::kInvalid, [](S& s) { s.set_repetition_penalty(2.001F); }},
    {"repetition_penalty", Verdict::kInvalid, [](S& s) { s.set_repetition_penalty(kNan); }},
    {"logit_bias", Verdict::kInvalid, [](S& s) { (*s.mutable_logit_bias())[-1] = 1; }},
    {"logit_bias", Verdict::kInvalid, [](S& s) { (*s.mutable_logit_bias())[kVocab] = 1; }},
    {"logit_bias", Verdict::kInvalid, [](S& s) { (*s.mutable_logit_bias())[1] = 100.01F; }},
    {"logit_bias", Verdict::kInvalid, [](S& s) { (*s.mutable_logit_bias())[1] = kNan; }},
    {"logit_bias", Verdict::kUnbuilt, [](S& s) { (*s.mutable_logit_bias())[1] = -100; }},
    {"logit_bias", Verdict::kInvalid,
     [](S& s) {
       for (int i = 0; i < 1025; ++i) (*s.mutable_logit_bias())[i] = 1;
     }},
    {"allowed_token_ids", Verdict::kUnbuilt, [](S& s) { s.add_allowed_token_ids(0); }},
    {"allowed_token_ids", Verdict::kInvalid, [](S& s) { s.add_allowed_token_ids(kVocab); }},
    {"allowed_token_ids", Verdict::kInvalid,
     [](S& s) {
       for (int i = 0; i < 1025; ++i) s.add_allowed_token_ids(1);
     }},
    {"bad_words", Verdict::kUnbuilt, [](S& s) { s.add_bad_words("x"); }},
    {"bad_words", Verdict::kInvalid,
     [](S& s) {
       for (int i = 0; i < 129; ++i) s.add_bad_words("x");
     }},
    {"truncate_prompt_tokens", Verdict::kInvalid, [](S& s) { s.set_truncate_prompt_tokens(0); }},
    {"truncate_prompt_tokens", Verdict::kUnbuilt, [](S& s) { s.set_truncate_prompt_tokens(1); }},
    {"truncate_prompt_tokens", Verdict::kInvalid,
     [](S& s) { s.set_truncate_prompt_tokens(kContext + 1); }},
    {"thinking_token_budget", Verdict::kInvalid, [](S& s) { s.set_thinking_token_budget(-2); }},
    {"thinking_token_budget", Verdict::kFine, [](S& s) { s.set_thinking_token_budget(-1); }},
    {"thinking_token_budget", Verdict::kUnbuilt, [](S& s) { s.set_thinking_token_budget(0); }},
    {"logprob_token_ids", Verdict::kUnbuilt, [](S& s) { s.add_logprob_token_ids(3); }},
    {"logprob_token_ids", Verdict::kInvalid, [](S& s) { s.add_logprob_token_ids(-3); }},
    {"prompt_logprob_token_ids", Verdict::kUnbuilt,
     [](S& s) { s.add_prompt_logprob_token_ids(3); }},
    {"prompt_logprob_token_ids", Verdict::kInvalid,
     [](S& s) { s.add_prompt_logprob_token_ids(-3); }},
    {"prompt_logprob_start", Verdict::kFine, [](S& s) { s.set_prompt_logprob_start(0); }},
    {"prompt_logprob_start", Verdict::kUnbuilt, [](S& s) { s.set_prompt_logprob_start(1); }},
    {"prompt_logprob_start", Verdict::kInvalid,
     [](S& s) { s.set_prompt_logprob_start(kContext + 1); }},
    {"stream_interval", Verdict::kFine, [](S& s) { s.set_stream_interval(1); }},
    {"stream_interval", Verdict::kUnbuilt, [](S& s) { s.set_stream_interval(2); }},
    {"stream_interval", Verdict::kInvalid, [](S& s) { s.set_stream_interval(0); }},
    {"repetition_detection", Verdict::kFine, [](S& s) { s.mutable_repetition_detection(); }},
    {"repetition_detection", Verdict::kUnbuilt,
     [](S& s) {
       s.mutable_repetition_detection()->set_max_pattern_size(4);
       s.mutable_repetition_detection()->set_min_count(2);
     }},
    {"repetition_detection.min_count", Verdict::kInvalid,
     [](S& s) { s.mutable_repetition_detection()->set_max_pattern_size(4); }},
    {"repetition_detection.min_pattern_size", Verdict::kInvalid,
     [](S& s) { s.mutable_repetition_detection()->set_min_pattern_size(1); }},
    {"repetition_detection.max_pattern_size", Verdict::kInvalid,
     [](S& s) { s.mutable_repetition_detection()->set_max_pattern_size(1025); }},
    {"structured_output", Verdict::kFine, [](S& s) { s.mutable_structured_output(); }},
    {"structured_output", Verdict::kFine,
     [](S& s) { s.mutable_structured_output()->set_json_object(false); }},
    {"structured_output", Verdict::kUnbuilt,
     [](S& s) { s.mutable_structured_output()->set_json_object(true); }},
    {"structured_output", Verdict::kUnbuilt,
     [](S& s) { s.mutable_structured_output()->set_regex("a+"); }},
    {"structured_output.grammar", Verdict::kInvalid,
     [](S& s) { s.mutable_structured_output()->set_grammar(std::string((256 << 10) + 1, 'x')); }},
    {"structured_output.choice", Verdict::kInvalid,
     [](S& s) {
       for (int i = 0; i < 1025; ++i)
         s.mutable_structured_output()->mutable_choice()->add_values("x");
     }},
};

}  // namespace

TEST_CASE("every sampling field is bounded where its comment says") {
  for (size_t i = 0; i < std::size(kSamplingRows); ++i) {
    const auto& row = kSamplingRows[i];
    CAPTURE(i, row.field);
    const std::string field = std::string("sampling.") + row.field;
    v1::CompleteRequest request = complete();
    row.change(*request.mutable_sampling());
    check_verdict(convert(request, limits()).status(), row.verdict, field);
  }
}

}  // namespace pelton
