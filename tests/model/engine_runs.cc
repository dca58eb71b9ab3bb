#include "tests/model/engine_runs.h"

#include <map>
#include <random>
#include <utility>

#include "core/check.h"
#include "tests/model/tiny_models.h"

namespace pelton {
namespace {

class Letters final : public TextStream {
 public:
  explicit Letters(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  Delta append(TokenId token, bool may_stop) override {
    text_ += static_cast<char>('a' + token % 4);
    Delta delta;
    delta.text = text_.back();
    for (const std::string& stop : stops_) {
      if (!may_stop || !text_.ends_with(stop)) continue;
      delta.stopped = true;
      delta.stop_string = stop;
    }
    return delta;
  }
  std::string finish() override { return ""; }

 private:
  const std::vector<std::string> stops_;
  std::string text_;
};

class LettersFactory final : public TextStreamFactory {
 public:
  std::unique_ptr<TextStream> start(std::span<const TokenId>,
                                    const SamplingParams& params) const override {
    return std::make_unique<Letters>(params.stop);
  }
};

class Collector final : public OutputSink {
 public:
  explicit Collector(size_t requests) : answers(requests) {}
  void deliver(std::vector<RequestOutput> outputs) override {
    for (RequestOutput& output : outputs) {
      Answer& answer = answers[index.at(output.id.value)];
      answer.tokens.insert(answer.tokens.end(), output.tokens.begin(), output.tokens.end());
      for (const PositionLogprobs& at : output.logprobs) {
        answer.logprobs.push_back(at.chosen.logprob);
      }
      for (const PositionLogprobs& at : output.prompt_logprobs) {
        answer.prompt_logprobs.push_back(at.chosen.logprob);
      }
      if (!output.finished()) continue;
      PELTON_CHECK(answer.finish_reason == FinishReason::kNone, "a request ends once");
      answer.finish_reason = output.finish_reason;
      stop_strings += !output.stop_string.empty();
      ++finished;
    }
  }

  std::map<uint64_t, size_t> index;  // request id -> position in `answers`
  std::vector<Answer> answers;
  size_t finished = 0;
  int stop_strings = 0;
};

}  // namespace

std::vector<TestRequest> mixed_requests(int count, int vocab, int max_prompt, int max_answer,
                                        uint32_t seed) {
  std::mt19937 random(seed);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  const std::vector<TokenId> shared = random_tokens(max_prompt, vocab, seed + 1);
  std::vector<TestRequest> requests;
  for (int i = 0; i < count; ++i) {
    TestRequest request;
    const int length = 1 + below(max_prompt);
    request.prompt = random_tokens(length, vocab, seed + 2 + i);
    if (i % 3 == 0) std::copy_n(shared.begin(), below(length + 1), request.prompt.begin());
    SamplingParams& params = request.params;
    params.max_tokens = 1 + below(max_answer);
    params.ignore_eos = i % 4 == 0;
    params.logprobs = i % 5 == 0 ? 0 : -1;
    params.prompt_logprobs = i % 7 == 3 ? 0 : -1;
    params.temperature = i % 2 == 0 ? 0.0F : 0.5F + 0.25F * static_cast<float>(below(4));
    params.top_k = i % 6 == 1 ? 20 : 0;
    params.top_p = i % 6 == 3 ? 0.9F : 1.0F;
    params.min_p = i % 6 == 5 ? 0.05F : 0.0F;
    params.seed = random();
    if (i % 4 == 2) params.stop = {"abc", "dd"};
    requests.push_back(std::move(request));
  }
  return requests;
}

RunResult run_engine(LoadedModel model, const std::vector<TestRequest>& requests,
                     const RunOptions& options) {
  EngineOptions engine_options;
  engine_options.max_model_len = model.facts.max_model_len;
  engine_options.max_num_seqs = options.max_num_seqs;
  engine_options.max_num_batched_tokens = options.max_num_batched_tokens;
  engine_options.enable_prefix_caching = options.prefix_cache;
  engine_options.async_scheduling = options.async_scheduling;
  engine_options.eos_token_ids = model.facts.eos_ids;
  engine_options.check_integrity = true;
  const SteadyClock clock;
  const LettersFactory text;
  auto sink = std::make_shared<Collector>(requests.size());
  Engine engine(engine_options, std::move(model.runner), &text, &clock);
  size_t submitted = 0;
  while (sink->finished < requests.size()) {
    while (submitted < requests.size() &&
           submitted - sink->finished < static_cast<size_t>(options.concurrency)) {
      Request request;
      request.id = engine.mint_request_id();
      request.prompt = {{requests[submitted].prompt}};
      request.params = requests[submitted].params;
      request.arrival = clock.now();
      sink->index[request.id.value] = submitted++;
      const Status status = engine.submit(std::move(request), sink);
      PELTON_CHECK(status.ok(), "the engine takes the test's requests");
    }
    engine.step();
  }
  return {std::move(sink->answers), sink->stop_strings, engine.stats(), engine.load()};
}

}  // namespace pelton
