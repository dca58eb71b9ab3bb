// Every field of Complete and Chat but sampling: below, at and above its bounds.
#include <string>

#include "tests/server/convert_fixture.h"

namespace pelton {
namespace {

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
    {"messages[16].content", Verdict::kInvalid,
     [](H& h) {
       for (int i = 1; i < 1024; ++i) first(h)->add_content()->set_text("");
       for (int i = 0; i < 16; ++i) *h.add_messages() = *first(h);
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

using T = v1::TokenizeRequest;
const Row<T> kTokenizeRows[] = {
    {"text", Verdict::kInvalid, [](T& t) { t.clear_text(); }},
    {"text", Verdict::kFine, [](T& t) { t.set_text(std::string(2 * kContext, 'x')); }},
    {"text", Verdict::kTooLong, [](T& t) { t.set_text(std::string(2 * kContext + 1, 'x')); }},
    {"chat.messages", Verdict::kTooLong,
     [](T& t) {
       *t.mutable_chat() = chat();
       first(*t.mutable_chat())->add_content()->set_text(std::string(2 * kContext, 'x'));
     }},
};

using D = v1::DetokenizeRequest;
void set_ids(D& d, int count, int id) {
  for (int i = 0; i < count; ++i) d.add_token_ids(id);
}
const Row<D> kDetokenizeRows[] = {
    {"token_ids", Verdict::kFine, [](D&) {}},
    {"token_ids", Verdict::kFine, [](D& d) { set_ids(d, kContext, kVocab - 1); }},
    {"token_ids", Verdict::kInvalid, [](D& d) { set_ids(d, kContext + 1, 1); }},
    {"token_ids", Verdict::kInvalid, [](D& d) { set_ids(d, 1, kVocab); }},
};

}  // namespace

TEST_CASE("what the tokenizer shall do is bounded by the context") {
  ModelLimits bounds = limits();
  bounds.longest_token_bytes = 2;
  for (size_t i = 0; i < std::size(kTokenizeRows); ++i) {
    CAPTURE(i);
    v1::TokenizeRequest request;
    request.set_text("x");
    kTokenizeRows[i].change(request);
    check_verdict(validate(request, bounds), kTokenizeRows[i].verdict, kTokenizeRows[i].field);
  }
  for (size_t i = 0; i < std::size(kDetokenizeRows); ++i) {
    CAPTURE(i);
    v1::DetokenizeRequest request;
    kDetokenizeRows[i].change(request);
    check_verdict(validate(request, bounds), kDetokenizeRows[i].verdict, kDetokenizeRows[i].field);
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

}  // namespace pelton
