// Ids and texts against the reference tokenizers, from tokenizer.json and from GGUF.
#include "text/tokenizer.h"

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/catch.h"
#include "tests/text/golden.h"

namespace pelton {
namespace {

using namespace text_test;  // NOLINT: this file is about its helpers

std::vector<std::string> hard_strings() {
  const boost::json::value strings = golden_json("hard_strings.json");
  std::vector<std::string> result;
  for (const boost::json::value& text : strings.as_array()) result.push_back(string_of(text));
  return result;
}

std::vector<TokenId> encoded(const Tokenizer& tokenizer, const std::string& text, bool add,
                             SpecialTokens special) {
  StatusOr<std::vector<TokenId>> ids = tokenizer.encode(text, add, special);
  INFO(ids.status().ToString());
  REQUIRE(ids.ok());
  return *ids;
}

bool has_replacement(const std::string& text) {
  return text.find("\xEF\xBF\xBD") != std::string::npos;
}

void check_tiny(const Tokenizer& tokenizer, const std::string& name) {
  const boost::json::value golden = golden_json(name + "/ids.json");
  const std::vector<std::string> strings = hard_strings();
  const boost::json::array& cases = golden.at("strings").as_array();
  REQUIRE(cases.size() == strings.size());
  for (size_t i = 0; i < strings.size(); ++i) {
    INFO(name << " string " << i << ": " << strings[i].substr(0, 200));
    const boost::json::value& expected = cases[i];
    CHECK(encoded(tokenizer, strings[i], false, SpecialTokens::kParse) ==
          ids_of(expected.at("ids")));
    CHECK(encoded(tokenizer, strings[i], true, SpecialTokens::kParse) ==
          ids_of(expected.at("with_special")));
    CHECK(encoded(tokenizer, strings[i], false, SpecialTokens::kAsText) ==
          ids_of(expected.at("literal")));
  }
  int compared = 0;
  for (const boost::json::value& expected : golden.at("decode").as_array()) {
    const std::vector<TokenId> ids = ids_of(expected.at("ids"));
    const std::string text = string_of(expected.at("text"));
    const std::string shown = string_of(expected.at("text_skip_special"));
    // transformers makes U+FFFD of every byte of a byte-fallback run that is not UTF-8 as a whole;
    // we keep the characters that are.
    const bool byte_fallback = name.starts_with("sp_");
    if (!byte_fallback || !has_replacement(text)) CHECK(tokenizer.decode(ids, false) == text);
    if (!byte_fallback || !has_replacement(shown)) CHECK(tokenizer.decode(ids, true) == shown);
    if (!has_replacement(text)) ++compared;
  }
  CHECK(compared > 50);
  CHECK(tokenizer.vocab_size() == golden.at("vocab_size").as_int64());
}

}  // namespace

TEST_CASE("ids and texts equal transformers' from tokenizer.json", "[text][golden]") {
  for (const std::string& name : kTinyTokenizers) check_tiny(*tokenizer_from_json(name), name);
}

TEST_CASE("ids and texts equal transformers' from GGUF fields", "[text][golden]") {
  for (const std::string& name : kTinyTokenizers) {
    check_tiny(*tokenizer_from_gguf(golden_path(name + "/tokenizer.gguf")), name);
  }
}

TEST_CASE("ids and bytes equal llama.cpp's for the demo model", "[text][golden]") {
  const auto tokenizer = smollm2_tokenizer();
  if (!tokenizer) return;
  const boost::json::value golden = golden_json("smollm2_ids.json");
  const std::vector<std::string> strings = hard_strings();
  const boost::json::array& cases = golden.at("strings").as_array();
  REQUIRE(cases.size() == strings.size());
  for (size_t i = 0; i < strings.size(); ++i) {
    INFO("string " << i << ": " << strings[i].substr(0, 200));
    CHECK(encoded(*tokenizer, strings[i], false, SpecialTokens::kAsText) ==
          ids_of(cases[i].at("ids")));
    CHECK(encoded(*tokenizer, strings[i], true, SpecialTokens::kParse) ==
          ids_of(cases[i].at("ids_parse_special")));
  }
  for (const boost::json::value& expected : golden.at("decode").as_array()) {
    std::string hex;
    for (const TokenId id : ids_of(expected.at("ids"))) {
      for (const char byte : tokenizer->token_bytes(id)) {
        const char* digits = "0123456789abcdef";
        hex += digits[static_cast<unsigned char>(byte) >> 4];
        hex += digits[static_cast<unsigned char>(byte) & 15];
      }
    }
    CHECK(hex == string_of(expected.at("bytes")));
  }
  CHECK(tokenizer->vocab_size() == 49152);
  CHECK(tokenizer->special_ids().eos == 2);
  CHECK(std::ranges::count(tokenizer->end_ids(), 2) == 1);  // <|im_end|>
  CHECK(std::ranges::count(tokenizer->end_ids(), 0) == 1);  // <|endoftext|>
}

TEST_CASE("a token's spelling leads back to its id", "[text]") {
  for (const std::string& name : kTinyTokenizers) {
    const auto tokenizer = tokenizer_from_json(name);
    for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
      INFO(name << " token " << id);
      REQUIRE(tokenizer->is_in_vocab(id));
      CHECK(tokenizer->token_to_id(tokenizer->token_text(id)) == id);
    }
    for (const TokenId id : {-1, tokenizer->vocab_size(), 1 << 30}) {
      CHECK_FALSE(tokenizer->is_in_vocab(id));
      CHECK(tokenizer->token_bytes(id).empty());
      CHECK(tokenizer->decode(std::vector<TokenId>{id}, false).empty());
    }
    CHECK_FALSE(tokenizer->token_to_id("no such token"));
  }
}

