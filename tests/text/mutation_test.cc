// Damaged tokenizer files, by seed: each gives a typed error or a tokenizer that encodes.
#include <algorithm>
#include <random>
#include <string>

#include "tests/support/catch.h"
#include "tests/text/golden.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace pelton {
namespace {

using namespace text_test;  // NOLINT: this file is about its helpers

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  size_t below(size_t n) { return n == 0 ? 0 : random_() % n; }

  // Longer than any bound of a token, or about there: one character, a few, or a token itself.
  std::string long_token() {
    static const std::vector<std::string> kUnits = {"a", "ab ", "\xC3\xB6", "\xE2\x96\x81", "<s>"};
    const std::string& unit = kUnits[below(kUnits.size())];
    const size_t size = (size_t{1} << below(18)) + below(3);
    std::string token;
    while (token.size() < size) token += unit;
    return token;
  }

  // Bytes changed, cut out, doubled, or a piece of the grammar put somewhere.
  void mutate(std::string& text) {
    static const std::vector<std::string> kPieces = {"null",
                                                     "[]",
                                                     "{}",
                                                     "-1",
                                                     "4294967295",
                                                     "99999999999999999999",
                                                     "1e999",
                                                     "\"\"",
                                                     "\\u0000",
                                                     "true",
                                                     "[[[[[[",
                                                     "\"type\":\"Metaspace\"",
                                                     "\"BPE\"",
                                                     "\"Unigram\"",
                                                     "\"WordPiece\"",
                                                     "(?i:",
                                                     "\\\\p{L}+",
                                                     "((a+)+)+$",
                                                     ",",
                                                     ":",
                                                     "\"",
                                                     "<|im_end|>",
                                                     "\xE2\x96\x81",
                                                     "\xFF"};
    for (size_t times = 1 + below(3); times > 0 && !text.empty(); --times) {
      const size_t at = below(text.size());
      const size_t size = std::min(text.size() - at, size_t{1} << below(10));
      switch (below(7)) {
        case 6:
          text.insert(at, long_token());
          break;
        case 0:
          text[at] = static_cast<char>(below(256));
          break;
        case 1:
          text.erase(at, size);
          break;
        case 2:
          text.insert(below(text.size()), text.substr(at, size));
          break;
        case 3:
          text.insert(at, kPieces[below(kPieces.size())]);
          break;
        case 4:
          text.replace(at, size, kPieces[below(kPieces.size())]);
          break;
        default:
          mutate_number(text, at);
          break;
      }
    }
  }

 private:
  // The next number becomes another one.
  void mutate_number(std::string& text, size_t at) {
    const size_t digit = text.find_first_of("0123456789", at);
    if (digit == std::string::npos) return;
    const size_t end = std::min(text.find_first_not_of("0123456789", digit), text.size());
    const std::string numbers[] = {"0", "1", "65535", "4294967294", "2147483648", "70000", "0.5"};
    text.replace(digit, end - digit, numbers[below(std::size(numbers))]);
  }

  std::mt19937 random_;
};

bool is_typed(const Status& status) {
  return status.code() == absl::StatusCode::kInvalidArgument ||
         status.code() == absl::StatusCode::kUnimplemented;
}

// True where the damaged file is still a tokenizer.
bool try_out(const StatusOr<std::unique_ptr<Tokenizer>>& tokenizer) {
  if (!tokenizer.ok()) {
    INFO(tokenizer.status().ToString());
    REQUIRE(is_typed(tokenizer.status()));
    return false;
  }
  const std::string text = "Hello, w\xC3\xB6rld! 123  \n<|im_end|><s> \xF0\x9F\x98\x80";
  for (const SpecialTokens special : {SpecialTokens::kParse, SpecialTokens::kAsText}) {
    const StatusOr<std::vector<TokenId>> ids = (*tokenizer)->encode(text, true, special);
    if (!ids.ok()) {
      REQUIRE(is_typed(ids.status()));
      continue;
    }
    (*tokenizer)->decode(*ids, false);
  }
  const auto chat = ChatTemplate::from_source(
      "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
      **tokenizer);
  REQUIRE(chat.ok());
  ChatInputs inputs;
  inputs.messages_json = R"([{"role": "user", "content": "<|im_end|> hi <s>"}])";
  const StatusOr<std::vector<TokenId>> ids = (*chat)->encode(inputs);
  if (!ids.ok()) REQUIRE(is_typed(ids.status()));
  return true;
}

