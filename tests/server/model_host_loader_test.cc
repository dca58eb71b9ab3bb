#include "server/model_host_loader.h"

#include <fstream>
#include <thread>

#include "tests/support/catch.h"
#include "tests/support/collecting_sink.h"
#include "tests/support/model_cache.h"
#include "tests/support/temp_dir.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace pelton {
namespace {

Options options_for(const std::string& model, std::vector<const char*> more = {}) {
  std::vector<const char*> arguments = {"pelton-server", model.c_str()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const auto parsed = parse_options(arguments, {});
  REQUIRE(parsed.ok());
  return parsed->options;
}

std::string shape(const char* name) {
  return std::string(PELTON_SOURCE_DIR) + "/bench/shapes/" + name;
}

Status error_of(const Options& options) {
  static const SteadyClock clock;
  SharedDevices devices;
  return load_served_model(options, devices, &clock, nullptr).status();
}

}  // namespace

TEST_CASE("a gguf file becomes a model that answers in text") {
  const std::string path = smollm2_path();
  if (path.empty()) return;
  const SteadyClock clock;
  Metrics metrics;
  SharedDevices devices;
  auto loaded =
      load_served_model(options_for(path, {"--max-model-len", "512"}), devices, &clock, &metrics);
  REQUIRE(loaded.status() == absl::OkStatus());
  ServedModel& model = *loaded->model;
  CHECK(model.facts().name == "SmolLM2-135M-Instruct.Q4_1");
  CHECK(model.facts().architecture == "llama");
  CHECK(model.facts().weight_format == "q4_1");
  CHECK(model.facts().max_model_len == 512);
  REQUIRE(model.tokenizer() != nullptr);
  REQUIRE(model.chat_template() != nullptr);

  Request request;
  request.id = model.engine().mint_request_id();
  request.prompt = {{*model.tokenizer()->encode("The capital of France is", true)}};
  request.params.temperature = 0;
  request.params.max_tokens = 8;
  auto sink = std::make_shared<CollectingSink>();
  REQUIRE(model.engine().submit(request, sink).ok());
  while (sink->finished() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const CollectingSink::Answer answer = sink->answer(request.id);
  const RequestOutput& last = answer.last;
  CHECK(last.finish_reason == FinishReason::kLength);
  CHECK(last.usage.completion_tokens == 8);
  CHECK(answer.text == model.tokenizer()->decode(answer.tokens, true));
  CHECK(
      metrics.render().find("pelton:generation_tokens_total{model_name=\"SmolLM2-135M-Instruct.Q4_1"
                            "\"} 8") != std::string::npos);
}

TEST_CASE("dummy weights make a model without text") {
  const SteadyClock clock;
  SharedDevices devices;
  auto loaded = load_served_model(
      options_for(shape("smollm2-135m"),
                  {"--load-format", "dummy", "--quantization", "q4_0", "--max-model-len", "64"}),
      devices, &clock, nullptr);
  REQUIRE(loaded.status() == absl::OkStatus());
  CHECK(loaded->model->facts().name == "smollm2-135m");
  CHECK(loaded->model->tokenizer() == nullptr);
  CHECK(loaded->model->chat_template() == nullptr);
}

TEST_CASE("a gguf file without a vocabulary makes a model without text") {
  const std::string path =
      std::string(PELTON_SOURCE_DIR) + "/tests/goldens/models/llama/model.gguf";
  const SteadyClock clock;
  SharedDevices devices;
  auto loaded = load_served_model(options_for(path), devices, &clock, nullptr);
  REQUIRE(loaded.status() == absl::OkStatus());
  CHECK(loaded->model->tokenizer() == nullptr);
}

TEST_CASE("a model is called as its folder however that is spelt") {
  const TempDir dir;
  const std::filesystem::path folder = dir.path() / "tiny";
  std::filesystem::create_directory(folder);
  std::ofstream(folder / "config.json")
      << R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
             "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 100,
             "max_position_embeddings": 64, "rms_norm_eps": 1e-5})";
  const SteadyClock clock;
  SharedDevices devices;
  for (const char* spelling : {"", "/.", "/../tiny/", "/config.json"}) {
    auto loaded =
        load_served_model(options_for(folder.string() + spelling, {"--load-format", "dummy"}),
                          devices, &clock, nullptr);
    REQUIRE(loaded.status() == absl::OkStatus());
    CHECK(loaded->model->facts().name == "tiny");
  }
}

TEST_CASE("the models of a process share one compute pool") {
  const TempDir dir;
  std::ofstream(dir.path() / "config.json")
      << R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
             "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
             "max_position_embeddings": 64, "rms_norm_eps": 1e-5})";
  const Options options = options_for(
      dir.path().string(), {"--device", "cpu", "--load-format", "dummy", "--threads", "2"});
  const SteadyClock clock;
  SharedDevices devices;
  auto first = load_served_model(options, devices, &clock, nullptr);
  REQUIRE(first.status() == absl::OkStatus());
  const auto* pool = devices.cpu_pool.get();
  REQUIRE(pool != nullptr);
  CHECK(devices.cpu_pool.use_count() == 2);
  auto second = load_served_model(options, devices, &clock, nullptr);
  REQUIRE(second.status() == absl::OkStatus());
  CHECK(devices.cpu_pool.get() == pool);
  CHECK(devices.cpu_pool.use_count() == 3);
  const auto sink = std::make_shared<CollectingSink>();
  for (const auto& loaded : {&first, &second}) {
    Engine& engine = (*loaded)->model->engine();
    Request request;
    request.id = engine.mint_request_id();
    request.prompt.push_back({{1, 2, 3}});
    request.params.ignore_eos = true;
    request.params.max_tokens = 20;
    REQUIRE(engine.submit(request, sink).ok());
  }
  while (sink->finished() < 2) std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

TEST_CASE("what can not be loaded is refused by name") {
  CHECK(std::string(error_of(options_for("/nonexistent.gguf")).message()).find("nonexistent") !=
        std::string::npos);
  CHECK(error_of(options_for(shape("gpt2"), {"--device", "cuda"})).code() ==
        absl::StatusCode::kUnimplemented);
  CHECK(error_field(error_of(options_for(shape("gpt2"), {"--dtype", "bf16"}))) == "dtype");
  const TempDir dir;
  std::ofstream(dir.path() / "config.json") << R"({"model_type": "mamba"})";
  CHECK(std::string(error_of(options_for(dir.path().string())).message()).find("mamba") !=
        std::string::npos);
}

}  // namespace pelton