TEST_CASE("text that is not UTF-8 or too long is a typed error", "[text]") {
  TokenizerOptions options;
  options.max_text_bytes = 10;
  const auto tokenizer =
      Tokenizer::from_gguf(gguf_fields(golden_path("bpe_gpt2/tokenizer.gguf")), options);
  REQUIRE(tokenizer.ok());
  CHECK((*tokenizer)->encode("0123456789", false).ok());
  const Status long_text = (*tokenizer)->encode("0123456789a", false).status();
  CHECK(long_text.code() == absl::StatusCode::kInvalidArgument);
  CHECK(error_reason(long_text) == "TEXT_TOO_LONG");
  for (const char* text : {"\xFF", "a\xC3", "\xED\xA0\x80", "\xC0\x80", "\xF4\x90\x80\x80"}) {
    const Status status = (*tokenizer)->encode(text, false).status();
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(error_reason(status) == "INVALID_UTF8");
  }
}

TEST_CASE("GGUF fields that do not fit together are refused by name", "[text]") {
  const GgufTokenizerFields good = gguf_fields(golden_path("sp_llama/tokenizer.gguf"));
  const auto refused = [&](auto change, absl::StatusCode code, const std::string& naming) {
    GgufTokenizerFields fields = good;
    change(fields);
    const Status status = Tokenizer::from_gguf(fields).status();
    INFO(status.ToString());
    CHECK(status.code() == code);
    CHECK(std::string(status.message()).find(naming) != std::string::npos);
  };
  using Fields = GgufTokenizerFields;
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto unimplemented = absl::StatusCode::kUnimplemented;
  refused([](Fields& f) { f.model = "bert"; }, unimplemented, "\"bert\"");
  refused([](Fields& f) { f.model = "gpt2", f.pre = "who"; }, unimplemented, "\"who\"");
  refused([](Fields& f) { f.model = "gpt2", f.pre = "gpt-2"; }, invalid, "merges");
  refused([](Fields& f) { f.scores.clear(); }, invalid, "scores");
  refused([](Fields& f) { f.scores.pop_back(); }, invalid, "scores");
  refused([](Fields& f) { f.scores[5] = std::nanf(""); }, invalid, "scores");
  refused([](Fields& f) { f.token_types.pop_back(); }, invalid, "token_type");
  refused([](Fields& f) { f.tokens.clear(); }, invalid, "tokens");
  refused([](Fields& f) { f.bos_token_id = 1 << 20; }, invalid, "bos_token_id");
  refused([](Fields& f) { f.eos_token_id = -7; }, invalid, "eos_token_id");
  refused([](Fields& f) { f.tokens[7] = "\xFF"; }, invalid, "tokens");
  // What work on a token grows with the square of is bounded.
  refused([](Fields& f) { f.tokens[300] = std::string(1 << 20, 'x'); }, invalid, "1048576 bytes");
  refused([](Fields& f) { f.tokens[2] = std::string(300, 'x'); }, invalid, "300 bytes");
}

