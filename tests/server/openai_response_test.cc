#include "server/openai_response.h"

#include "server/json_view.h"
#include "server/sse_writer.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

void set_token(v1::TokenLogprob* token, int id, float logprob, const std::string& bytes) {
  token->set_token_id(id);
  token->set_logprob(logprob);
  token->set_rank(1);
  token->set_token(bytes);
}

template <typename Message>
Message sample_message() {
  Message message;
  message.set_model("m");
  message.mutable_usage()->set_prompt_tokens(3);
  message.mutable_usage()->set_cached_tokens(2);
  message.mutable_usage()->set_completion_tokens(1);
  message.add_prompt_token_ids(9);
  auto* choice = message.add_choices();
  choice->set_finish_reason(v1::FINISH_REASON_STOP);
  choice->set_stop_string("\n");
  choice->add_token_ids(5);
  auto* position = choice->add_logprobs();
  set_token(position->mutable_chosen(), 5, -0.5F, "\xC3");
  set_token(position->add_top(), 5, -0.5F, "\xC3");
  set_token(position->add_top(), 6, -1.25F, "b");
  return message;
}

AnswerShape full_shape() {
  AnswerShape shape;
  shape.return_token_ids = true;
  shape.logprobs = true;
  return shape;
}

constexpr char kUsage[] = R"({"prompt_tokens":3,"total_tokens":4,"completion_tokens":1,)"
                          R"("prompt_tokens_details":{"cached_tokens":2}})";

}  // namespace

TEST_CASE("a completion has exactly these bytes") {
  auto message = sample_message<v1::CompleteResponse>();
  message.mutable_choices(0)->set_text("a\"b");
  OpenAiWriter writer(false, full_shape(), "cmpl-1", 77, 1, 1);
  std::string out;
  writer.append_answer(out, std::vector{message});
  CHECK(out ==
        R"({"id":"cmpl-1","object":"text_completion","created":77,"model":"m","choices":[)"
        R"({"index":0,"text":"a\"b","logprobs":{"text_offset":[0],"token_logprobs":[-0.5],)"
        "\"tokens\":[\"\xEF\xBF\xBD\"],\"top_logprobs\":[{\"\xEF\xBF\xBD\":-0.5,\"b\":-1.25}]},"
        R"("finish_reason":"stop","stop_reason":"\n","token_ids":[5],"prompt_token_ids":[9]}],)"
        R"("usage":)" +
            std::string(kUsage) + R"(,"system_fingerprint":null})");
  CHECK(check_json(out, 64).ok());
}

TEST_CASE("a chat answer has exactly these bytes") {
  auto message = sample_message<v1::ChatResponse>();
  message.mutable_choices(0)->mutable_message()->add_content()->set_text("hi");
  OpenAiWriter writer(true, full_shape(), "chatcmpl-1", 77, 1, 1);
  std::string out;
  writer.append_answer(out, std::vector{message});
  CHECK(out ==
        R"({"id":"chatcmpl-1","object":"chat.completion","created":77,"model":"m","choices":[)"
        R"({"index":0,"message":{"role":"assistant","content":"hi","refusal":null},)"
        "\"logprobs\":{\"content\":[{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-0.5,\"bytes\":[195],"
        "\"top_logprobs\":[{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-0.5,\"bytes\":[195]},"
        R"({"token":"b","logprob":-1.25,"bytes":[98]}]}]},"finish_reason":"stop",)"
        R"("stop_reason":"\n","token_ids":[5]}],"usage":)" +
            std::string(kUsage) + R"(,"prompt_token_ids":[9],"system_fingerprint":null})");
  CHECK(check_json(out, 64).ok());
}

TEST_CASE("chunks of a completion stream have exactly these bytes") {
  OpenAiWriter writer(false, AnswerShape(), "cmpl-1", 77, 1, 1);
  v1::CompleteStreamResponse delta;
  delta.set_model("m");
  delta.add_choices()->set_text("a");
  std::string out;
  CHECK(writer.append_chunk(out, 0, delta));
  const std::string head =
      R"({"id":"cmpl-1","object":"text_completion","created":77,"model":"m","choices":[)";
  CHECK(out == head + R"({"index":0,"text":"a","logprobs":null,"finish_reason":null,)"
                      R"("stop_reason":null}]})");
  out.clear();
  delta.mutable_choices(0)->clear_text();
  CHECK_FALSE(writer.append_chunk(out, 0, delta));  // half a character: nothing to show
  CHECK(out.empty());
  delta.mutable_choices(0)->set_finish_reason(v1::FINISH_REASON_LENGTH);
  delta.mutable_choices(0)->set_stop_token_id(4);
  delta.mutable_usage()->set_completion_tokens(2);
  CHECK(writer.append_chunk(out, 0, delta));
  CHECK(out == head + R"({"index":0,"text":"","logprobs":null,"finish_reason":"length",)"
                      R"("stop_reason":4}]})");
  out.clear();
  writer.append_usage_chunk(out);
  CHECK(out == head + R"(],"usage":{"prompt_tokens":0,"total_tokens":2,"completion_tokens":2,)"
                      R"("prompt_tokens_details":{"cached_tokens":0}}})");
}

