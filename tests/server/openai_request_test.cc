#include "server/openai_request.h"

#include <google/protobuf/text_format.h>

#include "server/openai_error.h"
#include "server/validate_chat.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

std::string short_text(const google::protobuf::Message& message) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  std::string out;
  printer.PrintToString(message, &out);
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

struct Mapping {
  std::string json;   // members beside the prompt or messages
  std::string proto;  // what they become, in the sampling parameters
};

}  // namespace

TEST_CASE("every sampling member lands in its proto field") {
  const Mapping table[] = {
      {R"("max_tokens":5)", "max_tokens: 5"},
      {R"("max_tokens":5,"max_completion_tokens":7)", "max_tokens: 7"},
      {R"("min_tokens":3)", "min_tokens: 3"},
      {R"("temperature":0)", "temperature: 0"},
      {R"("top_k":-1)", "top_k: -1"},
      {R"("top_p":0.5)", "top_p: 0.5"},
      {R"("min_p":0.25)", "min_p: 0.25"},
      {R"("seed":18446744073709551615)", "seed: 18446744073709551615"},
      {R"("seed":-1)", ""},
      {R"("seed":-2)", "seed: 18446744073709551614"},
      {R"("seed":-9223372036854775808)", "seed: 9223372036854775808"},
      {R"("seed":null)", ""},
      {R"("stop":"a")", R"(stop: "a")"},
      {R"("stop":["a","b"])", R"(stop: "a" stop: "b")"},
      {R"("stop_token_ids":[1,2])", "stop_token_ids: 1 stop_token_ids: 2"},
      {R"("include_stop_str_in_output":true)", "include_stop_str_in_output: true"},
      {R"("ignore_eos":true)", "ignore_eos: true"},
      {R"("prompt_logprobs":2)", "prompt_logprobs: 2"},
      {R"("skip_special_tokens":false)", "skip_special_tokens: false"},
      {R"("detokenize":false)", "detokenize: false"},
      {R"("spaces_between_special_tokens":false)", "spaces_between_special_tokens: false"},
      {R"("n":2)", "n: 2"},
      {R"("presence_penalty":0.5)", "presence_penalty: 0.5"},
      {R"("frequency_penalty":-0.5)", "frequency_penalty: -0.5"},
      {R"("repetition_penalty":1.5)", "repetition_penalty: 1.5"},
      {R"("logit_bias":{"7":1.5})", "logit_bias { key: 7 value: 1.5 }"},
      {R"("allowed_token_ids":[4])", "allowed_token_ids: 4"},
      {R"("bad_words":["x"])", R"(bad_words: "x")"},
      {R"("truncate_prompt_tokens":9)", "truncate_prompt_tokens: 9"},
      {R"("thinking_token_budget":9)", "thinking_token_budget: 9"},
      {R"("thinking_token_budget":-1)", "thinking_token_budget: -1"},
      {R"("logprob_token_ids":[9])", "logprob_token_ids: 9"},
      {R"("repetition_detection":{"max_pattern_size":8,"min_count":3})",
       "repetition_detection { max_pattern_size: 8 min_count: 3 }"},
      {R"("prompt_logprob_token_ids":[9])", "prompt_logprob_token_ids: 9"},
      {R"("prompt_logprob_start":3)", "prompt_logprob_start: 3"},
      {R"("stream_interval":4)", "stream_interval: 4"},
      {R"("guided_json":{"b":1,"a":2})",
       R"(structured_output { json_schema: "{\"b\":1,\"a\":2}" })"},
      {R"("guided_regex":"a+")", R"(structured_output { regex: "a+" })"},
      {R"("guided_grammar":"g")", R"(structured_output { grammar: "g" })"},
      {R"("guided_choice":["y"])", R"(structured_output { choice { values: "y" } })"},
      {R"("structured_outputs":{"json":"{}"})", R"(structured_output { json_schema: "{}" })"},
      {R"("structured_outputs":{"json_object":true})", "structured_output { json_object: true }"},
      {R"("structured_outputs":{"structural_tag":"t"})",
       R"(structured_output { structural_tag: "t" })"},
      {R"("unknown_member":[1,{"x":2}],"user":"me","store":true)", ""},
  };
  for (const Mapping& row : table) {
    CAPTURE(row.json);
    FieldNames names;
    const auto completion = parse_completion_body("{\"prompt\":\"p\"," + row.json + "}", &names);
    REQUIRE(completion.ok());
    CHECK(short_text(completion->request.sampling()) == row.proto);
    const auto chat =
        parse_chat_body(R"({"messages":[{"role":"user","content":"c"}],)" + row.json + "}", &names);
    REQUIRE(chat.ok());
    CHECK(short_text(chat->request.sampling()) == row.proto);
  }
}

