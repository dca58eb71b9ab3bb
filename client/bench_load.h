// Closed-loop load: `concurrency` workers, each sending its next request when the last one ended.
// What a request cost is measured at the client. Terms are the field's: TTFT send to first token,
// ITL gap between two tokens, TPOT (E2EL - TTFT) / (tokens - 1), E2EL send to last token.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/client.h"
#include "core/status.h"

namespace pelton {

struct BenchRequest {
  std::string prompt;
  int max_tokens = 0;
  uint64_t seed = 0;
  bool ignore_eos = true;
  float temperature = 0;
  bool chat = false;  // as a user's turn instead of a plain prompt
};

struct BenchResult {
  Status status;
  double ttft_s = 0;
  double e2el_s = 0;
  std::vector<double> itl_s;  // a message with k tokens counts as k gaps of a k-th each
  int prompt_tokens = 0;
  int completion_tokens = 0;
};

// One connection to a server; used by one worker.
class BenchTarget {
 public:
  virtual ~BenchTarget() = default;
  virtual BenchResult run(const BenchRequest& request) = 0;
};
using BenchTargetFactory = std::function<StatusOr<std::unique_ptr<BenchTarget>>()>;

BenchTargetFactory grpc_bench_target(const ClientOptions& options, const std::string& model);
// `url`: http://host:port of any server that speaks OpenAI's API; a trailing /v1 is accepted.
// `timeout`: longest silence within an answer; 0: none.
StatusOr<BenchTargetFactory> openai_bench_target(const std::string& url, const std::string& api_key,
                                                 const std::string& model,
                                                 std::chrono::milliseconds timeout);

// Times the tokens of one streamed answer.
class TokenTimer {
 public:
  TokenTimer();
  void on_tokens(int count);
  void finish(BenchResult& result) const;

 private:
  double now_s() const;
  double start_s_ = 0;
  double last_s_ = 0;
  double first_s_ = -1;
  std::vector<double> itl_s_;
};

// Distinct prompts of `min_words` to `max_words` random words; a pure function of the seed.
std::vector<BenchRequest> make_bench_requests(int count, int min_words, int max_words,
                                              uint64_t seed);

struct LoadRun {
  std::vector<BenchResult> results;  // as they ended
  double wall_s = 0;
};
// `on_done` is called after each request with the number that ended, by one thread at a time.
StatusOr<LoadRun> run_closed_loop(const BenchTargetFactory& make_target,
                                  const std::vector<BenchRequest>& requests, int concurrency,
                                  const std::function<void(int)>& on_done);

}  // namespace pelton
