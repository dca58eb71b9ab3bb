// The stream against the decode of the whole: over all of Unicode, random bytes, stop strings.
#include "text/detokenizer.h"

#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/text/golden.h"

namespace pelton {
namespace {

using namespace text_test;  // NOLINT: this file is about its helpers

void append_utf8(char32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 63));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 63));
    out += static_cast<char>(0x80 | (c & 63));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 63));
    out += static_cast<char>(0x80 | ((c >> 6) & 63));
    out += static_cast<char>(0x80 | (c & 63));
  }
}

struct Streamed {
  std::string text;
  bool stopped = false;
  std::string stop_string;
};

Streamed stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids,
                const SamplingParams& params, const std::vector<TokenId>& prompt = {}) {
  const Detokenizer detokenizer(tokenizer);
  const std::unique_ptr<TextStream> stream = detokenizer.start(prompt, params);
  Streamed result;
  for (const TokenId id : ids) {
    const TextStream::Delta delta = stream->append(id, true);
    if (!is_well_formed_utf8(delta.text)) FAIL("a delta is not UTF-8");
    result.text += delta.text;
    if (delta.stopped) {
      result.stopped = true;
      result.stop_string = delta.stop_string;
      return result;
    }
  }
  result.text += stream->finish();
  return result;
}

std::vector<TokenId> random_ids(const Tokenizer& tokenizer, std::mt19937& random, int most) {
  std::vector<TokenId> ids;
  for (int i = random() % (most + 1); i > 0; --i) {
    // Mostly the low ids, where the single bytes are; now and then any, or one that is none.
    const int kind = random() % 10;
    const int size = tokenizer.vocab_size();
    ids.push_back(kind < 6 ? random() % 262 : kind < 9 ? random() % size : size + random() % 5);
  }
  return ids;
}

}  // namespace

TEST_CASE("every character of Unicode comes through the stream unchanged", "[text]") {
  SamplingParams params;
  params.skip_special_tokens = false;
  for (const std::string& name : {std::string("bpe_gpt2"), std::string("sp_llama")}) {
    const auto tokenizer = tokenizer_from_json(name);
    std::string text = "x";
    for (char32_t c = 0; c <= 0x10FFFF; ++c) {
      const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
      // SentencePiece writes spaces as U+2581, so that one becomes a space there.
      if (!surrogate && !(c == 0x2581 && name == "sp_llama")) append_utf8(c, text);
      if (text.size() < 4096 && c != 0x10FFFF) continue;
      const StatusOr<std::vector<TokenId>> ids =
          tokenizer->encode(text, false, SpecialTokens::kAsText);
      REQUIRE(ids.ok());
      const Streamed streamed = stream(*tokenizer, *ids, params);
      if (streamed.text != text)
        FAIL(name << ": a text that ends at U+" << std::hex << static_cast<uint32_t>(c));
      text = "x";
    }
  }
}

TEST_CASE("the stream's pieces are the decode of the whole for any ids", "[text]") {
  std::mt19937 random(11);
  for (const std::string& name : kTinyTokenizers) {
    const auto tokenizer = tokenizer_from_json(name);
    for (int round = 0; round < 4'000; ++round) {
      const std::vector<TokenId> ids = random_ids(*tokenizer, random, 24);
      SamplingParams params;
      params.skip_special_tokens = random() % 2 == 0;
      REQUIRE(stream(*tokenizer, ids, params).text ==
              tokenizer->decode(ids, params.skip_special_tokens));
    }
  }
}

TEST_CASE("stop strings end the stream where they stand in the whole", "[text]") {
  std::mt19937 random(5);
  int stopped = 0;
  for (const std::string& name : kTinyTokenizers) {
    const auto tokenizer = tokenizer_from_json(name);
    for (int round = 0; round < 4'000; ++round) {
      const std::vector<TokenId> ids = random_ids(*tokenizer, random, 16);
      const std::string whole = tokenizer->decode(ids, true);
      SamplingParams params;
      params.include_stop_str_in_output = random() % 2 == 0;
      // Pieces of the text itself, cut at characters: some occur, some earlier than cut.
      size_t end = whole.size();
      std::string stop;
      if (!whole.empty()) {
        size_t from = random() % whole.size();
        while (from > 0 && (whole[from] & 0xC0) == 0x80) --from;
        size_t to = std::min(whole.size(), from + 1 + random() % 6);
        while (to < whole.size() && (whole[to] & 0xC0) == 0x80) ++to;
        stop = whole.substr(from, to - from);
        params.stop = {stop};
        end = whole.find(stop) + (params.include_stop_str_in_output ? stop.size() : 0);
      }
      const Streamed streamed = stream(*tokenizer, ids, params);
      REQUIRE(streamed.text == whole.substr(0, end));
      // A stop that ends in the U+FFFD of an unfinished last character is only seen at the end.
      if (streamed.stopped) {
        REQUIRE(streamed.stop_string == stop);
        ++stopped;
      }
    }
  }
  CHECK(stopped > 10'000);
}

TEST_CASE("text before stop strings may stop is released at once and ends nothing", "[text]") {
  const auto tokenizer = tokenizer_from_json("bpe_gpt2");
  const std::vector<TokenId> ids = *tokenizer->encode("one two one two", false);
  SamplingParams params;
  params.stop = {"two", "one two one"};
  const auto stream = Detokenizer(*tokenizer).start({}, params);
  std::string text;
  size_t used = 0;
  for (bool stopped = false; !stopped && used < ids.size(); ++used) {
    const bool may_stop = used >= ids.size() / 2;
    const TextStream::Delta delta = stream->append(ids[used], may_stop);
    text += delta.text;
    if (!may_stop) CHECK(text == tokenizer->decode(std::span(ids).first(used + 1), true));
    stopped = delta.stopped;
  }
  CHECK(text == "one two one ");
}

TEST_CASE("an answer after a prompt keeps its leading space", "[text]") {
  const auto tokenizer = tokenizer_from_json("sp_llama");
  REQUIRE(tokenizer->leading_space() == LeadingSpace::kStripOne);
  const std::vector<TokenId> ids = *tokenizer->encode("hello", false);
  const std::vector<TokenId> bos = {*tokenizer->special_ids().bos};
  const std::vector<TokenId> prompt = *tokenizer->encode("say", true);
  SamplingParams params;
  CHECK(stream(*tokenizer, ids, params).text == "hello");
  CHECK(stream(*tokenizer, ids, params, bos).text == "hello");
  CHECK(stream(*tokenizer, ids, params, prompt).text == " hello");
  params.skip_special_tokens = false;
  CHECK(stream(*tokenizer, ids, params, bos).text == " hello");
}

TEST_CASE("special tokens are left out or shown as asked", "[text]") {
  const auto tokenizer = tokenizer_from_json("bpe_qwen2");
  const std::vector<TokenId> ids = *tokenizer->encode("a<|im_end|>b", false);
  SamplingParams params;
  CHECK(stream(*tokenizer, ids, params).text == "ab");
  params.skip_special_tokens = false;
  CHECK(stream(*tokenizer, ids, params).text == "a<|im_end|>b");
}

}  // namespace pelton
