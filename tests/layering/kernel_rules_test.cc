// What kernel files may not say (cuda/kernels/README.md), so that nvcc and the emulator read the
// same program.
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace {

namespace fs = std::filesystem;

const std::regex kForbidden(
    R"re(\basm\b|__CUDA_ARCH__|__CUDACC__|PELTON_CUDA_EMULATED|<<<|__shared__|__activemask)re");

bool breaks_rules(std::string line) {
  line = line.substr(0, line.find("//"));
  return std::regex_search(line, kForbidden);
}

// primitives.h and card/ are where PTX and nvcc's own words live.
std::vector<std::string> offending_lines() {
  const fs::path root = fs::path(PELTON_SOURCE_DIR) / "cuda/kernels";
  std::vector<std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    const std::string name = fs::relative(entry.path(), root).generic_string();
    const std::string extension = entry.path().extension().string();
    if (extension != ".h" && extension != ".cu") continue;
    if (name == "primitives.h" || name.starts_with("card/")) continue;
    std::ifstream file(entry.path());
    std::string line;
    for (int number = 1; std::getline(file, line); ++number) {
      if (breaks_rules(line)) out.push_back(name + ":" + std::to_string(number) + ": " + line);
    }
  }
  return out;
}

}  // namespace

TEST_CASE("kernels say nothing that only one of their two compilers understands") {
  CHECK(offending_lines() == std::vector<std::string>{});
}

TEST_CASE("the rules for kernels refuse what they should") {
  CHECK(breaks_rules("  kernel<<<grid, block>>>(x);"));
  CHECK(breaks_rules("  asm volatile(\"bar.sync 0;\");"));
  CHECK(breaks_rules("#if __CUDA_ARCH__ >= 900"));
  CHECK(breaks_rules("  __shared__ float tile[32];"));
  CHECK_FALSE(breaks_rules("  PELTON_SHARED(float, tile, 32);  // __shared__ on a card"));
}
