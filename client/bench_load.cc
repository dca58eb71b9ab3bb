#include "client/bench_load.h"

#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "core/random.h"

namespace pelton {
namespace {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class GrpcTarget final : public BenchTarget {
 public:
  GrpcTarget(const ClientOptions& options, std::string model)
      : client_(options), model_(std::move(model)) {}

  BenchResult run(const BenchRequest& request) override {
    return request.chat ? run_chat(request) : run_complete(request);
  }

 private:
  static void fill(const BenchRequest& request, v1::SamplingParams* sampling) {
    sampling->set_max_tokens(request.max_tokens);
    sampling->set_temperature(request.temperature);
    sampling->set_seed(request.seed);
    sampling->set_ignore_eos(request.ignore_eos);
  }

  // The ids tell how many tokens a message carries: text alone would not.
  template <typename Message>
  static void on_message(const Message& message, TokenTimer& timer, BenchResult& result) {
    for (const auto& choice : message.choices()) timer.on_tokens(choice.token_ids_size());
    if (!message.has_usage()) return;
    result.prompt_tokens = message.usage().prompt_tokens();
    result.completion_tokens = message.usage().completion_tokens();
  }

  BenchResult run_complete(const BenchRequest& request) {
    v1::CompleteRequest message;
    message.set_model(model_);
    message.mutable_prompt()->set_text(request.prompt);
    message.set_return_token_ids(true);
    fill(request, message.mutable_sampling());
    BenchResult result;
    TokenTimer timer;
    result.status = client_.complete_stream(message, [&](const v1::CompleteStreamResponse& m) {
      on_message(m, timer, result);
      return true;
    });
    timer.finish(result);
    return result;
  }

  BenchResult run_chat(const BenchRequest& request) {
    v1::ChatRequest message;
    message.set_model(model_);
    v1::ChatMessage* turn = message.add_messages();
    turn->set_role(v1::ROLE_USER);
    turn->add_content()->set_text(request.prompt);
    message.set_return_token_ids(true);
    fill(request, message.mutable_sampling());
    BenchResult result;
    TokenTimer timer;
    result.status = client_.chat_stream(message, [&](const v1::ChatStreamResponse& m) {
      on_message(m, timer, result);
      return true;
    });
    timer.finish(result);
    return result;
  }

  Client client_;
  std::string model_;
};

constexpr std::array kWords = {
    "water",  "river",   "wheel",   "turbine",  "jet",     "copper",   "garden", "window",
    "letter", "quiet",   "morning", "market",   "bridge",  "island",   "violin", "paper",
    "shadow", "engine",  "silver",  "forest",   "captain", "harbor",   "winter", "orange",
    "circle", "thunder", "pocket",  "travel",   "measure", "gentle",   "corner", "signal",
    "planet", "butter",  "castle",  "remember", "simple",  "stone",    "across", "village",
    "number", "answer",  "distant", "music",    "yellow",  "doctor",   "farmer", "kitchen",
    "ladder", "mirror",  "needle",  "ocean",    "pencil",  "question", "rabbit", "school",
    "table",  "uncle",   "valley",  "weather",  "young",   "zebra",    "between"};

}  // namespace

TokenTimer::TokenTimer() : start_s_(steady_seconds()), last_s_(start_s_) {}
double TokenTimer::now_s() const {
  return steady_seconds();
}

void TokenTimer::on_tokens(int count) {
  if (count <= 0) return;
  const double now = now_s();
  int gaps = count;
  if (first_s_ < 0) {
    first_s_ = now;
    --gaps;  // the first token ends no gap; what came with it counts as no gap in time
    itl_s_.insert(itl_s_.end(), static_cast<size_t>(gaps), 0.0);
  } else {
    itl_s_.insert(itl_s_.end(), static_cast<size_t>(gaps), (now - last_s_) / gaps);
  }
  last_s_ = now;
}

void TokenTimer::finish(BenchResult& result) const {
  result.ttft_s = first_s_ < 0 ? 0 : first_s_ - start_s_;
  result.e2el_s = last_s_ - start_s_;
  result.itl_s = itl_s_;
}

BenchTargetFactory grpc_bench_target(const ClientOptions& options, const std::string& model) {
  return [=]() -> StatusOr<std::unique_ptr<BenchTarget>> {
    return std::make_unique<GrpcTarget>(options, model);
  };
}

std::vector<BenchRequest> make_bench_requests(int count, int min_words, int max_words,
                                              uint64_t seed) {
  std::vector<BenchRequest> requests(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    BenchRequest& request = requests[static_cast<size_t>(i)];
    uint32_t draw = 0;
    const auto pick = [&](int below) {
      return static_cast<int>(counter_uniform(seed, static_cast<uint64_t>(i), draw++) *
                              static_cast<float>(below));
    };
    const int words = min_words + pick(max_words - min_words + 1);
    request.prompt = "Story " + std::to_string(i) + ":";
    for (int w = 0; w < words; ++w) {
      request.prompt += ' ';
      request.prompt += kWords[static_cast<size_t>(pick(static_cast<int>(kWords.size())))];
    }
    request.seed = seed + static_cast<uint64_t>(i);
  }
  return requests;
}

StatusOr<LoadRun> run_closed_loop(const BenchTargetFactory& make_target,
                                  const std::vector<BenchRequest>& requests, int concurrency,
                                  const std::function<void(int)>& on_done) {
  std::vector<std::unique_ptr<BenchTarget>> targets;
  for (int i = 0; i < concurrency; ++i) {
    PELTON_ASSIGN_OR_RETURN(auto target, make_target());
    targets.push_back(std::move(target));
  }
  LoadRun run;
  std::mutex mutex;  // guards run.results and on_done
  std::atomic<size_t> next{0};
  const double start = steady_seconds();
  std::vector<std::thread> workers;
  for (auto& target : targets) {
    workers.emplace_back([&, worker = target.get()] {
      for (size_t i = next++; i < requests.size(); i = next++) {
        BenchResult result = worker->run(requests[i]);
        const std::lock_guard lock(mutex);
        run.results.push_back(std::move(result));
        on_done(static_cast<int>(run.results.size()));
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  run.wall_s = steady_seconds() - start;
  return run;
}

}  // namespace pelton
