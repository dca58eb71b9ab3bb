#include "server/model_host_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "backend/backend.h"
#include "cpu/thread_pool.h"
#include "model/load.h"
#include "server/model_host_device.h"
#include "server/model_host_text.h"
#include "text/detokenizer.h"

namespace pelton {
namespace {

// Members are destroyed from the last to the first: the engine goes before what it uses.
class LoadedModelHost final : public ServedModel {
 public:
  LoadedModelHost(std::unique_ptr<Backend> backend, ModelText text)
      : backend_(std::move(backend)), text_(std::move(text)) {
    if (text_.tokenizer) detokenizer_ = std::make_unique<Detokenizer>(*text_.tokenizer);
  }

  const ModelFacts& facts() const override { return facts_; }
  Engine& engine() override { return *engine_; }
  const Tokenizer* tokenizer() const override { return text_.tokenizer.get(); }
  const ChatTemplate* chat_template() const override { return text_.chat_template.get(); }
  ModelMetrics* metrics() override { return metrics_; }

  void start_engine(const EngineOptions& options, std::unique_ptr<ModelRunner> runner,
                    const Clock* clock) {
    engine_ = std::make_unique<Engine>(options, std::move(runner), detokenizer_.get(), clock);
    engine_->start();
  }

  void count_in(Metrics* metrics) {
    metrics_ = &metrics->add_model(facts_.name, [this] {
      const EngineStats stats = engine_->stats();
      EngineTotals totals;
      totals.prompt_tokens = stats.prompt_tokens;
      totals.generation_tokens = stats.generation_tokens;
      totals.preemptions = stats.preemptions;
      totals.prefix_cache_queries = stats.prefix_cache_queries;
      totals.prefix_cache_hits = stats.prefix_cache_hits;
      return std::make_pair(engine_->load(), totals);
    });
  }

  ModelFacts facts_;

