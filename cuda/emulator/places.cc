// From an instruction's address to words: the function by the symbol table, the line by addr2line
// where the machine has it.
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <map>
#include <mutex>

#include "cuda/emulator/launch.h"
#include "cuda/emulator/tracer.h"

namespace pelton::cuda::emulator {
namespace {

// "kernel.cu:12 < caller.cu:40": innermost first, through what was inlined.
std::string source_lines(uintptr_t offset) {
  std::array<char, 4096> path{};
  if (readlink("/proc/self/exe", path.data(), path.size() - 1) <= 0) return "";
  // The address is a return address: the call is just before it.
  const std::string command =
      fmt::format("addr2line -i -s -e '{}' {:#x} 2>/dev/null", path.data(), offset - 1);
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "";
  std::string lines;
  std::array<char, 1024> line{};
  while (std::fgets(line.data(), line.size(), pipe) != nullptr) {
    std::string text = line.data();
    text = text.substr(0, text.find_first_of(" \n"));
    if (text.find('?') != std::string::npos) continue;
    lines += (lines.empty() ? "" : " < ") + text;
  }
  pclose(pipe);
  return lines;
}

}  // namespace

uint32_t place_of(const void* instruction) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(instruction) - load_bias());
}

std::string describe_place(uint32_t place) {
  static std::map<uint32_t, std::string> known;
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  std::string& text = known[place];
  if (text.empty()) {
    text = symbol_name(reinterpret_cast<const void*>(load_bias() + place - 1));
    const std::string lines = source_lines(place);
    if (!lines.empty()) text += ", " + lines;
  }
  return text;
}

}  // namespace pelton::cuda::emulator
