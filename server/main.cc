// pelton-server: options -> model -> service core -> two front ends, until a signal or a dead
// device.
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <thread>

#include "core/log.h"
#include "core/metrics.h"
#include "server/auth.h"
#include "server/grpc_server.h"
#include "server/http_server.h"
#include "server/inference_service.h"
#include "server/model_host.h"
#include "server/model_host_loader.h"
#include "server/options.h"
#include "server/version.h"

namespace pelton {
namespace {

constexpr int kExitOk = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr int kExitDeviceFailed = 70;  // EX_SOFTWARE: a supervisor restarts the process

// How long clients may take to be told that a drain is over before their request was.
constexpr std::chrono::seconds kEndGrace{2};

int fail(const Status& status, int code) {
  std::fprintf(stderr, "pelton-server: %s\n", std::string(status.message()).c_str());
  return code;
}

std::vector<std::string> split_commas(const std::string& text) {
  std::vector<std::string> out;
  size_t begin = 0;
  while (begin <= text.size() && !text.empty()) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    if (comma > begin) out.push_back(text.substr(begin, comma - begin));
    begin = comma + 1;
  }
  return out;
}

// SIGINT and SIGTERM, blocked in every thread and waited for here: no handler runs.
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    signal(SIGPIPE, SIG_IGN);
  }
  // Whether a signal came within the time.
  bool wait(std::chrono::milliseconds time) const {
    const timespec wait = {time.count() / 1000, (time.count() % 1000) * 1000000};
    return sigtimedwait(&set_, nullptr, &wait) > 0;
  }

 private:
  sigset_t set_;
};

// Loading takes no heed of signals, and nothing is served yet: one that comes ends the process.
class StopWhileLoading {
 public:
  explicit StopWhileLoading(const Signals& signals)
      : thread_([this, &signals] {
          while (!loaded_) {
            if (!signals.wait(std::chrono::milliseconds(20))) continue;
            log_info("stopped while loading");
            _exit(kExitOk);
          }
        }) {}
  ~StopWhileLoading() {
    loaded_ = true;
    thread_.join();
  }
  StopWhileLoading(const StopWhileLoading&) = delete;
  StopWhileLoading& operator=(const StopWhileLoading&) = delete;

 private:
  std::atomic<bool> loaded_ = false;
  std::thread thread_;
};

void log_loaded(const ModelFacts& facts, const LoadReport& report) {
  for (const std::string& warning : report.warnings) log_warning(warning);
  log_info("model loaded", {{"model", facts.name},
                            {"architecture", facts.architecture},
                            {"weights", facts.weight_format},
                            {"parameters", facts.parameters},
                            {"weight_mib", static_cast<double>(facts.weight_bytes) / (1 << 20)},
                            {"device", facts.device},
                            {"seconds", report.load_seconds}});
  log_info("kv cache", {{"mib", static_cast<double>(report.kv_cache_bytes) / (1 << 20)},
                        {"tokens", report.kv_cache_tokens},
                        {"max_model_len", facts.max_model_len}});
  if (report.step_budget.work > 0) {
    log_info("step budget", {{"tokens", report.step_budget.work},
                             {"context_per_token", report.step_budget.context_per_token},
                             {"prefill_tokens_per_second", report.step_budget.tokens_per_second}});
  }
  if (report.shortened) {
    log_warning(
        "max_model_len is less than the model's own, so that the KV cache fits; raise "
        "--kv-cache-memory-bytes for more");
  }
}

void print_examples(const ListenAddress& http, const ListenAddress& grpc, const Options& options,
                    bool chat) {
  const std::string key =
      options.api_key.empty() ? "" : " -H \"Authorization: Bearer $PELTON_API_KEY\"";
  if (chat) {
    std::printf(
        "\ncurl http://%s/v1/chat/completions%s -H 'Content-Type: application/json' -d "
        "'{\"messages\": [{\"role\": \"user\", \"content\": \"Name three rivers.\"}], "
        "\"max_tokens\": 64}'\n",
        http.text().c_str(), key.c_str());
    std::printf(
        "grpcurl -plaintext%s -d '{\"messages\": [{\"role\": \"ROLE_USER\", \"content\": "
        "[{\"text\": \"Name three rivers.\"}]}], \"sampling\": {\"max_tokens\": 64}}' %s "
        "pelton.v1.Inference/ChatStream\n",
        key.c_str(), grpc.text().c_str());
  } else {
    std::printf(
        "\ncurl http://%s/v1/completions%s -H 'Content-Type: application/json' -d "
        "'{\"prompt\": [1, 2, 3], \"max_tokens\": 16, \"return_token_ids\": true}'\n",
        http.text().c_str(), key.c_str());
    std::printf(
        "grpcurl -plaintext%s -d '{\"prompt\": {\"token_ids\": {\"ids\": [1, 2, 3]}}, "
        "\"return_token_ids\": true}' %s pelton.v1.Inference/Complete\n",
        key.c_str(), grpc.text().c_str());
  }
}

// Each connection takes a descriptor, and the usual soft limit is lower than what is served.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Descriptors that HTTP connections may take: the rest is for files, gRPC and health checks.
int max_http_connections() {
  constexpr rlim_t kOthers = 1024;
  constexpr int kMost = 4096;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kMost + kOthers) return kMost;
  return static_cast<int>(std::max<rlim_t>(limit.rlim_cur / 2, 16));
}

struct FrontEnds {
  std::unique_ptr<GrpcServer> grpc;
  std::unique_ptr<HttpServer> http;
};