TEST_CASE("completion members land in the request") {
  FieldNames names;
  const auto body = parse_completion_body(
      R"({"model":"m","prompt":"p","logprobs":3,"echo":true,"suffix":"s","priority":-4,
          "cache_salt":"x","add_special_tokens":false,"return_token_ids":true,"stream":true,
          "stream_options":{"include_usage":true,"continuous_usage_stats":true},"best_of":1,
          "response_format":{"type":"json_object"}})",
      &names);
  REQUIRE(body.ok());
  CHECK(short_text(body->request) ==
        R"(model: "m" sampling { logprobs: 3 structured_output { json_object: true } } )"
        R"(scheduling { priority: -4 cache_salt: "x" } add_special_tokens: false )"
        R"(return_token_ids: true echo: true suffix: "s")");
  CHECK(body->shape.stream);
  CHECK(body->shape.include_usage);
  CHECK(body->shape.continuous_usage);
  CHECK(body->shape.logprobs);
  CHECK(names.structured_output == "response_format");
}

TEST_CASE("prompts come as text or ids or lists of these") {
  const std::pair<const char*, std::vector<std::string>> table[] = {
      {R"("a")", {R"(text: "a")"}},
      {R"(["a","b"])", {R"(text: "a")", R"(text: "b")"}},
      {"[1,2]", {"token_ids { ids: 1 ids: 2 }"}},
      {"[[1],[2,3]]", {"token_ids { ids: 1 }", "token_ids { ids: 2 ids: 3 }"}},
      {"[[]]", {"token_ids { }"}},
      {R"("")", {R"(text: "")"}},
  };
  for (const auto& [json, expected] : table) {
    CAPTURE(json);
    FieldNames names;
    const auto body = parse_completion_body("{\"prompt\":" + std::string(json) + "}", &names);
    REQUIRE(body.ok());
    REQUIRE(body->prompts.size() == expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      CHECK(short_text(body->prompts[i]) == expected[i]);
    }
  }
}

