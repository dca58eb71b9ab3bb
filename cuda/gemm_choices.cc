#include "cuda/gemm_choices.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace pelton::cuda {
namespace {

std::string to_hex(const cublaslt::Algorithm& algorithm) {
  std::string out;
  for (const uint64_t word : algorithm.data) out += fmt::format("{:016x}", word);
  return out;
}
bool from_hex(const std::string& text, cublaslt::Algorithm& out) {
  if (text.size() != 128) return false;
  for (int i = 0; i < 8; ++i) {
    if (std::sscanf(text.substr(static_cast<size_t>(16 * i), 16).c_str(), "%16lx", &out.data[i]) !=
        1) {
      return false;
    }
  }
  return true;
}

}  // namespace

// One line a choice: n k out_f32 fp8 bucket library workspace algorithm.
GemmChoices read_gemm_choices(const std::string& file, const std::string& measured_with,
                              size_t most_workspace_bytes) {
  std::ifstream in(file);
  std::string line;
  if (!std::getline(in, line) || line != measured_with) return {};
  GemmChoices choices;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    int out_f32 = 0, fp8 = 0, library = 0;
    GemmKey key;
    GemmChoice choice;
    std::string hex;
    if (!(words >> key.shape.n >> key.shape.k >> out_f32 >> fp8 >> key.bucket >> library >>
          choice.workspace_bytes >> hex) ||
        !from_hex(hex, choice.algorithm) || choice.workspace_bytes > most_workspace_bytes) {
      return {};
    }
    key.shape.out_f32 = out_f32 != 0;
    key.shape.fp8 = fp8 != 0;
    choice.library = library != 0;
    choices[key] = choice;
  }
  return choices;
}

void write_gemm_choices(const std::string& file, const std::string& measured_with,
                        const GemmChoices& choices) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::create_directories(fs::path(file).parent_path(), error);
  const std::string part = file + ".part";
  {
    std::ofstream out(part);
    out << measured_with << '\n';
    for (const auto& [key, choice] : choices) {
      out << fmt::format("{} {} {} {} {} {} {} {}\n", key.shape.n, key.shape.k,
                         static_cast<int>(key.shape.out_f32), static_cast<int>(key.shape.fp8),
                         key.bucket, static_cast<int>(choice.library), choice.workspace_bytes,
                         to_hex(choice.algorithm));
    }
    if (!out) return;
  }
  fs::rename(part, file, error);
}

}  // namespace pelton::cuda
