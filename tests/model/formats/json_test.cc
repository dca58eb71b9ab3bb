#include "model/formats/json.h"

#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/catch.h"

namespace pelton {
namespace {

Status parse(const std::string& text, const JsonLimits& limits = {}) {
  return parse_json_object(text, "test", limits).status();
}

}  // namespace

TEST_CASE("a JSON object is read as it stands") {
  auto value = parse_json_object(R"( {"a": [1, -2, 3.5, true, null, "\u00e9"]} )", "test", {});
  REQUIRE(value.ok());
  const Json& a = *json_member(*value, "a");
  CHECK(json_int(a[0]) == 1);
  CHECK(json_int(a[1]) == -2);
  CHECK(json_int(a[2]) == std::nullopt);
  CHECK(json_double(a[2]) == 3.5);
  CHECK(json_double(a[1]) == -2.0);
  CHECK(json_int(a[3]) == std::nullopt);
  CHECK(json_string(a[5]) == "\xC3\xA9");
  CHECK(json_member(a, "x") == nullptr);
}

TEST_CASE("an integer beyond 63 bits is not an int") {
  auto value = parse_json_object(R"({"a": 18446744073709551615, "b": 1e400})", "test", {});
  if (value.ok()) CHECK(json_int(*json_member(*value, "a")) == std::nullopt);
  CHECK((value.ok() || value.status().code() == absl::StatusCode::kInvalidArgument));
}

TEST_CASE("malformed JSON is a typed error") {
  for (const std::string text :
       {"", "{", "[1]", "1", "{\"a\":1}x", "{\"a\":1}{}", "{\"a\":}", "{\"a\" 1}", "{'a':1}",
        "{\"a\":01}", "{\"a\":NaN}", "{\"\xFF\":1}", "{\"\xED\xA0\x80\":1}", "{\"\\ud800\":1}",
        "{\"a\":1,}", "{// no comments\n}"}) {
    INFO(text);
    CHECK(parse(text).code() == absl::StatusCode::kInvalidArgument);
  }
  CHECK(parse(std::string("{}\0{", 4)).code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a duplicate key is refused by name at any depth") {
  const Status status = parse(R"({"x": [{"same": 1, "other": 2, "same": 3}]})");
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(status.message()) == "test: duplicate key \"same\"");
  CHECK(parse(R"({"x": {"same": 1}, "y": {"same": 1}})").ok());
}

TEST_CASE("JSON is bounded in bytes and depth and number of values") {
  CHECK(parse("{\"a\":1}", {.max_bytes = 7}).ok());
  CHECK(parse("{\"a\":1}", {.max_bytes = 6}).code() == absl::StatusCode::kResourceExhausted);
  CHECK(parse("{\"a\":[[1]]}", {.max_depth = 3}).ok());
  CHECK(parse("{\"a\":[[1]]}", {.max_depth = 2}).code() == absl::StatusCode::kResourceExhausted);
  CHECK(parse("{\"a\":1}", {.max_values = 3}).ok());
  CHECK(parse("{\"a\":1}", {.max_values = 2}).code() == absl::StatusCode::kResourceExhausted);
  // Deep nesting must not exhaust the stack before the limit is seen.
  const std::string deep = "{\"a\":" + std::string(1 << 20, '[');
  CHECK(parse(deep).code() == absl::StatusCode::kResourceExhausted);
}

}  // namespace pelton
