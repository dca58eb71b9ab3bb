#include "bench/gpu_check/run_program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "bench/stopwatch.h"

namespace pelton::bench {
namespace {

constexpr int kCannotStart = 127;

// In the child: never returns.
[[noreturn]] void become(const std::vector<std::string>& arguments, int output) {
  setpgid(0, 0);
  if (output >= 0) {
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
  }
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execvp(argv[0], argv.data());
  _exit(kCannotStart);
}

}  // namespace

ProgramResult run_program(const std::vector<std::string>& arguments, double limit_s,
                          const std::string& output_path) {
  ProgramResult result;
  const int output = output_path.empty() ? -1
                                         : open(output_path.c_str(),
                                                O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const Stopwatch watch;
  const pid_t child = fork();
  if (child == 0) become(arguments, output);
  if (output >= 0) close(output);
  if (child < 0) return result;
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (watch.seconds() > limit_s) {
      kill(-child, SIGKILL);
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      result.timed_out = true;
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  result.seconds = watch.seconds();
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.started = result.exit_code != kCannotStart;
  return result;
}

std::string last_line(const std::string& path) {
  std::ifstream file(path);
  std::string line, last;
  while (std::getline(file, line)) {
    if (!line.empty()) last = line;
  }
  return last.substr(0, 200);
}

}  // namespace pelton::bench