 private:
  std::unique_ptr<Backend> backend_;
  ModelText text_;
  std::unique_ptr<Detokenizer> detokenizer_;
  std::unique_ptr<Engine> engine_;
  ModelMetrics* metrics_ = nullptr;
};

StatusOr<LoadOptions> load_options(const Options& options, const Backend& backend) {
  LoadOptions load;
  load.path = options.model;
  load.load_format = options.load_format == "dummy" ? LoadFormat::kDummy : LoadFormat::kAuto;
  const std::string& format = options.quantization == "none" ? options.dtype : options.quantization;
  if (format != "auto") {
    // On a card it is the type of the activations too, whatever the file holds.
    const bool activations = load.load_format != LoadFormat::kDummy &&
                             !backend.host_addressable() && options.quantization == "none";
    if (load.load_format != LoadFormat::kDummy && !activations) {
      return invalid_field(options.quantization == "none" ? "dtype" : "quantization",
                           "only with --load-format dummy: a file's weights keep their format");
    }
    if (activations && format == "f32") {
      return invalid_field("dtype", "a GPU computes in bf16 or f16");
    }
    if (load.load_format == LoadFormat::kDummy) load.dummy_dtype = dtype_from_name(format);
  }
  load.seed = static_cast<uint64_t>(options.seed);
  load.max_model_len = options.max_model_len;
  load.max_num_seqs = options.max_num_seqs;
  load.max_num_batched_tokens = options.max_num_batched_tokens;
  load.block_size = options.block_size;
  if (options.kv_cache_dtype != "auto") {
    load.kv_cache_dtype =
        options.kv_cache_dtype == "fp8" ? DType::kF8E4M3 : dtype_from_name(options.kv_cache_dtype);
  }
  load.kv_cache_memory_bytes = options.kv_cache_memory_bytes;
  return load;
}

// "/models/SmolLM2.Q4_1.gguf" -> "SmolLM2.Q4_1"; "/models/SmolLM2/" -> "SmolLM2".
std::string served_name(const Options& options) {
  if (!options.served_model_name.empty()) return options.served_model_name;
  std::error_code ignored;
  std::filesystem::path path = std::filesystem::absolute(options.model, ignored).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  if (path.filename() == "config.json") path = path.parent_path();
  const std::string extension = path.extension().string();
  const bool known = extension == ".gguf" || extension == ".json";
  return known ? path.stem().string() : path.filename().string();
}

ModelFacts facts_of(const Options& options, const LoadFacts& loaded, const Backend& backend) {
  ModelFacts facts;
  facts.name = served_name(options);
  facts.architecture = loaded.architecture;
  facts.weight_format = loaded.weight_format;
  facts.device = backend.description();
  facts.created_unix_s = std::chrono::duration_cast<std::chrono::seconds>(
                             std::chrono::system_clock::now().time_since_epoch())
                             .count();
  facts.parameters = loaded.parameters;
  facts.weight_bytes = loaded.weight_bytes;
  facts.max_model_len = loaded.max_model_len;
  facts.vocab_size = loaded.vocab_size;
  facts.max_waiting_requests = options.max_waiting_requests;
  return facts;
}

// What ends an answer: the config's ids and what the tokenizer's own files name.
std::vector<TokenId> end_ids(const LoadFacts& facts, const Tokenizer* tokenizer) {
  std::vector<TokenId> ids = facts.eos_ids;
  if (tokenizer != nullptr) {
    ids.insert(ids.end(), tokenizer->end_ids().begin(), tokenizer->end_ids().end());
  }
  std::erase_if(ids, [&](TokenId id) { return id < 0 || id >= facts.vocab_size; });
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace

StatusOr<LoadedServedModel> load_served_model(const Options& options, SharedDevices& shared,
                                              const Clock* clock, Metrics* metrics) {
  PELTON_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, make_backend(options, shared));
  PELTON_ASSIGN_OR_RETURN(const LoadOptions load, load_options(options, *backend));
  PELTON_ASSIGN_OR_RETURN(LoadedModel loaded, load_model(load, *backend));

  ModelText text;
  if (loaded.gguf) {
    PELTON_ASSIGN_OR_RETURN(text, text_from_gguf(*loaded.gguf));
  } else if (!loaded.folder.empty()) {
    PELTON_ASSIGN_OR_RETURN(text, text_from_folder(loaded.folder));
  }
  if (text.tokenizer && text.tokenizer->vocab_size() > loaded.facts.vocab_size) {
    return absl::InvalidArgumentError(
        fmt::format("the tokenizer has {} tokens, the model's embedding only {}",
                    text.tokenizer->vocab_size(), loaded.facts.vocab_size));
  }

  LoadedServedModel out;
  out.report.load_seconds = loaded.facts.load_seconds;
  out.report.kv_cache_bytes = loaded.facts.kv_cache_bytes;
  out.report.kv_cache_tokens = loaded.facts.kv_cache_tokens;
  out.report.step_budget = loaded.facts.step_budget;
  out.report.shortened = loaded.facts.shortened;
  out.report.warnings = loaded.facts.warnings;
  out.report.warnings.insert(out.report.warnings.end(), text.warnings.begin(), text.warnings.end());

  EngineOptions engine;
  engine.max_model_len = loaded.facts.max_model_len;
  engine.max_num_seqs = options.max_num_seqs;
  engine.max_num_batched_tokens = loaded.facts.max_num_batched_tokens;
  engine.step_work = loaded.facts.step_budget.work;
  engine.context_per_token = loaded.facts.step_budget.context_per_token;
  engine.step_seconds = kStepSeconds * kStepMargin;
  if (options.cpu_pin && shared.cpu_pool != nullptr) {
    engine.on_start = [pool = shared.cpu_pool] { pool->pin_caller(); };
  }
  engine.max_waiting_requests = options.max_waiting_requests;
  engine.enable_prefix_caching = options.enable_prefix_caching;
  if (options.async_scheduling != "auto") {
    engine.async_scheduling = options.async_scheduling == "on";
  }
  engine.eos_token_ids = end_ids(loaded.facts, text.tokenizer.get());

  const ModelFacts facts = facts_of(options, loaded.facts, *backend);
  auto model = std::make_shared<LoadedModelHost>(std::move(backend), std::move(text));
  model->facts_ = facts;
  model->start_engine(engine, std::move(loaded.runner), clock);
  if (metrics != nullptr) model->count_in(metrics);
  out.model = std::move(model);
  return out;
}

}  // namespace pelton
