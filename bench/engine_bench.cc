#include "bench/engine_bench.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/stopwatch.h"
#include "core/random.h"
#include "scheduler/engine.h"

namespace pelton::bench {
namespace {

class Counter final : public OutputSink {
 public:
  void deliver(std::vector<RequestOutput> outputs) override {
    for (const RequestOutput& output : outputs) {
      tokens += static_cast<int>(output.tokens.size());
      if (output.finish_reason == FinishReason::kError) status = output.status;
    }
  }
  int tokens = 0;
  Status status;
};

class Runs {
 public:
  Runs(Engine& engine, int vocab) : engine_(engine), vocab_(vocab) {}

  Status submit(int prompt_tokens, int max_tokens) {
    Request request;
    request.id = engine_.mint_request_id();
    PromptSpan span;
    for (int i = 0; i < prompt_tokens; ++i) {
      span.tokens.push_back(static_cast<TokenId>(counter_uniform(serial_, i) * vocab_));
    }
    ++serial_;
    request.prompt = {span};
    request.params.temperature = 0;
    request.params.max_tokens = max_tokens;
    request.params.ignore_eos = true;
    request.use_prefix_cache = false;
    return engine_.submit(std::move(request), sink_);
  }
  int tokens() const { return sink_->tokens; }
  Status step_until(int tokens) {
    while (sink_->tokens < tokens && sink_->status.ok()) {
      if (!engine_.step()) return absl::InternalError("the engine went idle too early");
    }
    return sink_->status;
  }

 private:
  Engine& engine_;
  int vocab_;
  uint64_t serial_ = 1;
  std::shared_ptr<Counter> sink_ = std::make_shared<Counter>();
};

// Runs fn, which returns the tokens to be counted, and keeps the best repeat.
template <typename Prepare, typename Fn>
StatusOr<EngineFigure> best_of(int repeats, const std::string& name, int batch, Prepare prepare,
                               Fn fn) {
  EngineFigure best;
  best.seconds = 1e18;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    PELTON_RETURN_IF_ERROR(prepare());
    const Stopwatch watch;
    const double cpu = cpu_seconds();
    PELTON_ASSIGN_OR_RETURN(const int tokens, fn());
    const double seconds = watch.seconds();
    if (seconds >= best.seconds) continue;
    best = {name, batch, tokens, seconds, cpu_seconds() - cpu, tokens / seconds};
  }
  return best;
}

}  // namespace

StatusOr<std::vector<EngineFigure>> measure_engine(LoadedModel model,
                                                   const EngineBenchOptions& options) {
  EngineOptions engine_options;
  engine_options.max_model_len = model.facts.max_model_len;
  engine_options.max_num_seqs = 256;
  const SteadyClock clock;
  Engine engine(engine_options, std::move(model.runner), nullptr, &clock);
  Runs runs(engine, model.facts.vocab_size);
  std::vector<EngineFigure> out;
  const auto nothing = [] { return absl::OkStatus(); };
  for (int batch : options.batches) {
    if (options.prefill > 0) {
      PELTON_ASSIGN_OR_RETURN(EngineFigure figure,
                              best_of(options.repeats, fmt::format("prefill {}", options.prefill),
                                      batch, nothing, [&]() -> StatusOr<int> {
                                        const int before = runs.tokens();
                                        for (int i = 0; i < batch; ++i) {
                                          PELTON_RETURN_IF_ERROR(runs.submit(options.prefill, 1));
                                        }
                                        PELTON_RETURN_IF_ERROR(runs.step_until(before + batch));
                                        return batch * options.prefill;
                                      }));
      out.push_back(figure);
    }
    if (options.decode > 0) {
      // The first token of each comes from its prompt and is not counted.
      const auto prompts = [&]() -> Status {
        const int before = runs.tokens();
        for (int i = 0; i < batch; ++i) PELTON_RETURN_IF_ERROR(runs.submit(8, options.decode + 1));
        return runs.step_until(before + batch);
      };
      PELTON_ASSIGN_OR_RETURN(
          EngineFigure figure,
          best_of(options.repeats, fmt::format("decode {}", options.decode), batch, prompts,
                  [&]() -> StatusOr<int> {
                    const int before = runs.tokens();
                    PELTON_RETURN_IF_ERROR(runs.step_until(before + batch * options.decode));
                    return batch * options.decode;
                  }));
      out.push_back(figure);
    }
    if (options.mixed) {
      PELTON_ASSIGN_OR_RETURN(
          EngineFigure figure,
          best_of(options.repeats, "mixed", batch, nothing, [&]() -> StatusOr<int> {
            const int before = runs.tokens();
            int prompt_tokens = 0, answers = 0;
            for (int i = 0; i < 4 * batch; ++i) {
              const int prompt = 16 + 37 * i % 240, answer = 8 + 11 * i % 56;
              PELTON_RETURN_IF_ERROR(runs.submit(prompt, answer));
              prompt_tokens += prompt;
              answers += answer;
              // A new one joins every other step.
              if (i >= batch) PELTON_RETURN_IF_ERROR(runs.step_until(runs.tokens() + 2));
            }
            PELTON_RETURN_IF_ERROR(runs.step_until(before + answers));
            return prompt_tokens + answers;
          }));
      out.push_back(figure);
    }
  }
  return out;
}

}  // namespace pelton::bench
