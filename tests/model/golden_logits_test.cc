// Tiny random models, in both formats, against transformers in float32 (tests/goldens/README.md).
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/model/decoder_driver.h"
#include "tests/model/test_backends.h"
#include "tests/model/tiny_models.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace pelton {
namespace {

constexpr double kTolerance = 2e-4;  // of the largest logit of the row

struct Golden {
  std::vector<TokenId> ids;
  std::vector<float> logits;  // [ids, vocab]
  std::vector<TokenId> greedy;
  bool has_gguf = false;
};

Golden read_golden(const std::filesystem::path& folder) {
  const nlohmann::json json = nlohmann::json::parse(std::ifstream(folder / "golden.json"));
  Golden golden{json["ids"], {}, json["greedy"], json["has_gguf"]};
  golden.logits.resize(golden.ids.size() * json["vocab_size"].get<size_t>());
  std::ifstream file(folder / "logits.bin", std::ios::binary);
  file.read(reinterpret_cast<char*>(golden.logits.data()),
            static_cast<std::streamsize>(golden.logits.size() * sizeof(float)));
  REQUIRE(file.gcount() == static_cast<std::streamsize>(golden.logits.size() * sizeof(float)));
  return golden;
}

void check_model(const std::string& path, const Golden& golden, const TestBackend& kind) {
  INFO(path << " on " << kind.name);
  const std::unique_ptr<Backend> backend = kind.make();
  LoadOptions options = tiny_options();
  options.load_format = LoadFormat::kAuto;
  options.dummy_dtype.reset();
  options.max_model_len = 96;
  options.path = path;
  StatusOr<LoadedModel> model = load_model(options, *backend);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  const int vocab = model->config.vocab_size;
  DecoderDriver driver(*model, *backend);
  for (const int chunk : {48, 1, 5, 16, 47}) {
    INFO("chunks of " << chunk);
    CHECK(relative_error(driver.run(golden.ids, chunk), golden.logits, vocab) < kTolerance);
  }
  // The reference's greedy answer, token by token.
  std::vector<TokenId> tokens = golden.ids;
  tokens.insert(tokens.end(), golden.greedy.begin(), golden.greedy.end());
  const std::vector<float> logits = driver.run(tokens, 7);
  for (size_t i = 0; i < golden.greedy.size(); ++i) {
    const auto row = logits.begin() + static_cast<int64_t>((golden.ids.size() + i - 1) * vocab);
    CHECK(std::max_element(row, row + vocab) - row == golden.greedy[i]);
  }
}

}  // namespace

TEST_CASE("Logits of every architecture in both formats are those of transformers") {
  const std::filesystem::path root = PELTON_GOLDENS "/models";
  int models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (!entry.is_directory()) continue;
    const Golden golden = read_golden(entry.path());
    for (const TestBackend& kind : test_backends()) {
      check_model(entry.path().string(), golden, kind);
      if (golden.has_gguf) check_model((entry.path() / "model.gguf").string(), golden, kind);
    }
    ++models;
  }
  CHECK(models >= 11);
}

TEST_CASE("A config.json as transformers 5 writes it is the same model") {
  const std::filesystem::path root = PELTON_GOLDENS "/models";
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (!entry.is_directory()) continue;
    const TempDir folder;
    for (const auto& file : std::filesystem::directory_iterator(entry.path())) {
      const std::string name = file.path().filename().string();
      if (name == "config.json" || name == "model.gguf") continue;
      std::filesystem::copy_file(std::filesystem::canonical(file.path()),
                                 folder.path() / (name == "config_v5.json" ? "config.json" : name));
    }
    check_model(folder.path().string(), read_golden(entry.path()), test_backends().back());
  }
}

}  // namespace pelton
