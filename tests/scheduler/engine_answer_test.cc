// How answers end, what is shown and billed, log probabilities: over a scripted model.
#include "tests/scheduler/engine_harness.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

// Token 10 is "a", 11 "b", ...; the last character is always held back until the next comes.
class LetterStream : public TextStream {
 public:
  explicit LetterStream(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  Delta append(TokenId token, bool may_stop) override {
    text_ += static_cast<char>('a' + token - 10);
    if (!may_stop) from_ = text_.size();
    for (const std::string& stop : stops_) {
      const size_t at = text_.find(stop, from_);
      if (at == std::string::npos) continue;
      return {text_.substr(shown_, at - shown_), true, stop};
    }
    const size_t from = shown_;
    shown_ = text_.size() - 1;
    return {text_.substr(from, shown_ - from), false, ""};
  }
  std::string finish() override { return text_.substr(shown_); }

 private:
  std::vector<std::string> stops_;
  std::string text_;
  size_t shown_ = 0;
  size_t from_ = 0;  // stop strings before it do not count
};

class LetterFactory : public TextStreamFactory {
 public:
  mutable std::vector<TokenId> tail_seen;
  std::unique_ptr<TextStream> start(std::span<const TokenId> prompt_tail,
                                    const SamplingParams& params) const override {
    tail_seen.assign(prompt_tail.begin(), prompt_tail.end());
    return std::make_unique<LetterStream>(params.stop);
  }
};

// The model answers abcdef..., or EOS after position `eos_at`.
struct Letters : EngineHarness {
  explicit Letters(const TextStreamFactory* text, int eos_at = -1) : EngineHarness(setup(text)) {
    model->script = [eos_at](TokenId, int position) {
      return position == eos_at ? kFakeEos : 10 + position;
    };
  }
  static EngineSetup setup(const TextStreamFactory* text) {
    EngineSetup setup;
    setup.text = text;
    return setup;
  }
};

}  // namespace

TEST_CASE("an answer ends at max_tokens and releases the text that was held back") {
  LetterFactory text;
  Letters h(&text);
  const auto answer = h.ask(h.request({1}, 4));
  CHECK(answer.tokens == std::vector<TokenId>{10, 11, 12, 13});
  CHECK(answer.text == "abcd");
  CHECK(answer.last.finish_reason == FinishReason::kLength);
  CHECK_FALSE(answer.last.stop_token);
  CHECK(text.tail_seen == std::vector<TokenId>{1});
}

TEST_CASE("an answer ends at the context's end") {
  EngineSetup setup;
  setup.options.max_model_len = 10;
  EngineHarness h(setup);
  const auto answer = h.ask(h.request({1, 2, 3, 4}, 100));
  CHECK(answer.tokens.size() == 6);
  CHECK(answer.last.finish_reason == FinishReason::kLength);
}

TEST_CASE("a KV cache smaller than the context bounds the answer") {
  EngineSetup setup;
  setup.num_blocks = {3};
  EngineHarness h(setup);
  CHECK(h.engine->max_sequence_tokens() == 12);
  CHECK(h.ask(h.request({1, 2, 3, 4}, 100)).tokens.size() == 8);
}

TEST_CASE("EOS ends an answer and is billed and not shown") {
  LetterFactory text;
  Letters h(&text, 2);
  Request request = h.request({1}, 10);
  request.params.ignore_eos = false;
  request.params.include_stop_str_in_output = true;
  const auto answer = h.ask(request);
  CHECK(answer.tokens == std::vector<TokenId>{10, 11, kFakeEos});
  CHECK(answer.text == "ab");
  CHECK(answer.last.usage.completion_tokens == 3);
  CHECK(answer.last.finish_reason == FinishReason::kStop);
  CHECK_FALSE(answer.last.stop_token);
}

TEST_CASE("EOS with ignore_eos is a token like another") {
  Letters h(nullptr, 2);
  const auto answer = h.ask(h.request({1}, 5));
  CHECK(answer.tokens == std::vector<TokenId>{10, 11, kFakeEos, 13, 14});
  CHECK(answer.last.finish_reason == FinishReason::kLength);
}

TEST_CASE("a stop token ends an answer and its text is shown only where asked for") {
  LetterFactory text;
  for (const bool include : {false, true}) {
    Letters h(&text);
    Request request = h.request({1}, 10);
    request.params.stop_token_ids = {40, 12};
    request.params.include_stop_str_in_output = include;
    const auto answer = h.ask(request);
    CHECK(answer.tokens == std::vector<TokenId>{10, 11, 12});
    CHECK(answer.text == (include ? "abc" : "ab"));
    CHECK(answer.last.finish_reason == FinishReason::kStop);
    CHECK(answer.last.stop_token == 12);
  }
}

TEST_CASE("a stop string ends an answer and goes before the length as a reason") {
  LetterFactory text;
  Letters h(&text);
  Request request = h.request({1}, 4);
  request.params.stop = {"zz", "cd"};
  const auto answer = h.ask(request);
  CHECK(answer.tokens == std::vector<TokenId>{10, 11, 12, 13});
  CHECK(answer.text == "ab");
  CHECK(answer.last.finish_reason == FinishReason::kStop);
  CHECK(answer.last.stop_string == "cd");
  CHECK(answer.last.usage.completion_tokens == 4);
  CHECK(h.engine->stats().steps == 4);
}

