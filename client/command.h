// What the `pelton` subcommands share: connection and sampling flags, exit codes, error texts,
// Ctrl-C.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/client.h"

namespace pelton {

// Scripts can rely on these.
enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,           // anything not below
  kExitUsage = 2,            // the command line is wrong
  kExitInvalid = 3,          // the server refused the request: invalid, unsupported, not found
  kExitUnavailable = 4,      // not reachable, draining, or overloaded: try again later
  kExitUnauthenticated = 5,  // the API key is missing or wrong
  kExitDeadline = 6,         // --timeout passed
  kExitInterrupted = 130,    // Ctrl-C
};
int exit_code_of(const Status& status);

// Prints "pelton: ..." with reason, field and retry time to stderr; gives the exit code.
int report_error(const Status& status);

struct ConnectionFlags {
  std::string server;
  std::string api_key;
  double timeout_s = 0;
  void add_to(CLI::App& app);
  ClientOptions options() const;
};

struct SamplingFlags {
  std::optional<int> max_tokens;
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<int> top_k;
  std::optional<float> min_p;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  void add_to(CLI::App& app);
  void fill(v1::SamplingParams* params) const;
};

// While one lives, Ctrl-C cancels what it was given instead of ending the process; a second one
// within the same call ends it. One at a time.
class InterruptGuard {
 public:
  explicit InterruptGuard(Cancellation* cancellation);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  class Watcher;
  std::unique_ptr<Watcher> watcher_;
};

// Speed of one answer as the client saw it.
class AnswerClock {
 public:
  AnswerClock() : start_(std::chrono::steady_clock::now()) {}
  void on_tokens();                          // each message that carries tokens
  void print(const v1::Usage& usage) const;  // to stderr: TTFT, tok/s, tokens
 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  TimePoint start_;
  std::optional<TimePoint> first_;
  TimePoint last_;
};

// Folder of the running program, to find its sibling binaries; empty when it can not be told.
std::string own_folder();

// Each adds a subcommand and leaves in `run` what main() calls when it was chosen.
using Runner = std::function<int()>;
void add_chat_command(CLI::App& app, Runner& run);
void add_complete_command(CLI::App& app, Runner& run);
void add_token_commands(CLI::App& app, Runner& run);
void add_model_commands(CLI::App& app, Runner& run);
void add_serve_command(CLI::App& app, Runner& run);
void add_bench_command(CLI::App& app, Runner& run);

}  // namespace pelton
