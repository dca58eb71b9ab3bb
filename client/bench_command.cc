// pelton bench: closed-loop load on a running server, or (--offline) the sibling pelton-bench.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "client/bench_load.h"
#include "client/bench_report.h"
#include "client/command.h"

namespace pelton {
namespace {

struct BenchFlags {
  ConnectionFlags connection;
  std::string url;
  std::string model;
  std::vector<int> concurrency = {1, 8, 32};
  int requests = 0;  // 0: four a stream, at least 8
  int min_words = 20;
  int max_words = 120;
  int max_tokens = 64;
  float temperature = 0;
  uint64_t seed = 1;
  bool respect_eos = false;
  bool chat = false;
  bool no_ceilings = false;
  std::string json_file;
};

// Runs the sibling for this machine's ceilings; empty where it is not there.
std::string read_ceilings() {
  const std::string program = own_folder() + "/pelton-bench";
  if (access(program.c_str(), X_OK) != 0) return "";
  FILE* pipe = popen(fmt::format("'{}' --ceilings --json 2>/dev/null", program).c_str(), "r");
  if (pipe == nullptr) return "";
  std::string text;
  char buffer[4096];
  while (const size_t count = fread(buffer, 1, sizeof(buffer), pipe)) text.append(buffer, count);
  return pclose(pipe) == 0 ? text : "";
}

void draw_progress(int done, int total, int concurrency) {
  if (isatty(STDERR_FILENO) == 0) return;
  constexpr int kWidth = 40;
  const int filled = done * kWidth / total;
  std::fprintf(stderr, "\r%3d streams [%s%s] %d/%d%s", concurrency,
               std::string(static_cast<size_t>(filled), '#').c_str(),
               std::string(static_cast<size_t>(kWidth - filled), '.').c_str(), done, total,
               done == total ? "\n" : "");
  std::fflush(stderr);
}

StatusOr<BenchTargetFactory> make_factory(const BenchFlags& flags) {
  const ClientOptions options = flags.connection.options();
  if (flags.url.empty()) return grpc_bench_target(options, flags.model);
  return openai_bench_target(flags.url, options.api_key, flags.model, options.timeout);
}

StatusOr<std::vector<BenchSummary>> run_all(const BenchFlags& flags) {
  PELTON_ASSIGN_OR_RETURN(const BenchTargetFactory factory, make_factory(flags));
  std::vector<BenchSummary> summaries;
  uint64_t seed = flags.seed;
  for (const int concurrency : flags.concurrency) {
    const int count = flags.requests > 0 ? flags.requests : std::max(8, 4 * concurrency);
    // A new seed a run: no run finds its prompts in the prefix cache.
    auto requests = make_bench_requests(count, flags.min_words, flags.max_words, seed++);
    for (BenchRequest& request : requests) {
      request.max_tokens = flags.max_tokens;
      request.temperature = flags.temperature;
      request.ignore_eos = !flags.respect_eos;
      request.chat = flags.chat;
    }
    PELTON_ASSIGN_OR_RETURN(const LoadRun run,
                            run_closed_loop(factory, requests, concurrency, [&](int done) {
                              draw_progress(done, count, concurrency);
                            }));
    summaries.push_back(summarize(run, concurrency));
  }
  return summaries;
}

int run_bench(const BenchFlags& flags) {
  if (flags.min_words > flags.max_words) {
    return report_error(absl::InvalidArgumentError("--min-words is above --max-words"));
  }
  const std::string ceilings = flags.no_ceilings ? "" : read_ceilings();
  const auto summaries = run_all(flags);
  if (!summaries.ok()) return report_error(summaries.status());
  std::printf("%s", bench_table(*summaries).c_str());
  if (!ceilings.empty()) std::printf("\nceilings of this machine: %s\n", ceilings.c_str());
  if (!flags.json_file.empty()) {
    const std::string target = flags.url.empty() ? flags.connection.server : flags.url;
    std::ofstream file(flags.json_file);
    file << bench_json(*summaries, target, ceilings);
    if (!file) {
      return report_error(absl::PermissionDeniedError("cannot write " + flags.json_file));
    }
  }
  for (const BenchSummary& summary : *summaries) {
    if (summary.failed > 0) {
      return report_error(absl::UnknownError(fmt::format("{} requests failed, the first with: {}",
                                                         summary.failed, summary.first_error)));
    }
  }
  return kExitOk;
}

int run_offline(const std::vector<std::string>& arguments) {
  const std::string program = own_folder() + "/pelton-bench";
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) {
    if (argument != "--offline") argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  return report_error(
      absl::NotFoundError(fmt::format("cannot start {}: {}", program, std::strerror(errno))));
}

}  // namespace

void add_bench_command(CLI::App& app, Runner& run) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = app.add_subcommand("bench", "Measure a server under load");
  flags->connection.add_to(*command);
  command->allow_extras();
  auto offline = std::make_shared<bool>(false);
  command->add_flag("--offline", *offline,
                    "Run pelton-bench instead, straight on the engine; other arguments go to it");
  command->add_option("--url", flags->url, "Measure an OpenAI endpoint (http://host:port) instead");
  command->add_option("--model", flags->model, "Served name");
  command->add_option("--concurrency", flags->concurrency, "Streams at a time: 1,8,32")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096));
  command->add_option("--requests", flags->requests, "Requests a run; 0: four a stream, at least 8")
      ->check(CLI::Range(0, 1000000));
  command->add_option("--min-words", flags->min_words, "Words in a prompt, least")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  command->add_option("--max-words", flags->max_words, "Words in a prompt, most")
      ->capture_default_str()
      ->check(CLI::Range(1, 100000));
  command->add_option("--max-tokens", flags->max_tokens, "Tokens an answer")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  command->add_option("--temperature", flags->temperature, "0 is greedy")->capture_default_str();
  command->add_option("--seed", flags->seed, "Of prompts and sampling")->capture_default_str();
  command->add_flag("--respect-eos", flags->respect_eos, "Let answers end early");
  command->add_flag("--chat", flags->chat, "Through the chat template");
  command->add_flag("--no-ceilings", flags->no_ceilings, "Do not measure the machine beside");
  command->add_option("--json", flags->json_file, "Write the figures to this file too");
  command->callback([flags, offline, command, &run] {
    const std::vector<std::string> extras = command->remaining();
    if (*offline) {
      run = [extras] { return run_offline(extras); };
      return;
    }
    if (!extras.empty()) throw CLI::ExtrasError({extras.front()});
    run = [flags] { return run_bench(*flags); };
  });
}

}  // namespace pelton
