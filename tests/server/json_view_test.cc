#include "server/json_view.h"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <random>

#include "core/utf8.h"
#include "server/json_writer.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

JsonView checked(std::string_view text) {
  REQUIRE(check_json(text, 64).ok());
  return JsonView::root(text);
}

// The same document as Boost's tree and as our views.
void require_equal(const boost::json::value& tree, JsonView view) {
  switch (tree.kind()) {
    case boost::json::kind::null:
      REQUIRE(view.kind() == JsonView::Kind::kNull);
      break;
    case boost::json::kind::bool_:
      REQUIRE(view.boolean() == tree.as_bool());
      break;
    case boost::json::kind::int64:
      REQUIRE(view.integer() == tree.as_int64());
      break;
    case boost::json::kind::uint64:
      REQUIRE(view.unsigned_integer() == tree.as_uint64());
      break;
    case boost::json::kind::double_:
      REQUIRE(*view.number() == Approx(tree.as_double()));
      break;
    case boost::json::kind::string:
      REQUIRE(view.string() == std::string(tree.as_string()));
      break;
    case boost::json::kind::array: {
      size_t i = 0;
      view.for_each_element([&](JsonView element) {
        REQUIRE(i < tree.as_array().size());
        require_equal(tree.as_array()[i++], element);
        return true;
      });
      REQUIRE(i == tree.as_array().size());
      break;
    }
    case boost::json::kind::object:
      for (const auto& member : tree.as_object()) {
        require_equal(member.value(), view[std::string(member.key())]);
      }
      break;
  }
}

std::string random_json(std::mt19937& random, int depth) {
  static const char* kScalars[] = {"null",
                                   "true",
                                   "false",
                                   "0",
                                   "-7",
                                   "123456789012",
                                   "1.5e3",
                                   "\"\"",
                                   "\"a\\n\\u00e9\\ud83d\\ude00\\\\\\\"\"",
                                   "\"é,]}:\"",
                                   "18446744073709551615",
                                   "-0.25"};
  const auto pick = [&](int n) { return static_cast<int>(random() % n); };
  const std::string space(pick(3), pick(2) == 0 ? ' ' : '\n');
  if (depth == 0 || pick(3) == 0) return space + kScalars[pick(std::size(kScalars))] + space;
  const bool object = pick(2) == 0;
  std::string out = object ? "{" : "[";
  const int count = pick(4);
  for (int i = 0; i < count; ++i) {
    if (i > 0) out += "," + space;
    if (object) out += "\"k\\u0041" + std::to_string(pick(3)) + "\"" + space + ":";
    out += random_json(random, depth - 1);
  }
  return out + space + (object ? "}" : "]") + space;
}

}  // namespace

TEST_CASE("json views read what a tree of the same text holds") {
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = random_json(random, 5);
    require_equal(boost::json::parse(text), checked(text));
  }
}

TEST_CASE("json that is broken or not utf8 or too deep is refused") {
  for (const char* bad :
       {"", " ", "{", "{\"a\":}", "[1,]", "nul", "\"\\ud800\"", "\"\xff\"", "\"\xc0\x80\"", "NaN",
        "Infinity", "01", "1 2", "{\"a\" 1}", "'a'", "\"\x01\"", "[1]x", "+1", "{1:2}"}) {
    CAPTURE(bad);
    CHECK_FALSE(check_json(bad, 64).ok());
  }
  CHECK(check_json(std::string(64, '[') + std::string(64, ']'), 64).ok());
  CHECK_FALSE(check_json(std::string(65, '[') + std::string(65, ']'), 64).ok());
  CHECK_FALSE(check_json(std::string(8 << 20, '['), 64).ok());
}

TEST_CASE("json integers stay integers and fractions are none") {
  CHECK(checked("9223372036854775807").integer() == INT64_MAX);
  CHECK(checked("18446744073709551615").unsigned_integer() == UINT64_MAX);
  CHECK(checked("16.0").integer() == 16);
  CHECK(checked("1e3").integer() == 1000);
  CHECK(checked("16.5").integer() == std::nullopt);
  CHECK(checked("1e300").integer() == std::nullopt);
  CHECK(checked("\"16\"").integer() == std::nullopt);
  CHECK(checked("-1").unsigned_integer() == std::nullopt);
  CHECK(*checked("0.1").number() == 0.1);
  CHECK(*checked("1e-999").number() == 0.0);
}

TEST_CASE("the last of two members of one name counts") {
  CHECK(checked(R"({"a":1,"\u0061":2})")["a"].integer() == 2);
}

TEST_CASE("raw members keep key order and digits") {
  CHECK(checked(R"({"s":{"b":1.0,"a":1e2}})")["s"].raw() == R"({"b":1.0,"a":1e2})");
}

TEST_CASE("json strings survive writing and reading") {
  std::mt19937 random(3);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes;
    for (int k = random() % 12; k > 0; --k) bytes += static_cast<char>(random());
    const std::string text = to_valid_utf8(bytes);
    std::string out;
    append_json_string(out, text);
    REQUIRE(checked(out).string() == text);
  }
}

TEST_CASE("valid utf8 is left as it is") {
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xED\x9F\xBF\xF4\x8F\xBF\xBF";
  CHECK(to_valid_utf8(text) == text);
  CHECK(count_code_points(text) == 6);
  CHECK(to_valid_utf8("\xED\xA0\x80") == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
}

TEST_CASE("logprobs that json cannot say become a number") {
  std::string out;
  append_json_logprob(out, -std::numeric_limits<float>::infinity());
  out += ' ';
  append_json_logprob(out, std::numeric_limits<float>::quiet_NaN());
  out += ' ';
  append_json_logprob(out, -0.5F);
  CHECK(out == "-9999 -9999 -0.5");
}

}  // namespace pelton
