#include "client/command.h"

#include <fmt/format.h>
#include <fmt/ostream.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <thread>

namespace pelton {

int exit_code_of(const Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
      return kExitInvalid;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
      return kExitUnavailable;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return kExitUnauthenticated;
    case absl::StatusCode::kDeadlineExceeded:
      return kExitDeadline;
    case absl::StatusCode::kCancelled:
      return kExitInterrupted;
    default:
      return kExitFailed;
  }
}

int report_error(const Status& status) {
  std::string line = fmt::format("pelton: {}", std::string(status.message()));
  if (const auto reason = error_reason(status)) line += fmt::format(" [{}]", *reason);
  if (const auto retry = error_retry_after(status)) {
    line += fmt::format(" (try again in {} ms)", retry->count());
  }
  std::fprintf(stderr, "%s\n", line.c_str());
  return exit_code_of(status);
}

void ConnectionFlags::add_to(CLI::App& app) {
  app.add_option("--server", server, "gRPC address of the server")
      ->envname("PELTON_SERVER")
      ->capture_default_str()
      ->default_val("127.0.0.1:8001");
  app.add_option("--api-key", api_key, "Bearer token (better: PELTON_API_KEY)")
      ->envname("PELTON_API_KEY");
  app.add_option("--timeout", timeout_s, "Seconds that a call may take; 0: no limit")
      ->check(CLI::Range(0.0, 86400.0));
}

ClientOptions ConnectionFlags::options() const {
  ClientOptions options;
  options.server = server;
  options.api_key = api_key;
  options.timeout = std::chrono::milliseconds(static_cast<int64_t>(timeout_s * 1000));
  return options;
}

void SamplingFlags::add_to(CLI::App& app) {
  app.add_option("--max-tokens", max_tokens, "Tokens to generate at most");
  app.add_option("--temperature", temperature, "0 is greedy");
  app.add_option("--top-p", top_p, "Nucleus mass, (0, 1]");
  app.add_option("--top-k", top_k, "Keep the k likeliest tokens");
  app.add_option("--min-p", min_p, "Keep tokens at least this likely beside the likeliest");
  app.add_option("--seed", seed, "Same seed, same answer");
  app.add_option("--stop", stop, "String that ends the answer; may be given several times");
  app.add_flag("--ignore-eos", ignore_eos, "Go on after the end-of-sequence token");
}

// The server bounds the values and names the field: one validator, not two.
void SamplingFlags::fill(v1::SamplingParams* params) const {
  if (max_tokens) params->set_max_tokens(*max_tokens);
  if (temperature) params->set_temperature(*temperature);
  if (top_p) params->set_top_p(*top_p);
  if (top_k) params->set_top_k(*top_k);
  if (min_p) params->set_min_p(*min_p);
  if (seed) params->set_seed(*seed);
  for (const std::string& text : stop) params->add_stop(text);
  params->set_ignore_eos(ignore_eos);
}

namespace {

// Where the handler writes; -1: no guard lives. A signal handler can reach nothing but a global.
std::atomic<int> interrupt_fd{-1};

void on_interrupt(int) {
  const int fd = interrupt_fd.load();
  const char byte = 0;
  if (fd >= 0 && write(fd, &byte, 1) < 0) _exit(kExitInterrupted);
}

}  // namespace

// A handler, not a blocked signal: gRPC's threads may be older than the guard and would not have it
// blocked. The handler only writes into a pipe; the work is done by a thread.
class InterruptGuard::Watcher {
 public:
  explicit Watcher(Cancellation* cancellation) {
    if (pipe(pipe_) != 0) return;
    interrupt_fd = pipe_[1];
    struct sigaction action = {};
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, &before_);
    thread_ = std::thread([this, cancellation] {
      char byte = 0;
      while (read(pipe_[0], &byte, 1) == 1 && byte != kDone) {
        if (cancellation->cancelled()) _exit(kExitInterrupted);
        cancellation->cancel();
      }
    });
  }
  ~Watcher() {
    if (!thread_.joinable()) return;
    sigaction(SIGINT, &before_, nullptr);
    interrupt_fd = -1;
    if (write(pipe_[1], &kDone, 1) == 1) thread_.join();
    close(pipe_[0]);
    close(pipe_[1]);
  }

 private:
  static constexpr char kDone = 1;
  int pipe_[2] = {-1, -1};
  struct sigaction before_ = {};
  std::thread thread_;
};

InterruptGuard::InterruptGuard(Cancellation* cancellation)
    : watcher_(std::make_unique<Watcher>(cancellation)) {}
InterruptGuard::~InterruptGuard() = default;

void AnswerClock::on_tokens() {
  last_ = std::chrono::steady_clock::now();
  if (!first_) first_ = last_;
}

void AnswerClock::print(const v1::Usage& usage) const {
  if (!first_) return;
  const double ttft_ms = std::chrono::duration<double, std::milli>(*first_ - start_).count();
  const double decode_s = std::chrono::duration<double>(last_ - *first_).count();
  std::string line = fmt::format("TTFT {:.1f} ms", ttft_ms);
  if (usage.completion_tokens() > 1 && decode_s > 0) {
    line += fmt::format(", {:.1f} tok/s", (usage.completion_tokens() - 1) / decode_s);
  }
  line += fmt::format(", {} prompt tokens ({} cached), {} completion tokens", usage.prompt_tokens(),
                      usage.cached_tokens(), usage.completion_tokens());
  std::fprintf(stderr, "[%s]\n", line.c_str());
}

std::string own_folder() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::string() : path.parent_path().string();
}

}  // namespace pelton
