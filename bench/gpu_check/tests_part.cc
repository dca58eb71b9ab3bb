// The test programs that stand beside gpu_check.
#include <fmt/format.h>
#include <sys/stat.h>

#include "bench/gpu_check/check_context.h"
#include "bench/gpu_check/run_program.h"

namespace pelton::bench {
namespace {

// Time is bounded by the part; this only keeps one program from taking all of it.
constexpr double kLongest_s = 400;

bool stands(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

void add_run(const CheckContext& context, PartReport& report, const std::string& name,
             const std::vector<std::string>& arguments) {
  const std::string log = fmt::format("{}/{}.log", context.output, name);
  const ProgramResult result = run_program(arguments, kLongest_s, log);
  CheckRow row;
  row.name = name;
  row.ok = result.passed();
  row.note = !result.started    ? "could not be started"
             : result.timed_out ? "timed out"
                                : fmt::format("{:.1f} s; {}", result.seconds, last_line(log));
  report.add(row);
}

Status run_tests(const CheckContext& context, PartReport& report, const std::string& program,
                 const std::vector<std::string>& filters) {
  const std::string path = context.folder + "/" + program;
  if (!stands(path)) {
    CheckRow row;
    row.name = program;
    row.ok = kEmulated;  // a build without it; a bundle for a card has it
    row.note = "does not stand beside this program: not run";
    report.add(row);
    return Status();
  }
  std::vector<std::string> arguments = {path};
  arguments.insert(arguments.end(), filters.begin(), filters.end());
  add_run(context, report, program, arguments);
  return Status();
}

}  // namespace

Status check_kernel_tests(const CheckContext& context, PartReport& report) {
  // Under the emulator CTest runs them all besides.
  return run_tests(context, report, "cuda_kernels_test",
                   {context.quick ? "norms take rows*" : "~[long]"});
}

Status check_backend_tests(const CheckContext& context, PartReport& report) {
  return run_tests(context, report, "cuda_backend_test",
                   {context.quick ? "logit rows are gathered and capped" : "~[long]"});
}

}  // namespace pelton::bench