TEST_CASE("chunks of a chat stream have exactly these bytes") {
  AnswerShape shape;
  shape.continuous_usage = true;
  shape.return_token_ids = true;
  OpenAiWriter writer(true, shape, "c", 77, 1, 1);
  v1::ChatStreamResponse delta;
  delta.set_model("m");
  delta.add_prompt_token_ids(9);
  auto* choice = delta.add_choices();
  choice->mutable_message()->set_role(v1::ROLE_ASSISTANT);
  choice->mutable_message()->add_content()->set_text("a");
  std::string out;
  CHECK(writer.append_chunk(out, 0, delta));
  const std::string head =
      R"({"id":"c","object":"chat.completion.chunk","created":77,"model":"m","choices":[)";
  const std::string usage = R"("usage":{"prompt_tokens":0,"total_tokens":0,"completion_tokens":0,)"
                            R"("prompt_tokens_details":{"cached_tokens":0}}})";
  CHECK(out == head +
                   R"({"index":0,"delta":{"role":"assistant","content":"a"},"logprobs":null,)"
                   R"("finish_reason":null,"stop_reason":null,"token_ids":[]}],)"
                   R"("prompt_token_ids":[9],)" +
                   usage);
  out.clear();
  delta.clear_prompt_token_ids();
  delta.mutable_choices(0)->clear_message();
  delta.mutable_choices(0)->set_finish_reason(v1::FINISH_REASON_STOP);
  CHECK(writer.append_chunk(out, 0, delta));
  CHECK(out == head +
                   R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop",)"
                   R"("stop_reason":null,"token_ids":[]}],)" +
                   usage);
}

TEST_CASE("tool calls of an answer take the place of its content") {
  v1::ChatResponse message;
  auto* answer = message.add_choices();
  answer->set_finish_reason(v1::FINISH_REASON_TOOL_CALLS);
  auto* call = answer->mutable_message()->add_tool_calls();
  call->set_id("call_1");
  call->set_name("f");
  call->set_arguments_json("{\"a\":1}");
  OpenAiWriter writer(true, AnswerShape(), "c", 1, 1, 1);
  std::string out;
  writer.append_answer(out, std::vector{message});
  CHECK(out.find(R"("message":{"role":"assistant","content":null,"refusal":null,"tool_calls":)"
                 R"([{"id":"call_1","type":"function","function":{"name":"f",)"
                 R"("arguments":"{\"a\":1}"}}]},"logprobs":null,"finish_reason":"tool_calls")") !=
        std::string::npos);
}

TEST_CASE("several prompts become several choices of one answer") {
  v1::CompleteResponse message;
  message.add_choices()->set_text("x");
  message.mutable_usage()->set_prompt_tokens(2);
  OpenAiWriter writer(false, AnswerShape(), "c", 1, 2, 1);
  std::string out;
  writer.append_answer(out, std::vector{message, message});
  CHECK(out.find(R"({"index":0,"text":"x")") != std::string::npos);
  CHECK(out.find(R"({"index":1,"text":"x")") != std::string::npos);
  CHECK(out.find(R"("prompt_tokens":4)") != std::string::npos);
}

TEST_CASE("text offsets go on over the chunks of a stream") {
  OpenAiWriter writer(false, full_shape(), "c", 1, 1, 1);
  v1::CompleteStreamResponse delta;
  auto* choice = delta.add_choices();
  choice->set_text("\xC3\xA9t");
  set_token(choice->add_logprobs()->mutable_chosen(), 1, -1, "\xC3\xA9");
  set_token(choice->add_logprobs()->mutable_chosen(), 2, -1, "t");
  std::string out;
  writer.append_chunk(out, 0, delta);
  CHECK(out.find(R"("text_offset":[0,1])") != std::string::npos);
  out.clear();
  writer.append_chunk(out, 0, delta);
  CHECK(out.find(R"("text_offset":[2,3])") != std::string::npos);
}

TEST_CASE("prompt logprobs follow vllm's shape") {
  v1::CompleteResponse message;
  message.add_choices();
  auto* position = message.add_prompt_logprobs();
  set_token(position->mutable_chosen(), 7, -2, "x");
  set_token(position->add_top(), 7, -2, "x");
  set_token(position->add_top(), 8, -1, "y");
  AnswerShape shape;
  shape.prompt_logprobs = true;
  OpenAiWriter writer(false, shape, "c", 1, 1, 1);
  std::string out;
  writer.append_answer(out, std::vector{message});
  CHECK(out.find(R"("prompt_logprobs":[null,{"7":{"logprob":-2,"rank":1,"decoded_token":"x"},)"
                 R"("8":{"logprob":-1,"rank":1,"decoded_token":"y"}}])") != std::string::npos);
}

TEST_CASE("events are framed as chunks of their own length") {
  std::string out;
  SseWriter chunked(true);
  chunked.begin(out);
  out += "{}";
  chunked.end(out);
  chunked.comment(out, "keep-alive");
  chunked.done(out);
  CHECK(out ==
        "00000a\r\ndata: {}\n\n\r\n00000e\r\n: keep-alive\n\n\r\n"
        "00000e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
  out.clear();
  SseWriter bare(false);
  bare.begin(out);
  out += "{}";
  bare.end(out);
  bare.done(out);
  CHECK(out == "data: {}\n\ndata: [DONE]\n\n");
}

TEST_CASE("an event above sixteen mebibytes still has its length in front") {
  std::string out = "x";
  SseWriter sse(true);
  sse.begin(out);
  out.append(size_t{17} << 20, 'a');
  sse.end(out);
  CHECK(out.substr(0, 16) == "x1100008\r\ndata: ");
}

}  // namespace pelton
