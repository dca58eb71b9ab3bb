// compute-sanitizer's memcheck and racecheck over the kernel tests, where the machine has it.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "bench/gpu_check/check_context.h"
#include "bench/gpu_check/run_program.h"

namespace pelton::bench {
namespace {

constexpr const char* kTool = "compute-sanitizer";

// The tool in PATH, else where toolkits are installed; empty: it is not on this machine.
std::string find_tool() {
  std::vector<std::string> folders;
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr ? value : "");
  };
  std::istringstream path(variable("PATH"));
  for (std::string folder; std::getline(path, folder, ':');) folders.push_back(folder);
  for (const std::string& root : {variable("CUDA_HOME"), variable("CUDA_PATH"),
                                  std::string("/usr/local/cuda"), std::string("/opt/cuda")}) {
    if (root.empty()) continue;
    folders.push_back(root + "/bin");
    folders.push_back(root + "/" + kTool);
  }
  for (const std::string& folder : folders) {
    const std::string tool = folder + "/" + kTool;
    if (!folder.empty() && access(tool.c_str(), X_OK) == 0) return tool;
  }
  return "";
}

struct Log {
  int tests = 0;     // that ended
  int findings = 0;  // of the tool
};

// Catch's "0.012 s: name" after each test; the tool's lines begin with "=========".
Log read_log(const std::string& path) {
  Log log;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("=========")) {
      log.findings += line.find("COMPUTE-SANITIZER") == std::string::npos &&
                      line.find("SUMMARY: 0 ") == std::string::npos &&
                      line.find_first_not_of("= \t") != std::string::npos;
    } else if (const size_t at = line.find(" s: "); at != std::string::npos && at > 0) {
      log.tests += line.find_first_not_of("0123456789.") == at;
    }
  }
  return log;
}

void check_with(const std::string& tool, const std::string& check, double limit_s,
                const CheckContext& context, PartReport& report) {
  // The tool slows a kernel down a hundredfold: the tests that take it are marked by their size.
  const char* tests = context.quick
                          ? "norms take rows*"
                          : "~[long]~Tokens are those of the sampling spec for every combination";
  const std::string path = fmt::format("{}/{}.log", context.output, check);
  const ProgramResult result =
      run_program({tool, "--tool", check, "--error-exitcode", "9", "--kernel-name-exclude",
                   "kernel_substring=mma_rate", context.folder + "/cuda_kernels_test", tests,
                   "--durations", "yes"},
                  limit_s, path);
  const Log log = read_log(path);
  CheckRow row;
  row.name = check;
  if (result.timed_out) {
    row.ok = log.findings == 0;
    row.note = fmt::format("its {:.0f} s were over after {} tests: {}", limit_s, log.tests,
                           row.ok ? "no finding in these, the others not reached" : "findings");
  } else {
    row.ok = result.passed() && log.findings == 0;
    row.note = result.started ? fmt::format("{:.1f} s, {} tests; {}", result.seconds, log.tests,
                                            last_line(path))
                              : "could not be started";
  }
  report.add(row);
}

}  // namespace

Status check_sanitizer(const CheckContext& context, PartReport& report) {
  const std::string tool = find_tool();
  if (tool.empty()) {
    CheckRow row;
    row.name = kTool;
    row.note = "not there (neither in PATH nor in a toolkit): memcheck and racecheck not run";
    report.add(row);
    return Status();
  }
  // Half of the part's time each, and what starting takes left over.
  const double limit_s = context.limit_s > 0 ? 0.48 * context.limit_s : 45;
  for (const char* check : {"memcheck", "racecheck"}) {
    check_with(tool, check, limit_s, context, report);
  }
  return Status();
}

}  // namespace pelton::bench
