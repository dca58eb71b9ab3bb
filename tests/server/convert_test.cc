#include "server/convert.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace pelton {
namespace {

constexpr int kVocab = 100;
constexpr int kContext = 64;

ModelLimits limits() {
  ModelLimits limits;
  limits.max_model_len = kContext;
  limits.vocab_size = kVocab;
  limits.has_tokenizer = true;
  limits.has_chat_template = true;
  return limits;
}

v1::CompleteRequest complete() {
  v1::CompleteRequest request;
  request.mutable_prompt()->mutable_token_ids()->add_ids(1);
  return request;
}

v1::ChatRequest chat() {
  v1::ChatRequest request;
  v1::ChatMessage* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_content()->set_text("hello");
  return request;
}

enum class Verdict { kFine, kInvalid, kUnbuilt, kTooLong };

void check_verdict(const Status& status, Verdict verdict, const std::string& field) {
  INFO(status);
  switch (verdict) {
    case Verdict::kFine:
      CHECK(status.ok());
      return;
    case Verdict::kInvalid:
      CHECK(status.code() == absl::StatusCode::kInvalidArgument);
      CHECK(error_reason(status) == "INVALID_FIELD");
      break;
    case Verdict::kUnbuilt:
      CHECK(status.code() == absl::StatusCode::kUnimplemented);
      CHECK(error_reason(status) == "UNSUPPORTED_PARAMETER");
      break;
    case Verdict::kTooLong:
      CHECK(status.code() == absl::StatusCode::kInvalidArgument);
      CHECK(error_reason(status) == "CONTEXT_LENGTH_EXCEEDED");
      break;
  }
  CHECK(error_field(status) == field);
  CHECK(std::string(status.message()).find(field) == 0);
}

template <typename Message>
struct Row {
  const char* field;
  Verdict verdict;
  std::function<void(Message&)> change;
};

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
    {"thinking_token_budget", Verdict::kInvalid, [](S& s) { s.set_thinking_token_budget(-1); }},
    {"thinking_token_budget", Verdict::kUnbuilt, [](S& s) { s.set_thinking_token_budget(0); }},
    {"logprob_token_ids", Verdict::kUnbuilt, [](S& s) { s.add_logprob_token_ids(3); }},
    {"logprob_token_ids", Verdict::kInvalid, [](S& s) { s.add_logprob_token_ids(-3); }},
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

using C = v1::CompleteRequest;
void set_tokens(C& c, int count, int id) {
  c.mutable_prompt()->mutable_token_ids()->clear_ids();
  for (int i = 0; i < count; ++i) c.mutable_prompt()->mutable_token_ids()->add_ids(id);
}
const Row<C> kCompleteRows[] = {
    {"prompt", Verdict::kInvalid, [](C& c) { c.clear_prompt(); }},
    {"prompt", Verdict::kInvalid, [](C& c) { c.mutable_prompt()->clear_prompt(); }},
    {"prompt.text", Verdict::kFine, [](C& c) { c.mutable_prompt()->set_text("x"); }},
    {"prompt.token_ids", Verdict::kInvalid, [](C& c) { set_tokens(c, 0, 0); }},
    {"prompt.token_ids", Verdict::kInvalid, [](C& c) { set_tokens(c, 1, -1); }},
    {"prompt.token_ids", Verdict::kInvalid, [](C& c) { set_tokens(c, 1, kVocab); }},
    {"prompt.token_ids", Verdict::kFine, [](C& c) { set_tokens(c, 1, kVocab - 1); }},
    {"prompt.token_ids", Verdict::kFine, [](C& c) { set_tokens(c, kContext - 1, 1); }},
    {"prompt.token_ids", Verdict::kTooLong, [](C& c) { set_tokens(c, kContext, 1); }},
    {"sampling.max_tokens", Verdict::kTooLong,
     [](C& c) { set_tokens(c, 60, 1), c.mutable_sampling()->set_max_tokens(5); }},
    {"sampling.max_tokens", Verdict::kFine,
     [](C& c) { set_tokens(c, 60, 1), c.mutable_sampling()->set_max_tokens(4); }},
    {"model", Verdict::kInvalid, [](C& c) { c.set_model(std::string(257, 'm')); }},
    {"scheduling.priority", Verdict::kFine,
     [](C& c) { c.mutable_scheduling()->set_priority(1000); }},
    {"scheduling.priority", Verdict::kInvalid,
     [](C& c) { c.mutable_scheduling()->set_priority(1001); }},
    {"scheduling.priority", Verdict::kInvalid,
     [](C& c) { c.mutable_scheduling()->set_priority(-1001); }},
    {"scheduling.cache_salt", Verdict::kUnbuilt,
     [](C& c) { c.mutable_scheduling()->set_cache_salt("x"); }},
    {"scheduling.cache_salt", Verdict::kInvalid,
     [](C& c) { c.mutable_scheduling()->set_cache_salt(std::string(129, 'x')); }},
    {"scheduling.data_parallel_rank", Verdict::kFine,
     [](C& c) { c.mutable_scheduling()->set_data_parallel_rank(0); }},
    {"scheduling.data_parallel_rank", Verdict::kUnbuilt,
     [](C& c) { c.mutable_scheduling()->set_data_parallel_rank(1); }},
    {"scheduling.data_parallel_rank", Verdict::kInvalid,
     [](C& c) { c.mutable_scheduling()->set_data_parallel_rank(-1); }},
    {"add_special_tokens", Verdict::kFine, [](C& c) { c.set_add_special_tokens(false); }},
    {"return_token_ids", Verdict::kFine, [](C& c) { c.set_return_token_ids(true); }},
    {"echo", Verdict::kUnbuilt, [](C& c) { c.set_echo(true); }},
    {"suffix", Verdict::kUnbuilt, [](C& c) { c.set_suffix("x"); }},
    {"adapter", Verdict::kUnbuilt, [](C& c) { c.set_adapter("x"); }},
    // What is invalid is said before what is only not built.
    {"sampling.top_k", Verdict::kInvalid,
     [](C& c) { c.set_echo(true), c.mutable_sampling()->set_top_k(-2); }},
};

using H = v1::ChatRequest;
v1::ChatMessage* first(H& h) {
  return h.mutable_messages(0);
}
v1::Tool* tool(H& h, const std::string& name) {
  h.mutable_tool_choice()->set_mode(v1::TOOL_CHOICE_MODE_NONE);
  v1::Tool* tool = h.add_tools();
  tool->set_name(name);
  return tool;
}
void add_call(H& h, const std::string& name) {
  first(h)->set_role(v1::ROLE_ASSISTANT);
  first(h)->add_tool_calls()->set_name(name);
}
const Row<H> kChatRows[] = {
    {"messages", Verdict::kInvalid, [](H& h) { h.clear_messages(); }},
    {"messages", Verdict::kInvalid,
     [](H& h) {
       for (int i = 0; i < 4096; ++i) *h.add_messages() = *first(h);
     }},
    {"messages[0].role", Verdict::kInvalid, [](H& h) { first(h)->clear_role(); }},
    {"messages[0].role", Verdict::kInvalid,
     [](H& h) { first(h)->set_role(static_cast<v1::Role>(6)); }},
    {"messages[0].role", Verdict::kInvalid,
     [](H& h) { first(h)->set_role(static_cast<v1::Role>(-1)); }},
    {"messages[0].role", Verdict::kFine, [](H& h) { first(h)->set_role(v1::ROLE_DEVELOPER); }},
    {"messages[0].content", Verdict::kInvalid, [](H& h) { first(h)->clear_content(); }},
    {"messages[0].content", Verdict::kInvalid,
     [](H& h) {
       for (int i = 0; i < 1024; ++i) first(h)->add_content()->set_text("x");
     }},
    {"messages[0].content[1]", Verdict::kInvalid, [](H& h) { first(h)->add_content(); }},
    {"messages[0].content[1].image", Verdict::kUnbuilt,
     [](H& h) { first(h)->add_content()->mutable_image(); }},
    {"messages[0].content[1].audio", Verdict::kUnbuilt,
     [](H& h) { first(h)->add_content()->mutable_audio(); }},
    {"messages[0].content[1].video", Verdict::kUnbuilt,
     [](H& h) { first(h)->add_content()->mutable_video(); }},
    {"messages[0].name", Verdict::kFine, [](H& h) { first(h)->set_name("Ann"); }},
    {"messages[0].name", Verdict::kInvalid,
     [](H& h) { first(h)->set_name(std::string(257, 'x')); }},
    {"messages[0].tool_calls", Verdict::kInvalid,
     [](H& h) { first(h)->add_tool_calls()->set_name("f"); }},
    {"messages[0].tool_calls[0].name", Verdict::kFine, [](H& h) { add_call(h, "f"); }},
    {"messages[0].tool_calls[0].name", Verdict::kInvalid, [](H& h) { add_call(h, "f g"); }},
    {"messages[0].tool_call_id", Verdict::kInvalid, [](H& h) { first(h)->set_tool_call_id("1"); }},
    {"messages[0].tool_call_id", Verdict::kFine,
     [](H& h) { first(h)->set_role(v1::ROLE_TOOL), first(h)->set_tool_call_id("1"); }},
    {"messages[0].reasoning", Verdict::kInvalid, [](H& h) { first(h)->set_reasoning("hm"); }},
    {"tools[0].name", Verdict::kFine, [](H& h) { tool(h, std::string(64, 'x')); }},
    {"tools[0].name", Verdict::kInvalid, [](H& h) { tool(h, std::string(65, 'x')); }},
    {"tools[0].name", Verdict::kInvalid, [](H& h) { tool(h, ""); }},
    {"tools[0].name", Verdict::kInvalid, [](H& h) { tool(h, "a.b"); }},
    {"tools[0].parameters_json", Verdict::kInvalid,
     [](H& h) { tool(h, "f")->set_parameters_json(std::string((256 << 10) + 1, ' ')); }},
    {"tools", Verdict::kInvalid,
     [](H& h) {
       for (int i = 0; i < 129; ++i) tool(h, "f");
     }},
    {"tool_choice.mode", Verdict::kUnbuilt, [](H& h) { tool(h, "f"), h.clear_tool_choice(); }},
    {"tool_choice.mode", Verdict::kUnbuilt,
     [](H& h) { tool(h, "f"), h.mutable_tool_choice()->set_mode(v1::TOOL_CHOICE_MODE_AUTO); }},
    {"tool_choice.mode", Verdict::kUnbuilt,
     [](H& h) { h.mutable_tool_choice()->set_mode(v1::TOOL_CHOICE_MODE_REQUIRED); }},
    {"tool_choice.mode", Verdict::kFine,
     [](H& h) { h.mutable_tool_choice()->set_mode(v1::TOOL_CHOICE_MODE_AUTO); }},
    {"tool_choice.mode", Verdict::kInvalid,
     [](H& h) { h.mutable_tool_choice()->set_mode(static_cast<v1::ToolChoiceMode>(9)); }},
    {"tool_choice.function_name", Verdict::kInvalid,
     [](H& h) { tool(h, "f"), h.mutable_tool_choice()->set_function_name("g"); }},
    {"tool_choice.function_name", Verdict::kUnbuilt,
     [](H& h) { tool(h, "f"), h.mutable_tool_choice()->set_function_name("f"); }},
    {"parallel_tool_calls", Verdict::kFine, [](H& h) { h.set_parallel_tool_calls(false); }},
    {"response_format", Verdict::kFine, [](H& h) { h.mutable_response_format()->set_text(true); }},
    {"response_format.json_object", Verdict::kUnbuilt,
     [](H& h) { h.mutable_response_format()->set_json_object(true); }},
    {"response_format.json_schema", Verdict::kUnbuilt,
     [](H& h) { h.mutable_response_format()->mutable_json_schema(); }},
    {"continue_final_message", Verdict::kInvalid, [](H& h) { h.set_continue_final_message(true); }},
    {"continue_final_message", Verdict::kFine,
     [](H& h) { h.set_continue_final_message(true), first(h)->set_role(v1::ROLE_ASSISTANT); }},
    {"continue_final_message", Verdict::kInvalid,
     [](H& h) {
       h.set_continue_final_message(true);
       h.set_add_generation_prompt(true);
       first(h)->set_role(v1::ROLE_ASSISTANT);
     }},
    {"template_kwargs_json", Verdict::kInvalid,
     [](H& h) { h.set_template_kwargs_json(std::string((64 << 10) + 1, ' ')); }},
    {"adapter", Verdict::kUnbuilt, [](H& h) { h.set_adapter("x"); }},
    {"separate_reasoning", Verdict::kFine, [](H& h) { h.set_separate_reasoning(false); }},
    {"separate_reasoning", Verdict::kUnbuilt, [](H& h) { h.set_separate_reasoning(true); }},
    {"sampling.top_p", Verdict::kInvalid, [](H& h) { h.mutable_sampling()->set_top_p(0); }},
    {"sampling.max_tokens", Verdict::kTooLong,
     [](H& h) { h.mutable_sampling()->set_max_tokens(kContext); }},
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

TEST_CASE("every field of Complete is bounded where its comment says") {
  for (size_t i = 0; i < std::size(kCompleteRows); ++i) {
    CAPTURE(i, kCompleteRows[i].field);
    v1::CompleteRequest request = complete();
    kCompleteRows[i].change(request);
    check_verdict(convert(request, limits()).status(), kCompleteRows[i].verdict,
                  kCompleteRows[i].field);
  }
}

TEST_CASE("every field of Chat is bounded where its comment says") {
  for (size_t i = 0; i < std::size(kChatRows); ++i) {
    CAPTURE(i, kChatRows[i].field);
    v1::ChatRequest request = chat();
    kChatRows[i].change(request);
    check_verdict(convert(request, limits()).status(), kChatRows[i].verdict, kChatRows[i].field);
  }
}

TEST_CASE("absent fields take the defaults of their comments") {
  const auto request = convert(complete(), limits()).value();
  CHECK(request.params.temperature == 1.0F);
  CHECK(request.params.top_p == 1.0F);
  CHECK(request.params.top_k == 0);
  CHECK(request.params.logprobs == -1);
  CHECK(request.params.prompt_logprobs == -1);
  CHECK(request.params.skip_special_tokens);
  CHECK(request.params.max_tokens == 16);
  CHECK(request.use_prefix_cache);
  CHECK(convert(complete(), limits())->params.seed != request.params.seed);  // minted
}

TEST_CASE("an absent max_tokens is 16 for a prompt and the rest of the context for a chat") {
  auto text = complete();
  text.mutable_prompt()->set_text("x");
  auto prompt = convert(text, limits()).value();
  REQUIRE(fit_to_context(prompt, 10, limits()).ok());
  CHECK(prompt.params.max_tokens == 16);
  REQUIRE(fit_to_context(prompt, 60, limits()).ok());
  CHECK(prompt.params.max_tokens == 4);

  auto conversation = convert(chat(), limits()).value();
  REQUIRE(fit_to_context(conversation, 10, limits()).ok());
  CHECK(conversation.params.max_tokens == kContext - 10);
  check_verdict(fit_to_context(conversation, kContext, limits()), Verdict::kTooLong, "messages");
  check_verdict(fit_to_context(conversation, 0, limits()), Verdict::kInvalid, "messages");
}

TEST_CASE("every given field reaches the engine's parameters") {
  auto request = complete();
  S& s = *request.mutable_sampling();
  s.set_max_tokens(9);
  s.set_min_tokens(2);
  s.set_temperature(0.5F);
  s.set_top_k(7);
  s.set_top_p(0.25F);
  s.set_min_p(0.125F);
  s.set_seed(42);
  s.add_stop("end");
  s.add_stop_token_ids(3);
  s.set_include_stop_str_in_output(true);
  s.set_ignore_eos(true);
  s.set_logprobs(0);
  s.set_prompt_logprobs(5);
  s.set_skip_special_tokens(false);
  request.mutable_scheduling()->set_priority(-5);
  request.set_return_token_ids(true);
  const auto out = convert(request, limits()).value();
  const SamplingParams& p = out.params;
  CHECK(p.max_tokens == 9);
  CHECK(p.min_tokens == 2);
  CHECK(p.temperature == 0.5F);
  CHECK(p.top_k == 7);
  CHECK(p.top_p == 0.25F);
  CHECK(p.min_p == 0.125F);
  CHECK(p.seed == 42);
  CHECK(p.stop == std::vector<std::string>{"end"});
  CHECK(p.stop_token_ids == std::vector<TokenId>{3});
  CHECK(p.include_stop_str_in_output);
  CHECK(p.ignore_eos);
  CHECK(p.logprobs == 0);
  CHECK(p.prompt_logprobs == 5);
  CHECK_FALSE(p.skip_special_tokens);
  CHECK(out.priority == -5);
  CHECK(out.return_token_ids);
  CHECK_FALSE(out.use_prefix_cache);  // cached tokens have no logits
  CHECK(std::get<std::vector<TokenId>>(out.prompt) == std::vector<TokenId>{1});
}

TEST_CASE("a model without tokenizer takes ids and refuses text") {
  ModelLimits ids_only = limits();
  ids_only.has_tokenizer = false;
  ids_only.has_chat_template = false;
  CHECK(convert(complete(), ids_only).ok());
  auto text = complete();
  text.mutable_prompt()->set_text("x");
  check_verdict(convert(text, ids_only).status(), Verdict::kInvalid, "prompt.text");
  check_verdict(convert(chat(), ids_only).status(), Verdict::kInvalid, "model");
  auto stop = complete();
  stop.mutable_sampling()->add_stop("x");
  check_verdict(convert(stop, ids_only).status(), Verdict::kInvalid, "sampling.stop");
}

TEST_CASE("a text that can not fit is refused before it is tokenised") {
  ModelLimits bounded = limits();
  bounded.longest_token_bytes = 10;
  auto text = complete();
  text.mutable_prompt()->set_text(std::string(10 * kContext, 'x'));
  CHECK(convert(text, bounded).ok());
  text.mutable_prompt()->set_text(std::string(10 * kContext + 1, 'x'));
  check_verdict(convert(text, bounded).status(), Verdict::kTooLong, "prompt.text");
  auto conversation = chat();
  first(conversation)->mutable_content(0)->set_text(std::string(10 * kContext + 1, 'x'));
  check_verdict(convert(conversation, bounded).status(), Verdict::kTooLong, "messages");
}

TEST_CASE("the other requests are bounded too") {
  v1::TokenizeRequest tokenize;
  check_verdict(validate(tokenize, limits()), Verdict::kInvalid, "text");
  tokenize.set_text("");
  CHECK(validate(tokenize, limits()).ok());
  *tokenize.mutable_chat() = chat();
  CHECK(validate(tokenize, limits()).ok());
  first(*tokenize.mutable_chat())->clear_role();
  check_verdict(validate(tokenize, limits()), Verdict::kInvalid, "chat.messages[0].role");

  v1::DetokenizeRequest detokenize;
  detokenize.add_token_ids(kVocab);
  check_verdict(validate(detokenize, limits()), Verdict::kInvalid, "token_ids");

  v1::EmbedRequest embed;
  check_verdict(validate(embed, limits()), Verdict::kInvalid, "inputs");
  embed.add_inputs();
  check_verdict(validate(embed, limits()), Verdict::kInvalid, "inputs[0]");
  embed.mutable_inputs(0)->set_text("x");
  CHECK(validate(embed, limits()).ok());
  embed.set_dimensions(0);
  check_verdict(validate(embed, limits()), Verdict::kInvalid, "dimensions");

  v1::RerankRequest rerank;
  rerank.set_query("q");
  check_verdict(validate(rerank, limits()), Verdict::kInvalid, "documents");
  rerank.add_documents("d");
  CHECK(validate(rerank, limits()).ok());
  rerank.set_top_n(0);
  check_verdict(validate(rerank, limits()), Verdict::kInvalid, "top_n");

  v1::ClassifyRequest classify;
  check_verdict(validate(classify, limits()), Verdict::kInvalid, "inputs");
}

}  // namespace pelton