TEST_CASE("a stop string before min_tokens does not end an answer") {
  LetterFactory text;
  Letters h(&text);
  Request request = h.request({1}, 20);
  request.params.stop = {"b", "d", "f"};
  request.params.min_tokens = 4;
  const auto answer = h.ask(request);
  CHECK(answer.text == "abcde");
  CHECK(answer.last.stop_string == "f");
  CHECK(answer.last.usage.completion_tokens == 6);
}

TEST_CASE("neither EOS nor a stop token is drawn before min_tokens") {
  EngineHarness h;
  int ends = 0;
  for (TokenId first = 0; first < 50; ++first) {
    Request request = h.request({first, 3}, 30);
    request.params.ignore_eos = false;
    for (TokenId id = 0; id < 40; ++id) request.params.stop_token_ids.push_back(id);
    request.params.min_tokens = 4;
    const auto answer = h.ask(request);
    REQUIRE(answer.tokens.size() >= 5);
    for (size_t i = 0; i < 4; ++i) CHECK(answer.tokens[i] >= 40);
    ends += answer.tokens.size() == 5;
  }
  CHECK(ends > 10);
}

TEST_CASE("an aborted answer shows the text that was held back") {
  LetterFactory text;
  Letters h(&text);
  const RequestId id = h.submit(h.request({1}, 10));
  for (int i = 0; i < 2 + h.lag; ++i) h.engine->step();
  CHECK(h.sink->answer(id).text == "a");
  h.engine->abort(id);
  h.engine->step();
  CHECK(h.sink->answer(id).text == "ab");
}

TEST_CASE("each token carries its log probability where asked for") {
  EngineHarness h;
  Request request = h.request({1, 2, 3}, 5);
  request.params.logprobs = 2;
  const auto answer = h.ask(request);
  REQUIRE(answer.logprobs.size() == 5);
  std::vector<TokenId> all{1, 2, 3};
  all.insert(all.end(), answer.tokens.begin(), answer.tokens.end());
  for (int i = 0; i < 5; ++i) {
    const PositionLogprobs expected = h.model->true_logprobs(all, 2 + i, 2);
    CHECK(answer.logprobs[i].chosen.token == answer.tokens[i]);
    CHECK(answer.logprobs[i].chosen.logprob == expected.chosen.logprob);
    CHECK(answer.logprobs[i].top.size() == 2);
  }
  CHECK(h.ask(h.request({1, 2, 3}, 5)).logprobs.empty());
}

TEST_CASE("prompt log probabilities are complete over chunks and in spite of a cached prefix") {
  EngineSetup setup;
  setup.options.max_prompt_logprob_rows = 7;
  setup.options.max_num_seqs = 4;
  EngineHarness h(setup);
  std::vector<TokenId> prompt;
  for (int i = 0; i < 90; ++i) prompt.push_back(i * 7 % 40);
  h.ask(h.request(prompt, 2));  // the whole prompt is cached now
  Request request = h.request(prompt, 3);
  request.params.prompt_logprobs = 1;
  const RequestId id = h.submit(request);
  Request second = h.request({5, 4, 3}, 3);
  second.params.prompt_logprobs = 0;
  const RequestId other = h.submit(second);
  h.run();
  const auto answer = h.sink->answer(id);
  REQUIRE(answer.prompt_logprobs.size() == 89);
  for (int i = 0; i < 89; ++i) {
    const PositionLogprobs expected = h.model->true_logprobs(prompt, i, 1);
    REQUIRE(answer.prompt_logprobs[i].chosen.token == prompt[i + 1]);
    REQUIRE(answer.prompt_logprobs[i].chosen.logprob == expected.chosen.logprob);
    REQUIRE(answer.prompt_logprobs[i].top.size() == 1);
  }
  CHECK(answer.last.usage.cached_tokens == 0);
  CHECK(answer.tokens.size() == 3);
  CHECK(h.sink->answer(other).prompt_logprobs.size() == 2);
  CHECK(h.model->max_logit_rows_seen() <= 7 + 4);
  Request single = h.request({5}, 3);
  single.params.prompt_logprobs = 0;
  CHECK(h.ask(single).prompt_logprobs.empty());
}

TEST_CASE("prompt log probabilities survive preemption without gap or double") {
  EngineSetup setup;
  setup.num_blocks = {16};
  setup.options.max_prompt_logprob_rows = 3;
  EngineHarness h(setup);
  std::vector<RequestId> scored;
  for (int i = 0; i < 12; ++i) {
    Request request = h.request(std::vector<TokenId>(static_cast<size_t>(10 + i), i), 30);
    request.priority = -i;  // later ones push the earlier ones out
    request.params.prompt_logprobs = 0;
    scored.push_back(h.submit(request));
    h.engine->step();
  }
  h.run();
  CHECK(h.engine->stats().preemptions > 0);
  for (int i = 0; i < 12; ++i) {
    const auto answer = h.sink->answer(scored[i]);
    REQUIRE(answer.prompt_logprobs.size() == static_cast<size_t>(9 + i));
    const std::vector<TokenId> prompt(static_cast<size_t>(10 + i), i);
    for (int p = 0; p < 9 + i; ++p) {
      CHECK(answer.prompt_logprobs[p].chosen.logprob ==
            h.model->true_logprobs(prompt, p, 0).chosen.logprob);
    }
  }
}

}  // namespace pelton
