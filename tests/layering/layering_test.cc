// Who may include whom (the table in ARCHITECTURE.md), and which third-party headers stand where.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace {

namespace fs = std::filesystem;

struct Include {
  std::string file;    // relative to the root, '/' separated
  std::string target;  // as written
};

// Folders are matched by their longest listed prefix: "model/formats/x.h" belongs to "model".
const std::vector<std::string> kRooms = {
    "core",      "text",   "backend", "model", "cpu",   "cuda/kernels", "cuda/emulator", "cuda",
    "scheduler", "server", "client",  "bench", "tests", "tools",        "proto"};

std::string room_of(const std::string& path) {
  for (const std::string& room : kRooms) {
    if (path.starts_with(room + "/")) return room;
  }
  return "";
}

const std::map<std::string, std::set<std::string>> kAllowed = {
    {"core", {"core"}},
    {"text", {"core", "text"}},
    {"backend", {"core", "backend"}},
    {"model", {"core", "backend", "model"}},
    {"cpu", {"core", "backend", "cpu"}},
    {"cuda", {"core", "backend", "cuda", "cuda/kernels"}},
    {"cuda/kernels", {"cuda/kernels"}},
    {"cuda/emulator", {"cuda/emulator"}},
    {"scheduler", {"core", "scheduler"}},
    {"server", {"core", "text", "server"}},
    {"client", {"core", "client"}},
    {"bench",
     {"core", "text", "backend", "model", "cpu", "cuda", "cuda/kernels", "scheduler", "server",
      "bench"}},
};

bool starts_with_any(const std::string& text, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& prefix) { return text.starts_with(prefix); });
}

bool may_include(const Include& include) {
  const std::string from = room_of(include.file);
  const std::string to = room_of(include.target);
  if (to.empty()) return true;  // not ours
  if (from == "tests" || from == "tools") return true;
  const auto allowed = kAllowed.find(from);
  if (allowed == kAllowed.end()) return false;
  if (allowed->second.count(to) != 0) return true;
  if (from == "scheduler" && include.file.starts_with("scheduler/engine")) {
    return include.target == "model/model_runner.h" || to == "text";
  }
  if (from == "server") {
    if (include.target == "scheduler/engine.h") return true;
    const bool loads = starts_with_any(include.file, {"server/model_host_", "server/main.cc"});
    return loads && (to == "backend" || to == "model" || to == "cpu" || to == "cuda");
  }
  return false;
}

// Third-party header prefixes, and the files (by prefix) that may name them. Tests may name any.
struct ThirdParty {
  std::vector<std::string> headers;
  std::vector<std::string> files;
};
const std::vector<ThirdParty> kThirdParty = {
    {{"cuda", "cublas"}, {"cuda/", "bench/gpu_check/"}},
    {{"grpc", "google/protobuf", "google/rpc", "pelton/v1/"}, {"server/", "client/"}},
    {{"hwy/"}, {"cpu/"}},
    {{"immintrin.h", "x86intrin.h", "arm_neon.h"}, {"cpu/", "bench/"}},
    {{"spdlog/"}, {"core/log."}},
    {{"prometheus/"}, {"core/metrics."}},
    {{"yaml-cpp/"}, {"server/options"}},
    {{"CLI/"}, {"server/options", "client/", "bench/"}},
    {{"boost/asio", "boost/beast", "boost/json"}, {"server/", "client/"}},
    {{"boost/context"}, {"cuda/emulator/"}},
    {{"nlohmann/"}, {"model/", "client/", "bench/"}},
    {{"openssl/"}, {"scheduler/prefix_cache.", "server/"}},
    {{"text/ffi/"}, {"text/"}},
};

bool third_party_in_place(const Include& include) {
  if (include.file.starts_with("tests/") || !room_of(include.target).empty()) return true;
  for (const ThirdParty& rule : kThirdParty) {
    if (starts_with_any(include.target, rule.headers)) {
      return starts_with_any(include.file, rule.files);
    }
  }
  return true;
}

std::vector<Include> all_includes() {
  const fs::path root = PELTON_SOURCE_DIR;
  const std::regex pattern(R"re(^\s*#\s*include\s*[<"]([^>"]+)[>"])re");
  std::vector<Include> out;
  for (const std::string& room : kRooms) {
    if (room.find('/') != std::string::npos || !fs::exists(root / room)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cc" && extension != ".cu") continue;
      std::ifstream file(entry.path());
      std::string line;
      std::smatch match;
      while (std::getline(file, line)) {
        if (std::regex_search(line, match, pattern)) {
          out.push_back({fs::relative(entry.path(), root).generic_string(), match[1]});
        }
      }
    }
  }
  return out;
}

std::vector<std::string> violations(const std::function<bool(const Include&)>& allowed) {
  std::vector<std::string> out;
  for (const Include& include : all_includes()) {
    if (!allowed(include)) out.push_back(include.file + " includes " + include.target);
  }
  return out;
}

}  // namespace

TEST_CASE("the tree is found and read") {
  CHECK(all_includes().size() > 50);
}

TEST_CASE("each room includes only the rooms below it") {
  CHECK(violations(may_include) == std::vector<std::string>{});
}

TEST_CASE("third-party headers stay in the rooms that own them") {
  CHECK(violations(third_party_in_place) == std::vector<std::string>{});
}

TEST_CASE("the rules refuse what they should") {
  CHECK_FALSE(may_include({"scheduler/scheduler.cc", "model/model_runner.h"}));
  CHECK(may_include({"scheduler/engine.cc", "model/model_runner.h"}));
  CHECK_FALSE(may_include({"server/convert.cc", "model/load.h"}));
  CHECK_FALSE(may_include({"client/chat.cc", "text/tokenizer.h"}));
  CHECK_FALSE(third_party_in_place({"scheduler/engine.cc", "openssl/evp.h"}));
}
