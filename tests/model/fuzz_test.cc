// Mutated model files: each gives a typed error or weights whose rows can be read; never a crash, a
// hang, or memory without bound. What such a model does when it runs: accepted_shapes_test.cc. Runs
// under ASan and UBSan too.
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>

#include "backend/random_blocks.h"
#include "model/formats/gguf.h"
#include "model/formats/safetensors.h"
#include "model/model_files.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace pelton {
namespace {

constexpr uint64_t kShortRuns = 250;       // of each format
constexpr uint64_t kLongRuns = 10000;      // of each format
constexpr long kMaxGrowthKb = 768 * 1024;  // ASan keeps freed memory in quarantine: 256 MiB

long resident_peak_kb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

const std::string& architecture_of(uint64_t seed) {
  static const std::vector<std::string> names = {"llama", "qwen2", "qwen3", "gemma3", "gpt2"};
  return names[seed % names.size()];
}

uint64_t interesting(SplitMix64& random, size_t file_size) {
  const uint64_t values[] = {0,
                             1,
                             2,
                             3,
                             31,
                             33,
                             255,
                             0x7FFFFFFF,
                             0x80000000,
                             0xFFFFFFFF,
                             0x100000000,
                             uint64_t{1} << 62,
                             INT64_MAX,
                             UINT64_MAX,
                             file_size,
                             file_size - 1,
                             file_size + 1};
  return values[random.next() % std::size(values)];
}

void flip_bytes(std::string& bytes, SplitMix64& random, size_t within) {
  const uint64_t count = 1 + random.next() % 8;
  for (uint64_t i = 0; i < count && within > 0; ++i) {
    bytes[random.next() % within] = static_cast<char>(random.next());
  }
}

// Cuts the file off, drops, doubles or repeats a piece of it.
void move_pieces(std::string& bytes, SplitMix64& random) {
  if (bytes.empty()) return;
  const size_t at = random.next() % bytes.size();
  const size_t length = 1 + random.next() % 64;
  switch (random.next() % 3) {
    case 0:
      bytes.resize(at);
      break;
    case 1:
      bytes.erase(at, length);
      break;
    default:
      bytes.insert(at, bytes.substr(random.next() % bytes.size(), length));
  }
}

void read_everything(const WeightSource& source) {
  for (const auto& tensor : source.tensors()) {
    std::vector<std::byte> rows(static_cast<size_t>(tensor->bytes()));
    tensor->read_rows(0, tensor->rows(), rows.data());
    if (tensor->mapped() != nullptr) {
      CHECK(std::memcmp(tensor->mapped(), rows.data(), rows.size()) == 0);
    }
  }
}

// A failure must say something, and what it says must be one of the codes that models.h promises.
void check_typed(const Status& status) {
  if (status.ok()) return;
  const bool known = status.code() == absl::StatusCode::kInvalidArgument ||
                     status.code() == absl::StatusCode::kNotFound ||
                     status.code() == absl::StatusCode::kUnimplemented ||
                     status.code() == absl::StatusCode::kResourceExhausted;
  INFO(status.ToString());
  CHECK(known);
  CHECK(!status.message().empty());
}

std::string mutated_gguf(uint64_t seed) {
  SplitMix64 random(seed);
  GgufWriter writer = tiny_gguf(architecture_of(seed));
  std::string bytes = writer.bytes();
  const size_t metadata = writer.fields().back().first + 8;
  for (uint64_t change = 0; change <= random.next() % 3; ++change) {
    const uint64_t kind = random.next() % 8;
    if (kind < 5) {  // an integer of the structure
      const auto [at, width] = writer.fields()[random.next() % writer.fields().size()];
      const uint64_t value = interesting(random, bytes.size());
      if (at + width <= bytes.size()) std::memcpy(bytes.data() + at, &value, width);
    } else if (kind < 7) {
      flip_bytes(bytes, random, std::min(metadata, bytes.size()));
    } else {
      move_pieces(bytes, random);
    }
  }
  return bytes;
}

bool try_gguf(const std::string& bytes) {
  auto file = GgufFile::parse(as_bytes(bytes));
  check_typed(file.status());
  if (!file.ok()) return false;
  auto config = model_config_from_gguf(**file);
  check_typed(config.status());
  if (!config.ok()) return false;
  auto source = open_weights(*file, *config);
  check_typed(source.status());
  if (!source.ok()) return false;
  read_everything(**source);
  return true;
}

// One value somewhere in the document becomes another, a key goes, or a key comes.
void mutate_json(nlohmann::json& node, SplitMix64& random) {
  if (node.is_structured() && !node.empty() && random.next() % 4 != 0) {
    auto child = node.begin();
    std::advance(child, static_cast<int64_t>(random.next() % node.size()));
    if (random.next() % 8 == 0) {
      node.erase(child);
    } else {
      mutate_json(*child, random);
    }
    return;
  }
  switch (random.next() % 8) {
    case 0:
      node = interesting(random, 4096);
      break;
    case 1:
      node = -static_cast<int64_t>(random.next() % 1000);
      break;
    case 2:
      node = random.next() % 200;
      break;
    case 3:
      node = random.uniform() * 1e3F;
      break;
    case 4:
      node = nullptr;
      break;
    case 5:
      node = random.next() % 2 == 0;
      break;
    case 6:
      node = nlohmann::json::array({1, 2, "three", {{"factor", 1}}});
      break;
    default:
      node = "F16";
  }
}

std::string mutated_safetensors(uint64_t seed) {
  SplitMix64 random(seed);
  std::string bytes = write_safetensors(tiny_safetensors(architecture_of(seed)));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  const uint64_t kind = random.next() % 8;
  if (kind < 5) {
    auto header = nlohmann::json::parse(bytes.substr(8, length));
    for (uint64_t change = 0; change <= random.next() % 3; ++change) mutate_json(header, random);
    return safetensors_bytes(header.dump(), bytes.substr(8 + length));
  }
  if (kind == 5) {
    const uint64_t lie = interesting(random, bytes.size());
    std::memcpy(bytes.data(), &lie, 8);
  } else if (kind == 6) {
    flip_bytes(bytes, random, random.next() % 2 == 0 ? 8 + length : bytes.size());
  } else {
    move_pieces(bytes, random);
  }
  return bytes;
}

bool try_safetensors(const std::string& bytes, const std::string& path, uint64_t seed) {
  write_file(path, bytes);
  auto model = SafetensorsModel::open(path);
  check_typed(model.status());
  if (!model.ok()) return false;
  auto source = open_weights(*model, tiny_config(architecture_of(seed)));
  check_typed(source.status());
  if (!source.ok()) return false;
  read_everything(**source);
  return true;
}

std::string mutated_config(uint64_t seed) {
  SplitMix64 random(seed);
  std::string text = tiny_config_json(architecture_of(seed));
  const uint64_t kind = random.next() % 8;
  if (kind == 6) {
    flip_bytes(text, random, text.size());
    return text;
  }
  if (kind == 7) {
    move_pieces(text, random);
    return text;
  }
  auto config = nlohmann::json::parse(text);
  if (random.next() % 2 == 0) {
    config["rope_scaling"] = {{"rope_type", random.next() % 2 == 0 ? "yarn" : "llama3"},
                              {"factor", 4.0},
                              {"low_freq_factor", 1.0},
                              {"high_freq_factor", 4.0},
                              {"original_max_position_embeddings", 64},
                              {"attention_factor", 1.0}};
    config["layer_types"] = {"full_attention", "sliding_attention"};
  }
  for (uint64_t change = 0; change <= random.next() % 3; ++change) mutate_json(config, random);
  return config.dump();
}

bool try_config(const std::string& text) {
  auto config = model_config_from_json(text, text);
  check_typed(config.status());
  if (!config.ok()) return false;
  auto source = dummy_weights(*config, DType::kQ4_K, 1);
  check_typed(source.status());
  if (!source.ok()) return false;
  for (const auto& tensor : (*source)->tensors()) {
    if (tensor->layer() > 0) continue;
    std::vector<std::byte> row(static_cast<size_t>(tensor->row_bytes()));
    tensor->read_rows(tensor->rows() - 1, tensor->rows(), row.data());
  }
  return true;
}

// Runs the seeds and checks that some mutations were refused, some harmless, none costly.
void run(uint64_t seeds, const std::function<bool(uint64_t)>& attempt) {
  const long before = resident_peak_kb();
  uint64_t loaded = 0;
  for (uint64_t seed = 0; seed < seeds; ++seed) {
    INFO("seed " << seed);
    if (attempt(seed)) ++loaded;
  }
  CHECK(loaded > 0);
  CHECK(loaded < seeds);
  CHECK(resident_peak_kb() - before < kMaxGrowthKb);
}

void fuzz_gguf(uint64_t seeds) {
  run(seeds, [](uint64_t seed) { return try_gguf(mutated_gguf(seed)); });
}

void fuzz_safetensors(uint64_t seeds) {
  TempDir dir;
  const std::string path = (dir.path() / "x.safetensors").string();
  run(seeds, [&](uint64_t seed) { return try_safetensors(mutated_safetensors(seed), path, seed); });
}

void fuzz_config(uint64_t seeds) {
  run(seeds, [](uint64_t seed) { return try_config(mutated_config(seed)); });
}

}  // namespace

TEST_CASE("mutated GGUF files are refused or load") {
  fuzz_gguf(kShortRuns);
}
TEST_CASE("mutated safetensors files are refused or load") {
  fuzz_safetensors(kShortRuns);
}
TEST_CASE("mutated config.json files are refused or load") {
  fuzz_config(kShortRuns);
}

TEST_CASE("10000 mutated GGUF files are refused or load", "[long]") {
  fuzz_gguf(kLongRuns);
}
TEST_CASE("10000 mutated safetensors files are refused or load", "[long]") {
  fuzz_safetensors(kLongRuns);
}
TEST_CASE("10000 mutated config.json files are refused or load", "[long]") {
  fuzz_config(kLongRuns);
}

}  // namespace pelton