TEST_CASE("chat members land in the request") {
  FieldNames names;
  const auto body = parse_chat_body(
      R"({"model":"m","messages":[
            {"role":"system","content":"s"},
            {"role":"developer","content":[{"type":"text","text":"a"},"b"]},
            {"role":"user","name":"u","content":[{"type":"image_url","image_url":{"url":"x"}}]},
            {"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[
               {"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]},
            {"role":"tool","tool_call_id":"1","content":"t"}],
          "tools":[{"type":"function","function":{"name":"f","description":"d","strict":true,
                    "parameters":{"z":1.0,"a":[]}}}],
          "tool_choice":"none","parallel_tool_calls":false,"logprobs":true,"top_logprobs":2,
          "add_generation_prompt":false,"continue_final_message":true,
          "chat_template_kwargs":{"enable_thinking": false},
          "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"q":1},
                             "strict":false}}})",
      &names);
  REQUIRE(body.ok());
  CHECK(short_text(body->request) ==
        R"(model: "m" messages { role: ROLE_SYSTEM content { text: "s" } } )"
        R"(messages { role: ROLE_DEVELOPER content { text: "a" } content { text: "b" } } )"
        R"(messages { role: ROLE_USER content { image { media_type: "image/*" } } name: "u" } )"
        R"(messages { role: ROLE_ASSISTANT tool_calls { id: "1" name: "f" )"
        R"(arguments_json: "{\"a\": 1}" } reasoning: "r" } )"
        R"(messages { role: ROLE_TOOL content { text: "t" } tool_call_id: "1" } )"
        R"(sampling { logprobs: 2 } scheduling { } )"
        R"(tools { name: "f" description: "d" parameters_json: "{\"z\":1.0,\"a\":[]}" )"
        R"(strict: true } tool_choice { mode: TOOL_CHOICE_MODE_NONE } parallel_tool_calls: false )"
        R"(response_format { json_schema { name: "n" schema_json: "{\"q\":1}" strict: false } } )"
        R"(add_generation_prompt: false continue_final_message: true )"
        R"(template_kwargs_json: "{\"enable_thinking\": false}")");
}

TEST_CASE("an absent max_tokens stays absent for the service core to choose") {
  FieldNames names;
  CHECK_FALSE(
      parse_completion_body(R"({"prompt":"p"})", &names)->request.sampling().has_max_tokens());
}

TEST_CASE("a wrong completion body names its member") {
  const std::pair<const char*, const char*> table[] = {
      {"{}", "prompt"},
      {R"({"prompt":5})", "prompt"},
      {R"({"prompt":[]})", "prompt"},
      {R"({"prompt":["a",1]})", "prompt"},
      {R"({"prompt":[1,"a"]})", "prompt"},
      {R"({"prompt":[1.5]})", "prompt"},
      {R"({"prompt":[4294967296]})", "prompt"},
      {R"({"prompt":"p","max_tokens":"5"})", "max_tokens"},
      {R"({"prompt":"p","max_tokens":99999999999})", "max_tokens"},
      {R"({"prompt":"p","temperature":"hot"})", "temperature"},
      {R"({"prompt":"p","temperature":1e300})", "temperature"},
      {R"({"prompt":"p","temperature":true})", "temperature"},
      {R"({"prompt":"p","top_k":1.5})", "top_k"},
      {R"({"prompt":"p","stop":5})", "stop"},
      {R"({"prompt":"p","stop":[5]})", "stop"},
      {R"({"prompt":"p","seed":-9223372036854775809})", "seed"},
      {R"({"prompt":"p","seed":-1.5})", "seed"},
      {R"({"prompt":"p","stream":"yes"})", "stream"},
      {R"({"prompt":"p","stream_options":{"include_usage":true}})", "stream_options"},
      {R"({"prompt":"p","logit_bias":{"x":1}})", "logit_bias"},
      {R"({"prompt":"p","logit_bias":[1]})", "logit_bias"},
      {R"({"prompt":"p","logprobs":true})", "logprobs"},
      {R"({"prompt":"p","best_of":2})", "best_of"},
      {R"({"prompt":"p","use_beam_search":true})", "use_beam_search"},
      {R"({"prompt":"p","prompt_embeds":"x"})", "prompt_embeds"},
      {R"({"prompt":"p","guided_regex":"a","guided_json":{}})", "guided_regex"},
      {R"({"prompt":"p","response_format":{"type":"yaml"}})", "response_format.type"},
      {R"({"prompt":"p","model":7})", "model"},
  };
  for (const auto& [json, field] : table) {
    CAPTURE(json);
    FieldNames names;
    const auto body = parse_completion_body(json, &names);
    REQUIRE_FALSE(body.ok());
    CHECK(json_field(*error_field(body.status()), names) == field);
    CHECK(http_status(body.status()) == 400);
  }
}

TEST_CASE("a wrong chat body names its member") {
  const std::pair<const char*, const char*> table[] = {
      {R"({})", "messages"},
      {R"({"messages":[]})", "messages"},
      {R"({"messages":"hi"})", "messages"},
      {R"({"messages":["hi"]})", "messages[0]"},
      {R"({"messages":[{"content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user","content":5}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":[{"type":"smell"}]}]})",
       "messages[0].content[0].type"},
      {R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})",
       "messages[0].content[0].text"},
      {R"({"messages":[{"role":"user","content":"x"}],"top_logprobs":2})", "top_logprobs"},
      {R"({"messages":[{"role":"user","content":"x"}],"tools":[{"type":"x"}]})", "tools[0].type"},
      {R"({"messages":[{"role":"user","content":"x"}],"tool_choice":"maybe"})", "tool_choice"},
      {R"({"messages":[{"role":"user","content":"x"}],"chat_template":"x"})", "chat_template"},
      {R"({"messages":[{"role":"user","content":"x"}],"functions":[{}]})", "functions"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{}]}]})",
       "messages[0].tool_calls[0].function.name"},
  };
  for (const auto& [json, field] : table) {
    CAPTURE(json);
    FieldNames names;
    const auto body = parse_chat_body(json, &names);
    REQUIRE_FALSE(body.ok());
    CHECK(json_field(*error_field(body.status()), names) == field);
  }
}

TEST_CASE("lists in a body are bounded while they are read") {
  const auto many = [](int count, std::string_view item) {
    std::string out = "[";
    for (int i = 0; i < count; ++i) out += (i > 0 ? "," : "") + std::string(item);
    return out + "]";
  };
  FieldNames names;
  CHECK(parse_completion_body("{\"prompt\":" + many(kMaxPrompts, "\"a\"") + "}", &names).ok());
  CHECK_FALSE(
      parse_completion_body("{\"prompt\":" + many(kMaxPrompts + 1, "\"a\"") + "}", &names).ok());
  const std::string message = R"({"role":"user","content":"x"})";
  CHECK_FALSE(
      parse_chat_body("{\"messages\":" + many(kMaxChatMessages + 1, message) + "}", &names).ok());
  const auto conversation = [&](int messages, int parts) {
    const std::string each = R"({"role":"user","content":)" + many(parts, R"("")") + "}";
    return parse_chat_body("{\"messages\":" + many(messages, each) + "}", &names).status();
  };
  CHECK(conversation(16, kMaxContentParts / 16).ok());
  CHECK(error_field(conversation(17, kMaxContentParts / 16)) == "messages[16].content");
  CHECK_FALSE(conversation(2700, 1000).ok());
  CHECK_FALSE(conversation(1, kMaxChatMessages + 1).ok());
  CHECK_FALSE(parse_chat_body(
                  "{\"messages\":[" + message + "],\"tools\":" +
                      many(kMaxTools + 1, R"({"type":"function","function":{"name":"f"}})") + "}",
                  &names)
                  .ok());
}

TEST_CASE("tokenize takes a prompt or a conversation") {
  FieldNames names;
  const auto text = parse_tokenize_body(
      R"({"prompt":"p","add_special_tokens":false,"return_token_strs":true})", &names);
  REQUIRE(text.ok());
  CHECK(short_text(*text) == R"(text: "p" add_special_tokens: false return_token_strings: true)");
  const auto chat = parse_tokenize_body(
      R"({"model":"m","messages":[{"role":"user","content":"x"}],"add_generation_prompt":false})",
      &names);
  REQUIRE(chat.ok());
  CHECK(short_text(*chat) == R"(model: "m" chat { model: "m" messages { role: ROLE_USER )"
                             R"(content { text: "x" } } add_generation_prompt: false })");
  CHECK_FALSE(parse_tokenize_body("{}", &names).ok());
  CHECK_FALSE(parse_detokenize_body("{}").ok());
  CHECK(parse_detokenize_body(R"({"tokens":[1,2]})")->token_ids_size() == 2);
}

TEST_CASE("proto paths become the names of the body") {
  FieldNames completion;
  FieldNames chat;
  chat.chat = true;
  chat.max_tokens = "max_completion_tokens";
  chat.structured_output = "guided_json";
  CHECK(json_field("sampling.top_p", completion) == "top_p");
  CHECK(json_field("sampling.logprobs", completion) == "logprobs");
  CHECK(json_field("sampling.logprobs", chat) == "top_logprobs");
  CHECK(json_field("sampling.max_tokens", chat) == "max_completion_tokens");
  CHECK(json_field("sampling.structured_output.regex", chat) == "guided_json");
  CHECK(json_field("sampling.stop[3]", completion) == "stop[3]");
  CHECK(json_field("scheduling.priority", chat) == "priority");
  CHECK(json_field("prompt.token_ids[2]", completion) == "prompt");
  CHECK(json_field("tools[1].parameters_json", chat) == "tools[1].function.parameters");
  CHECK(json_field("messages[0].tool_calls[2].arguments_json", chat) ==
        "messages[0].tool_calls[2].function.arguments");
  CHECK(json_field("response_format.json_schema.schema_json", chat) ==
        "response_format.json_schema.schema");
  CHECK(json_field("template_kwargs_json", chat) == "chat_template_kwargs");
  CHECK(json_field("chat.messages[1].role", chat) == "messages[1].role");
}

TEST_CASE("statuses become http errors of openai's shape") {
  std::string out;
  append_error(out, invalid_field("sampling.top_p", "must be in (0, 1]"), FieldNames());
  CHECK(out == R"({"error":{"message":"top_p: must be in (0, 1]","type":"invalid_request_error",)"
               R"("param":"top_p","code":"invalid_value"}})");
  out.clear();
  append_error(out, unsupported_field("sampling.n", "above 1 is not built yet"), FieldNames());
  CHECK(out == R"({"error":{"message":"n: above 1 is not built yet",)"
               R"("type":"invalid_request_error","param":"n","code":"unsupported_parameter"}})");
  CHECK(http_status(absl::UnauthenticatedError("")) == 401);
  CHECK(http_status(absl::NotFoundError("")) == 404);
  CHECK(http_status(absl::UnavailableError("")) == 503);
  CHECK(http_status(absl::InternalError("")) == 500);
  CHECK(http_status(absl::DeadlineExceededError("")) == 504);
  const Status busy = overloaded("queue", std::chrono::milliseconds(1500));
  CHECK(http_status(busy) == 429);
  CHECK(retry_after_s(busy) == 2);
  CHECK(retry_after_s(absl::InternalError("")) == 0);
}

}  // namespace pelton
