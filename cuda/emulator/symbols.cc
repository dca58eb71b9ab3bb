// Names of this program's functions, static ones too, from its own ELF symbol table.
#include <cxxabi.h>
#include <elf.h>
#include <fmt/format.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "cuda/emulator/launch.h"

namespace pelton::cuda::emulator {
namespace {

struct Symbol {
  uintptr_t begin;
  uintptr_t end;
  std::string name;
};

uintptr_t find_bias() {
  uintptr_t bias = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        *static_cast<uintptr_t*>(out) = info->dlpi_addr;  // the program itself comes first
        return 1;
      },
      &bias);
  return bias;
}

std::vector<Symbol> read_symbols() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::vector<Symbol> symbols;
  if (bytes.size() < sizeof(Elf64_Ehdr)) return symbols;
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  const auto section = [&](size_t i) {
    Elf64_Shdr result{};
    const size_t at = header.e_shoff + i * header.e_shentsize;
    if (at + sizeof(result) <= bytes.size()) std::memcpy(&result, &bytes[at], sizeof(result));
    return result;
  };
  const uintptr_t bias = load_bias();
  for (size_t i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr table = section(i);
    if (table.sh_type != SHT_SYMTAB) continue;
    const Elf64_Shdr strings = section(table.sh_link);
    for (size_t at = 0; at + sizeof(Elf64_Sym) <= table.sh_size; at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      if (table.sh_offset + at + sizeof(symbol) > bytes.size()) break;
      std::memcpy(&symbol, &bytes[table.sh_offset + at], sizeof(symbol));
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_value == 0) continue;
      if (strings.sh_offset + symbol.st_name >= bytes.size()) continue;
      symbols.push_back({bias + symbol.st_value,
                         bias + symbol.st_value + std::max<uintptr_t>(symbol.st_size, 1),
                         std::string(&bytes[strings.sh_offset + symbol.st_name])});
    }
  }
  std::sort(symbols.begin(), symbols.end(),
            [](const Symbol& a, const Symbol& b) { return a.begin < b.begin; });
  return symbols;
}

// "void ns::kernel<int>(Params)" without return type and parameters.
std::string shorten(const std::string& mangled) {
  int status = 0;
  char* demangled = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  if (status != 0 || demangled == nullptr) return mangled;
  std::string name = demangled;
  std::free(demangled);
  const std::string anonymous = "(anonymous namespace)::";
  for (size_t at; (at = name.find(anonymous)) != std::string::npos;) {
    name.erase(at, anonymous.size());
  }
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<') ++depth;
    if (name[i] == '>') --depth;
    if (depth == 0 && name[i] == ' ') begin = i + 1;
    if (depth == 0 && name[i] == '(') return name.substr(begin, i - begin);
  }
  return name.substr(begin);
}

}  // namespace

uintptr_t load_bias() {
  static const uintptr_t bias = find_bias();
  return bias;
}

std::string symbol_name(const void* address) {
  static const std::vector<Symbol> symbols = read_symbols();
  const auto value = reinterpret_cast<uintptr_t>(address);
  auto after = std::upper_bound(symbols.begin(), symbols.end(), value,
                                [](uintptr_t v, const Symbol& s) { return v < s.begin; });
  while (after != symbols.begin()) {
    --after;
    if (value < after->end) return shorten(after->name);
    if (value - after->begin > (1u << 20)) break;
  }
  return fmt::format("kernel at {}", address);
}

}  // namespace pelton::cuda::emulator