StatusOr<FrontEnds> start_front_ends(const Options& options, InferenceService& service,
                                     const Authenticator& auth, Metrics& metrics,
                                     std::function<bool()> live) {
  FrontEnds front;
  GrpcServerOptions grpc_options;
  grpc_options.address = options.grpc;
  grpc_options.threads = options.grpc_threads;
  PELTON_ASSIGN_OR_RETURN(front.grpc, GrpcServer::start(grpc_options, &service, &auth));

  PELTON_ASSIGN_OR_RETURN(const ListenAddress http, parse_listen_address("http", options.http));
  HttpOptions http_options;
  http_options.host = http.host;
  http_options.port = http.port;
  http_options.threads = options.http_threads;
  http_options.max_connections = max_http_connections();
  http_options.keep_alive_timeout = std::chrono::seconds(options.keep_alive_timeout_s);
  http_options.cors_origins = split_commas(options.cors_allowed_origins);
  HttpDeps deps;
  deps.service = &service;
  deps.auth = &auth;
  deps.metrics = [&metrics] { return metrics.render(); };
  deps.live = std::move(live);
  PELTON_ASSIGN_OR_RETURN(front.http, HttpServer::start(http_options, deps));
  return front;
}

void drain(const Options& options, InferenceService& service, FrontEnds& front,
           const Signals& signals) {
  log_info("draining", {{"timeout_s", options.drain_timeout_s}});
  service.drain();  // from here on health and readiness say so, on both front ends
  front.http->drain();
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::milliseconds(static_cast<int64_t>(options.drain_timeout_s * 1000));
  // The core may be idle while the last bytes of an answer are still to be written.
  const auto busy = [&] { return !service.idle() || front.http->calls_in_flight() > 0; };
  while (busy() && std::chrono::steady_clock::now() < end) {
    if (signals.wait(std::chrono::milliseconds(20))) {
      log_warning("a second signal: running requests are ended");
      break;
    }
  }
  if (busy()) {
    service.end_all();
    const auto told_by = std::chrono::steady_clock::now() + kEndGrace;
    while (busy() && std::chrono::steady_clock::now() < told_by) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  front.grpc->shutdown(std::chrono::seconds(1));
  front.http->stop();
}

// Until a signal (drains, 0) or a failed device (70).
int serve(const Options& options, const Signals& signals) {
  const auto started = std::chrono::steady_clock::now();
  const SteadyClock clock;
  Metrics metrics;
  SharedDevices devices;
  auto loaded = [&] {
    const StopWhileLoading stop(signals);
    return load_served_model(options, devices, &clock, &metrics);
  }();
  if (!loaded.ok()) return fail(loaded.status(), kExitFailed);
  ServedModel& model = *loaded->model;
  log_loaded(model.facts(), loaded->report);

  ModelHost host;
  if (const Status status = host.add(loaded->model); !status.ok()) return fail(status, kExitFailed);
  const Authenticator auth({options.api_key});
  InferenceServiceOptions service_options;
  service_options.tokenizer_threads = options.tokenizer_threads;
  InferenceService service(&host, &clock, service_options);
  // Atomics only: answered while everything else is busy or stuck.
  const auto live = [&] {
    return model.engine().health().ok() &&
           clock.now() - model.engine().heartbeat() < service_options.stalled_after;
  };
  auto front = start_front_ends(options, service, auth, metrics, live);
  if (!front.ok()) return fail(front.status(), kExitFailed);

  ListenAddress http = *parse_listen_address("http", options.http);
  ListenAddress grpc = *parse_listen_address("grpc", options.grpc);
  http.port = front->http->port();
  grpc.port = front->grpc->port();
  std::printf("ready model=%s http=%s grpc=%s start_s=%.2f\n", model.facts().name.c_str(),
              http.text().c_str(), grpc.text().c_str(),
              to_seconds(std::chrono::steady_clock::now() - started));
  if (options.print_examples) {
    print_examples(http, grpc, options, model.chat_template() != nullptr);
  }
  std::fflush(stdout);

  while (!signals.wait(std::chrono::milliseconds(200))) {
    if (const Status health = model.engine().health(); !health.ok()) {
      log_error("the device failed", {{"error", std::string(health.message())}});
      front->http->stop();
      front->grpc->shutdown(Duration::zero());
      return kExitDeviceFailed;
    }
  }
  drain(options, service, *front, signals);
  log_info("stopped");
  return kExitOk;
}

}  // namespace
}  // namespace pelton

int main(int argc, char** argv) {
  using namespace pelton;
  std::vector<std::string> environment;
  for (char** line = environ; *line != nullptr; ++line) environment.emplace_back(*line);
  const auto parsed = parse_options(std::span<const char* const>(argv, argc), environment);
  if (!parsed.ok()) return fail(parsed.status(), kExitUsage);
  if (parsed->exit_now) {
    std::fputs(parsed->output.c_str(), stdout);
    return kExitOk;
  }
  const Options& options = parsed->options;
  const std::pair<std::string_view, LogLevel> levels[] = {{"debug", LogLevel::kDebug},
                                                          {"info", LogLevel::kInfo},
                                                          {"warning", LogLevel::kWarning},
                                                          {"error", LogLevel::kError}};
  LogOptions log_options;
  log_options.json = options.log_format == "json";
  for (const auto& [name, level] : levels) {
    if (options.log_level == name) log_options.level = level;
  }
  init_logging(log_options);
  for (const std::string& warning : options.warnings) log_warning(warning);
  raise_descriptor_limit();
  const Signals signals;  // before any thread starts
  return serve(options, signals);
}
