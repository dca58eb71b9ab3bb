// Runs a program with a time limit, its output in a file. Blocks the calling thread.
#pragma once

#include <string>
#include <vector>

namespace pelton::bench {

struct ProgramResult {
  bool started = false;  // false: there is no such program
  bool timed_out = false;
  int exit_code = -1;  // 128 + the signal where one ended it
  double seconds = 0;
  bool passed() const { return started && !timed_out && exit_code == 0; }
};

// `arguments[0]` is the program, looked for in PATH where it has no '/'. Output of both kinds goes
// to `output_path`; empty: to this program's own. At the limit the program and its children are
// killed.
ProgramResult run_program(const std::vector<std::string>& arguments, double limit_s,
                          const std::string& output_path);

// The last line of a file that is not empty, at most 200 characters.
std::string last_line(const std::string& path);

}  // namespace pelton::bench