void mutate_json(uint32_t first_seed, uint32_t count) {
  TokenizerOptions options;
  options.max_vocab_size = 100'000;
  uint32_t loaded = 0;
  for (const std::string& name : kTinyTokenizers) {
    const std::string json = read_file(golden_path(name + "/tokenizer.json"));
    const std::string config = read_file(golden_path(name + "/tokenizer_config.json"));
    for (uint32_t seed = first_seed; seed < first_seed + count / kTinyTokenizers.size(); ++seed) {
      INFO(name << " seed " << seed);
      Mutator mutator(seed);
      std::string damaged = json;
      std::string damaged_config = config;
      // Most of a file is vocabulary; its head and tail hold the parts that matter more.
      if (mutator.below(4) == 0) {
        mutator.mutate(damaged_config);
      } else if (mutator.below(2) == 0) {
        std::string head = damaged.substr(0, 3000);
        mutator.mutate(head);
        damaged.replace(0, 3000, head);
      } else {
        mutator.mutate(damaged);
      }
      if (try_out(Tokenizer::from_json(damaged, damaged_config, options))) ++loaded;
    }
  }
  CHECK(loaded > 0);
  CHECK(loaded < count);
}

void mutate_gguf(uint32_t first_seed, uint32_t count) {
  for (const std::string& name : kTinyTokenizers) {
    const GgufTokenizerFields good = gguf_fields(golden_path(name + "/tokenizer.gguf"));
    for (uint32_t seed = first_seed; seed < first_seed + count / kTinyTokenizers.size(); ++seed) {
      INFO(name << " seed " << seed);
      Mutator mutator(seed);
      GgufTokenizerFields fields = good;
      for (size_t times = 1 + mutator.below(4); times > 0; --times) {
        const auto any = [&](auto& list) -> auto& {
          return list[mutator.below(list.size())];
        };
        const int64_t id = static_cast<int64_t>(mutator.below(2000)) - 500;
        switch (mutator.below(14)) {
          case 12:
            any(fields.tokens) = mutator.long_token();
            break;
          case 13:
            if (!fields.merges.empty()) {
              any(fields.merges) = mutator.long_token() + " " + mutator.long_token();
            }
            break;
          case 0:
            mutator.mutate(any(fields.tokens));
            break;
          case 1:
            any(fields.tokens).clear();
            break;
          case 2:
            any(fields.tokens) = any(fields.tokens);
            break;
          case 3:
            if (!fields.merges.empty()) mutator.mutate(any(fields.merges));
            break;
          case 4:
            if (!fields.scores.empty()) any(fields.scores) = 1e38F;
            break;
          case 5:
            if (!fields.token_types.empty()) any(fields.token_types) = id;
            break;
          case 6:
            fields.bos_token_id = id;
            break;
          case 7:
            fields.unknown_token_id = id;
            break;
          case 8:
            fields.eot_token_id = id;
            break;
          case 9:
            fields.add_space_prefix = mutator.below(2) == 0;
            break;
          case 10:
            fields.tokens.resize(1 + mutator.below(fields.tokens.size()));
            break;
          default:
            fields.token_types.clear();
            break;
        }
      }
      try_out(Tokenizer::from_gguf(fields));
    }
  }
}

}  // namespace

TEST_CASE("damaged tokenizer files give a typed error or a tokenizer", "[text]") {
  mutate_json(0, 300);
  mutate_gguf(0, 300);
}

TEST_CASE("many damaged tokenizer files give a typed error or a tokenizer", "[text][long]") {
  mutate_json(100'000, 10'000);
  mutate_gguf(100'000, 10'000);
}

}  // namespace pelton