TEST_CASE("a vocabulary beyond the bound is refused", "[text]") {
  TokenizerOptions options;
  options.max_vocab_size = 100;
  const std::string json = read_file(golden_path("bpe_gpt2/tokenizer.json"));
  CHECK(Tokenizer::from_json(json, "", options).status().code() ==
        absl::StatusCode::kInvalidArgument);
  options = {};
  options.max_file_bytes = 1000;
  CHECK(Tokenizer::from_json(json, "", options).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("several threads share one tokenizer", "[text]") {
  const auto tokenizer = tokenizer_from_json("bpe_llama3");
  const std::vector<std::string> strings = hard_strings();
  std::vector<std::vector<TokenId>> expected;
  for (const std::string& text : strings) expected.push_back(*tokenizer->encode(text, true));
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < strings.size(); ++i) {
        if (*tokenizer->encode(strings[i], true) != expected[i]) ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}

TEST_CASE("one very long word or run of spaces is encoded whole", "[text]") {
  for (const std::string& name : {std::string("bpe_gpt2"), std::string("sp_llama")}) {
    const auto tokenizer = tokenizer_from_json(name);
    for (const char* unit : {"a", " ", "\n", "\xC3\xA9", "ab", "1", "!", " \n", "a "}) {
      std::string text;
      while (text.size() < 300'000) text += unit;
      text += "x";
      const StatusOr<std::vector<TokenId>> ids = tokenizer->encode(text, false);
      INFO(name << " '" << unit << "' " << ids.status().ToString());
      REQUIRE(ids.ok());
      CHECK(tokenizer->decode(*ids, false) == text);
    }
  }
}

TEST_CASE("white space too long for the splitting patterns is refused", "[text]") {
  const auto tokenizer = tokenizer_from_json("bpe_gpt2");
  CHECK(tokenizer->encode(std::string(500'000, ' ') + "x", false).ok());
  CHECK(tokenizer->encode(std::string(500'001, ' ') + "x", false).status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(tokenizer->encode_marked(std::string(500'001, ' '), 0).status().code() ==
        absl::StatusCode::kInvalidArgument);
  // Just below it the split is still the right one: the last space goes with the word.
  const auto ids = *tokenizer->encode(std::string(499'999, ' ') + "x", false);
  const auto word = *tokenizer->encode(" x", false);
  REQUIRE(ids.size() > word.size());
  CHECK(std::equal(word.rbegin(), word.rend(), ids.rbegin()));
}

TEST_CASE("every pre-tokeniser name of the supported models makes a tokenizer", "[text]") {
  GgufTokenizerFields fields = gguf_fields(golden_path("bpe_gpt2/tokenizer.gguf"));
  const std::string text =
      "It's 12345 o'clock!!\n\n  D\xC3\xA9j\xC3\xA0 vu \xE4\xBD\xA0\xE5\xA5\xBD XyZ";
  for (const char* pre : {"default",        "llama3",
                          "llama-v3",       "llama-bpe",
                          "falcon3",        "lfm2",
                          "dbrx",           "smaug-bpe",
                          "glm4",           "tekken",
                          "gpt-4o",         "llama4",
                          "qwen2",          "deepseek-r1-qwen",
                          "megrez",         "stablelm2",
                          "hunyuan",        "grok-2",
                          "seed-coder",     "bailingmoe",
                          "gpt-2",          "gpt2",
                          "phi-2",          "mpt",
                          "olmo",           "exaone4",
                          "smollm",         "starcoder",
                          "refact",         "command-r",
                          "codeshell",      "exaone",
                          "minerva-7b",     "falcon",
                          "deepseek-coder", "deepseek-v3",
                          "poro-chat",      "bloom",
                          "viking"}) {
    fields.pre = pre;
    const auto tokenizer = Tokenizer::from_gguf(fields);
    INFO(pre << ": " << tokenizer.status().ToString());
    REQUIRE(tokenizer.ok());
    CHECK((*tokenizer)->decode(*(*tokenizer)->encode(text, false), false) == text);
  }
}

}  // namespace pelton
