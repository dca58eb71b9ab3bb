#include "bench/engine_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

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

  // Tokens go to `sink`, or to the one that tokens() counts.
  Status submit(int prompt_tokens, int max_tokens, std::shared_ptr<Counter> sink = nullptr) {
    Request request;
    request.id = engine_.mint_request_id();
    ids_.push_back(request.id);
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
    return engine_.submit(std::move(request), sink != nullptr ? std::move(sink) : sink_);
  }
  int tokens() const { return sink_->tokens; }
  Status step_until(int tokens) {
    while (sink_->tokens < tokens && sink_->status.ok()) {
      const Stopwatch watch;
      if (!engine_.step()) return absl::InternalError("the engine went idle too early");
      longest_step_ = std::max(longest_step_, watch.seconds());
    }
    return sink_->status;
  }
  // Aborts what still runs.
  void finish() {
    for (const RequestId id : std::exchange(ids_, {})) engine_.abort(id);
    while (engine_.step()) {
    }
  }
  double take_longest_step() { return std::exchange(longest_step_, 0.0); }

 private:
  Engine& engine_;
  int vocab_;
  uint64_t serial_ = 1;
  double longest_step_ = 0;
  std::vector<RequestId> ids_;
  std::shared_ptr<Counter> sink_ = std::make_shared<Counter>();
};

struct Counted {
  int tokens = 0;
  int sampled = 0;
  int64_t attended = 0;
};

// Positions that tokens [first, first + count) of a sequence attend to together.
int64_t attended_by(int64_t first, int64_t count) {
  return count * first + count * (count + 1) / 2;
}

// One figure's runs: `prepare` untimed, then `work`, then an end to what still runs.
class Measurement {
 public:
  Measurement(Runs& runs, const EngineBenchOptions& options) : runs_(runs), options_(options) {}

  template <typename Prepare, typename Work>
  StatusOr<EngineFigure> best_of(const std::string& name, int batch, Prepare prepare, Work work) {
    EngineFigure best;
    best.seconds = 1e18;
    std::vector<double> repeats;
    for (int repeat = -1; repeat < options_.repeats; ++repeat) {
      PELTON_RETURN_IF_ERROR(prepare());
      runs_.take_longest_step();
      if (options_.begun) options_.begun();
      const Stopwatch watch;
      const double cpu = cpu_seconds();
      PELTON_ASSIGN_OR_RETURN(const Counted counted, work());
      const double seconds = watch.seconds(), used = cpu_seconds() - cpu;
      const double longest = runs_.take_longest_step();
      const double rate = counted.tokens / seconds;
      const EngineFigure figure = {
          name, batch, counted.tokens, counted.sampled, counted.attended, seconds, used, longest,
          rate, {}};
      if (options_.ended && repeat >= 0) options_.ended(figure);
      runs_.finish();
      if (repeat < 0) continue;
      repeats.push_back(rate);
      if (seconds < best.seconds) best = figure;
    }
    best.repeats = std::move(repeats);
    return best;
  }

  StatusOr<EngineFigure> prefill(int batch) {
    return best_of(
        fmt::format("prefill {}", options_.prefill), batch, nothing, [&]() -> StatusOr<Counted> {
          PELTON_RETURN_IF_ERROR(start(batch, options_.prefill, 1));
          return Counted{batch * options_.prefill, batch, batch * attended_by(0, options_.prefill)};
        });
  }

  // The first token of each comes from its prompt and is not counted.
  StatusOr<EngineFigure> decode(int batch) {
    return best_of(
        fmt::format("decode {}", options_.decode), batch,
        [&] { return start(batch, options_.context, options_.decode + 1); },
        [&]() -> StatusOr<Counted> {
          const int tokens = batch * options_.decode;
          PELTON_RETURN_IF_ERROR(runs_.step_until(runs_.tokens() + tokens));
          return Counted{tokens, tokens, batch * attended_by(options_.context, options_.decode)};
        });
  }

  // A prompt is computed chunk by chunk beside `batch` sequences that go on decoding.
  StatusOr<EngineFigure> decode_beside_prefill(int batch) {
    constexpr int kMostSteps = 1024;
    return best_of(
        fmt::format("mixed {}", options_.prefill), batch,
        [&] { return start(batch, options_.context, kMostSteps); },
        [&]() -> StatusOr<Counted> {
          const int before = runs_.tokens();
          PELTON_RETURN_IF_ERROR(runs_.submit(options_.prefill, 1, prompts_));
          const int answered = prompts_->tokens;
          while (prompts_->tokens == answered) {
            PELTON_RETURN_IF_ERROR(runs_.step_until(runs_.tokens() + 1));
          }
          const int decoded = runs_.tokens() - before;
          const int64_t attended = attended_by(0, options_.prefill) +
                                   batch * attended_by(options_.context, decoded / batch);
          return Counted{decoded + options_.prefill, decoded + 1, attended};
        });
  }

  // Prompts of many lengths; a new one joins every other step.
  StatusOr<EngineFigure> arrivals(int batch) {
    return best_of("arrivals", batch, nothing, [&]() -> StatusOr<Counted> {
      const int before = runs_.tokens();
      int prompt_tokens = 0, answers = 0;
      int64_t attended = 0;
      for (int i = 0; i < 4 * batch; ++i) {
        const int prompt = 16 + 37 * i % 240, answer = 8 + 11 * i % 56;
        PELTON_RETURN_IF_ERROR(runs_.submit(prompt, answer));
        prompt_tokens += prompt;
        answers += answer;
        attended += attended_by(0, prompt + answer - 1);
        if (i >= batch) PELTON_RETURN_IF_ERROR(runs_.step_until(runs_.tokens() + 2));
      }
      PELTON_RETURN_IF_ERROR(runs_.step_until(before + answers));
      return Counted{prompt_tokens + answers, answers, attended};
    });
  }

 private:
  static Status nothing() { return absl::OkStatus(); }
  // Submits, and computes the prompts.
  Status start(int batch, int prompt, int max_tokens) {
    const int before = runs_.tokens();
    for (int i = 0; i < batch; ++i) PELTON_RETURN_IF_ERROR(runs_.submit(prompt, max_tokens));
    return runs_.step_until(before + batch);
  }

  Runs& runs_;
  const EngineBenchOptions& options_;
  std::shared_ptr<Counter> prompts_ = std::make_shared<Counter>();
};

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
  Measurement measurement(runs, options);
  const auto measure = [&](bool wanted, auto figure_of, int batch) -> Status {
    if (!wanted) return absl::OkStatus();
    PELTON_ASSIGN_OR_RETURN(EngineFigure figure, (measurement.*figure_of)(batch));
    out.push_back(std::move(figure));
    return absl::OkStatus();
  };
  for (int batch : options.batches) {
    using M = Measurement;
    const bool beside = options.mixed && options.prefill > 0;
    const bool prefills = options.most_prefill_batch == 0 || batch <= options.most_prefill_batch;
    PELTON_RETURN_IF_ERROR(measure(options.prefill > 0 && prefills, &M::prefill, batch));
    PELTON_RETURN_IF_ERROR(measure(options.decode > 0, &M::decode, batch));
    PELTON_RETURN_IF_ERROR(measure(beside, &M::decode_beside_prefill, batch));
    PELTON_RETURN_IF_ERROR(measure(options.mixed, &M::arrivals, batch));
  }
  return out;
}

}  // namespace pelton::bench
