// What a template may use: instructions, output, memory, time, and the size of what it is given.
#include <chrono>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/text/chat_fixture.h"
#include "tests/text/golden.h"
#include "text/chat_template.h"

namespace pelton {

using namespace text_test;  // NOLINT: this file is about its helpers

TEST_CASE("a template that runs away is stopped", "[text]") {
  const auto tokenizer = tokenizer_from_json("bpe_qwen2");
  const std::vector<std::string> sources = {
      "{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}",
      "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}"
      "{% endfor %}{{ ns.x | length }}",
      "{{ 'x' * 99999999 }}{{ 'x' * 99999999 }}{{ 'x' * 99999999 }}",
      "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
  };
  for (const std::string& source : sources) {
    INFO(source);
    const auto chat = template_of(source, *tokenizer);
    const Status status = chat->render(user_says("hi")).status();
    INFO(status.ToString());
    CHECK_FALSE(status.ok());
  }
  ChatTemplateOptions options;
  options.max_output_bytes = 100;
  const auto chat = template_of("{{ messages[0].content }}", *tokenizer, options);
  CHECK(chat->render(user_says(std::string(100, 'a'))).ok());
  CHECK(chat->render(user_says(std::string(101, 'a'))).status().code() ==
        absl::StatusCode::kResourceExhausted);
}

TEST_CASE("a template whose values double is stopped by the memory it holds", "[text]") {
  const auto tokenizer = tokenizer_from_json("bpe_qwen2");
  std::string lists = "{% set l = [1, 2] %}";
  for (int i = 0; i < 60; ++i) lists += "{% set l = l + l %}";
  // Lazy and small until it is deep; then 128 Mi values at once.
  std::string late = "{% set l = [1] %}";
  for (int i = 0; i < 27; ++i) late += "{% set l = l + l %}";
  for (int i = 0; i < 10; ++i) late += "{% set l = l + [1] %}";
  for (const std::string& list : {lists, late}) {
    const std::string source = list + "{{ l | length }}";
    const auto chat = template_of(source, *tokenizer);
    for (const char* why : {"holds over", "not run again"}) {
      const Status status = chat->render(user_says("hi")).status();
      CHECK(status.code() == absl::StatusCode::kResourceExhausted);
      CHECK(std::string(status.message()).find(why) != std::string::npos);
    }
  }
  CHECK(template_of("{{ messages[0].content }}", *tokenizer)->render(user_says("hi")).value() ==
        "hi");
}

TEST_CASE("a template that goes on and on is stopped when its time is up", "[text]") {
  const auto tokenizer = tokenizer_from_json("bpe_qwen2");
  ChatTemplateOptions options;
  options.fuel = uint64_t{1} << 62;  // years
  options.max_time = std::chrono::milliseconds(50);
  const auto chat = template_of(
      "{% for i in range(99999) %}{% for j in range(99999) %}"
      "{% set x = i ~ j %}{% endfor %}{% endfor %}",
      *tokenizer, options);
  for (const char* why : {"takes too long", "not run again"}) {
    const Status status = chat->render(user_says("hi")).status();
    CHECK(status.code() == absl::StatusCode::kResourceExhausted);
    CHECK(std::string(status.message()).find(why) != std::string::npos);
  }
}

TEST_CASE("input at its bounds does not bring a template to its own", "[text]") {
  const auto tokenizer = tokenizer_from_json("bpe_qwen2");
  const auto chat = template_of(
      "{% for m in messages %}<|im_start|>{{ m.role ~ ' ' ~ m.content }}<|im_end|>{% endfor %}",
      *tokenizer);
  ChatInputs inputs;
  // Marks go into each of these, so that copies grow.
  std::string hostile;
  while (hostile.size() < (7U << 20)) hostile += "<|im_end|>";
  inputs.messages_json = R"([{"role": "user", "content": ")" + hostile + R"("}])";
  CHECK(chat->render(inputs).ok());
  std::string zeros = "0";
  for (int i = 1; i < 200000; ++i) zeros += ",0";
  inputs.messages_json = R"([{"role": "user", "content": [)" + zeros + "]}]";
  CHECK(chat->render(inputs).ok());
  inputs.extra_kwargs_json = R"({"x": [)" + zeros + "]}";
  CHECK(chat->render(inputs).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(chat->render(user_says("a, [b], {c: \"d\"}")).ok());
}

}  // namespace pelton
