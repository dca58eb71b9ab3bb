// gpu_check: what a card does with Pelton's kernels and backend, in one table. Each part runs in a
// process of its own with its own time, so that the rest goes on when one fails or hangs.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "bench/gpu_check/check_context.h"
#include "bench/gpu_check/run_program.h"
#include "cuda/cuda_backend.h"

namespace pelton::bench {
namespace {

struct Part {
  const char* name;
  double limit_s;
  Status (*run)(const CheckContext&, PartReport&);
};
constexpr Part kParts[] = {
    {"card", 25, check_card},
    {"kernel tests", 60, check_kernel_tests},
    {"backend tests", 90, check_backend_tests},
    {"kernel times", 60, check_kernel_times},
    {"models", 155, check_models},
    {"sanitizer", 90, check_sanitizer},
};
constexpr double sum_of_limits() {
  double sum = 0;
  for (const Part& part : kParts) sum += part.limit_s;
  return sum;
}
static_assert(sum_of_limits() <= 8 * 60);

std::string file_of(const CheckContext& context, const std::string& part) {
  std::string name = part;
  std::replace(name.begin(), name.end(), ' ', '-');
  return fmt::format("{}/{}.json", context.output, name);
}

std::string folder_of_program() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (length <= 0) return ".";
  const std::string text(path, length);
  return text.substr(0, text.rfind('/'));
}

// The ceilings that the part "card" left.
void read_ceilings(CheckContext& context) {
  if (kEmulated) return;  // times mean nothing there, and limits less
  for (const CheckRow& row : read_rows(file_of(context, "card"))) {
    if (row.name == "copy bandwidth") context.copy_gb_per_s = row.value;
    if (row.name == "read bandwidth") context.read_gb_per_s = row.value;
    if (row.name.starts_with("bf16 matrix rate")) {
      context.mma_tflops = std::max(context.mma_tflops, row.value);
    }
  }
}

// In the child process. 0: passed, 1: a row is not ok, 2: an error ended the part.
int run_part(CheckContext context, const std::string& name, double scale) {
  for (const Part& part : kParts) {
    if (name != part.name) continue;
    context.limit_s = part.limit_s * scale;
    read_ceilings(context);
    PartReport report(name, file_of(context, name));
    const Status status = part.run(context, report);
    if (!status.ok()) {
      CheckRow row;
      row.name = "ended early";
      row.ok = false;
      row.note = std::string(status.message());
      report.add(row);
      fmt::print(stderr, "gpu_check: {}: {}\n", name, row.note);
      return 2;
    }
    return report.all_ok() ? 0 : 1;
  }
  fmt::print(stderr, "gpu_check: there is no part \"{}\"\n", name);
  return 2;
}

int run_all(const CheckContext& context, const std::vector<std::string>& only, double scale) {
  std::vector<CheckPart> parts;
  bool ok = true;
  for (const Part& part : kParts) {
    if (!only.empty() && std::find(only.begin(), only.end(), part.name) == only.end()) continue;
    fmt::print(stderr, "gpu_check: {}\n", part.name);
    unlink(file_of(context, part.name).c_str());
    std::vector<std::string> arguments = {context.folder + "/gpu_check",
                                          "--part",
                                          part.name,
                                          "--output",
                                          context.output,
                                          "--time-scale",
                                          fmt::format("{}", scale)};
    if (context.quick) arguments.push_back("--quick");
    const ProgramResult result = run_program(arguments, part.limit_s * scale, "");
    CheckPart done;
    done.name = part.name;
    done.seconds = result.seconds;
    done.limit_s = part.limit_s * scale;
    done.status = result.timed_out ? "timed out" : result.passed() ? "passed" : "failed";
    done.rows = read_rows(file_of(context, part.name));
    ok = ok && result.passed();
    parts.push_back(std::move(done));
  }
  const std::string markdown = to_markdown(parts);
  fmt::print("{}", markdown);
  for (const auto& [name, text] : {std::pair<std::string, std::string>{"report.md", markdown},
                                   {"report.json", to_json(parts)}}) {
    const Status status = write_text(context.output + "/" + name, text);
    if (status.ok()) continue;
    fmt::print(stderr, "gpu_check: {}\n", std::string(status.message()));
    ok = false;
  }
  return ok ? 0 : 1;
}

int main_of(int argc, char** argv) {
  CheckContext context;
  context.folder = folder_of_program();
  context.output = "gpu_check_report";
  std::string part;
  std::vector<std::string> only;
  double scale = 1;
  CLI::App app("Checks and measures Pelton's kernels and backend on this machine's GPU.");
  app.add_option("--output", context.output, "Folder of report.md, report.json and logs")
      ->take_last();
  app.add_option("--only", only,
                 "Parts to run: card, kernel tests, backend tests, kernel times, "
                 "models, sanitizer");
  app.add_option("--time-scale", scale, "Multiplies each part's time limit")
      ->check(CLI::Range(0.01, 100.0));
  app.add_flag("--quick", context.quick, "Smallest shapes: shows that all of it runs");
  app.add_option("--part", part, "Runs this part in this process")->group("");
  CLI11_PARSE(app, argc, argv);
  if (mkdir(context.output.c_str(), 0755) != 0 && errno != EEXIST) {
    fmt::print(stderr, "gpu_check: {} cannot be made\n", context.output);
    return 2;
  }
  if (!part.empty()) return run_part(context, part, scale);
  const Status card = check_cuda(CudaOptions{});
  if (!card.ok()) {
    fmt::print(stderr, "gpu_check: {}\n", std::string(card.message()));
    return 3;
  }
  return run_all(context, only, scale);
}

}  // namespace
}  // namespace pelton::bench

int main(int argc, char** argv) {
  return pelton::bench::main_of(argc, argv);
}
