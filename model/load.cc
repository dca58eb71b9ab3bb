#include "model/load.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <utility>

#include "model/kv_budget.h"

namespace pelton {
namespace {

constexpr int kMaxNumSeqs = 4096;
constexpr int kMaxBatchedTokens = 1 << 17;
// What activations have room for where the budget of a step is measured. Unused room costs nothing.
constexpr int kOpenBatchedTokens = 2048;
// Bounds of the rows of logits held at once: one a sequence, but little memory for any vocabulary.
constexpr int kMinLogitRows = 16;
constexpr int kMaxLogitRows = 256;

Status check_range(std::string_view field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return Status();
  return invalid_field(field, fmt::format("{} is not within {} and {}", value, low, high));
}

Status check_options(const LoadOptions& options, const ModelConfig& config) {
  PELTON_RETURN_IF_ERROR(check_range("max_num_seqs", options.max_num_seqs, 1, kMaxNumSeqs));
  if (options.max_num_batched_tokens != 0) {
    PELTON_RETURN_IF_ERROR(check_range("max_num_batched_tokens", options.max_num_batched_tokens,
                                       options.max_num_seqs, kMaxBatchedTokens));
  }
  PELTON_RETURN_IF_ERROR(
      check_range("kv_cache_memory_bytes", options.kv_cache_memory_bytes, 0, int64_t{1} << 50));
  return check_range("max_model_len", options.max_model_len, 0, config.max_positions);
}

StatusOr<DType> kv_dtype(const LoadOptions& options, const Backend& backend) {
  const DType dtype = options.kv_cache_dtype.value_or(backend.activation_dtype());
  if (backend.supports_kv(dtype)) return dtype;
  return invalid_field("kv_cache_dtype",
                       fmt::format("{} keeps no KV cache of type {}", backend.description(),
                                   dtype_info(dtype).name));
}

// The dtype that holds most of the matrices' bytes.
std::string_view weight_format(const WeightSource& source) {
  std::array<int64_t, kNumDTypes> bytes{};
  for (const auto& tensor : source.tensors()) {
    if (tensor_role_info(tensor->role()).vector) continue;
    bytes[static_cast<size_t>(tensor->dtype())] += tensor->bytes();
  }
  const auto most = std::max_element(bytes.begin(), bytes.end()) - bytes.begin();
  return dtype_info(static_cast<DType>(most)).name;
}

double mib(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

// Where a device with memory of its own has too little, what would fit is said.
StatusOr<DecoderWeights> load_weights(std::unique_ptr<WeightSource> source,
                                      const ModelConfig& config, const LoadProgress& progress,
                                      Backend& backend) {
  const int64_t stored_bytes = source->total_bytes();
  const int64_t device_bytes = backend.free_memory_bytes();
  StatusOr<DecoderWeights> weights =
      load_decoder_weights(std::move(source), config, backend, progress);
  if (!backend.dedicated_memory() ||
      weights.status().code() != absl::StatusCode::kResourceExhausted) {
    return weights;
  }
  Status status = annotate(
      weights.status(),
      fmt::format("the model's weights, {:.1f} MiB as they are stored, do not fit the {:.1f} MiB "
                  "that weights, activations and KV cache share on this device; take a smaller "
                  "model or format, or raise --gpu-memory-utilization",
                  mib(stored_bytes), mib(device_bytes)));
  set_error_field(status, "gpu_memory_utilization");
  return status;
}

Status step_too_large(const Status& status, const DecoderLimits& limits, const ModelConfig& config,
                      int64_t bytes_per_token, int64_t left_bytes) {
  const int64_t logits = int64_t{limits.max_logit_rows} * 4 * config.vocab_size;
  // Sampling and the step's plan take about as much again as the logits.
  const int64_t fit = std::max<int64_t>(0, (left_bytes - 2 * logits) / bytes_per_token);
  Status out = annotate(
      status, fmt::format("a step of {} tokens needs more than the {:.1f} MiB that the weights "
                          "leave on this device; steps of about {} tokens fit: lower "
                          "--max-num-batched-tokens, or raise --gpu-memory-utilization",
                          limits.max_num_batched_tokens, mib(left_bytes), fit));
  set_error_field(out, "max_num_batched_tokens");
  return out;
}

// The decoder with its activations, and the backend's own needs: all that the largest step takes.
StatusOr<std::unique_ptr<Decoder>> make_decoder(const Architecture& architecture,
                                                const ModelConfig& config,
                                                const KvGeometry& geometry,
                                                const DecoderLimits& limits, int max_num_seqs,
                                                DecoderWeights weights, Backend& backend) {
  const int64_t left_bytes = backend.free_memory_bytes();
  StatusOr<std::unique_ptr<Decoder>> decoder =
      Decoder::create(architecture, config, geometry, limits, std::move(weights), backend);
  Status status = decoder.status();
  if (status.ok()) {
    status = backend.reserve({.max_tokens = limits.max_num_batched_tokens,
                              .max_seqs = max_num_seqs,
                              .max_logit_rows = limits.max_logit_rows,
                              .max_model_len = limits.max_model_len,
                              .vocab_size = config.vocab_size,
                              .num_q_heads = config.num_heads},
                             geometry);
  }
  if (status.ok()) return decoder;
  if (!backend.dedicated_memory() || status.code() != absl::StatusCode::kResourceExhausted) {
    return status;
  }
  return step_too_large(
      status, limits, config,
      Decoder::activation_bytes_per_token(architecture, config, backend.activation_dtype()),
      left_bytes);
}

LoadFacts facts_of(const ModelConfig& config, const WeightSource& weights) {
  LoadFacts facts;
  facts.architecture = config.architecture;
  facts.weight_format = weight_format(weights);
  facts.vocab_size = config.vocab_size;
  facts.eos_ids = config.eos_ids;
  facts.bos_id = config.bos_id;
  facts.warnings = weights.warnings();
  return facts;
}

}  // namespace

StatusOr<LoadedModel> load_model(const LoadOptions& options, Backend& backend) {
  const auto start = std::chrono::steady_clock::now();
  PELTON_ASSIGN_OR_RETURN(ModelFiles files,
                          open_model_files(options.path, {.load_format = options.load_format,
                                                          .dummy_dtype = options.dummy_dtype,
                                                          .seed = options.seed,
                                                          .shard = {}}));
  const ModelConfig& config = files.config;
  PELTON_RETURN_IF_ERROR(check_options(options, config));
  PELTON_ASSIGN_OR_RETURN(const DType kv_type, kv_dtype(options, backend));
  PELTON_ASSIGN_OR_RETURN(const KvGeometry geometry,
                          make_kv_geometry(config, kv_type, options.block_size));

  LoadedModel model;
  LoadFacts& facts = model.facts;
  facts = facts_of(config, *files.weights);
  PELTON_ASSIGN_OR_RETURN(DecoderWeights weights, load_weights(std::move(files.weights), config,
                                                               options.progress, backend));
  facts.parameters = weights.parameter_count;
  facts.weight_bytes = weights.bytes;

  // Activations and the backend's own needs come first: the KV cache may take what is left.
  const int wanted_len = options.max_model_len > 0 ? options.max_model_len : config.max_positions;
  const bool open_budget = options.max_num_batched_tokens == 0;
  facts.max_num_batched_tokens = open_budget ? std::max(kOpenBatchedTokens, options.max_num_seqs)
                                             : options.max_num_batched_tokens;
  const DecoderLimits limits = {
      .max_model_len = wanted_len,
      .max_num_batched_tokens = facts.max_num_batched_tokens,
      .max_logit_rows = std::clamp(options.max_num_seqs, kMinLogitRows, kMaxLogitRows)};
  PELTON_ASSIGN_OR_RETURN(std::unique_ptr<Decoder> decoder,
                          make_decoder(*files.architecture, config, geometry, limits,
                                       options.max_num_seqs, std::move(weights), backend));
  facts.activation_bytes = decoder->activation_bytes();

  const int64_t free_bytes = backend.free_memory_bytes();
  const bool take_all = backend.dedicated_memory() && options.kv_cache_memory_bytes == 0;
  PELTON_ASSIGN_OR_RETURN(
      const KvPlan plan,
      plan_kv_cache(geometry, {.bytes = take_all ? free_bytes : options.kv_cache_memory_bytes,
                               .free_bytes = free_bytes,
                               .max_model_len = wanted_len,
                               .may_shorten = options.max_model_len == 0,
                               .all_left = take_all}));
  facts.max_model_len = plan.max_model_len;
  facts.shortened = options.max_model_len == 0 && plan.max_model_len < config.max_positions;
  facts.kv_cache_bytes = plan.bytes;
  facts.kv_cache_tokens = int64_t{plan.num_blocks[0]} * geometry.block_size;
  PELTON_ASSIGN_OR_RETURN(std::unique_ptr<KvCache> cache,
                          backend.allocate_kv(geometry, plan.num_blocks));
  model.runner = std::make_unique<DecoderRunner>(std::move(decoder), std::move(cache),
                                                 plan.num_blocks, backend);
  PELTON_RETURN_IF_ERROR(model.runner->warm_up());
  if (open_budget) {
    const SteadyClock clock;
    PELTON_ASSIGN_OR_RETURN(facts.step_budget,
                            measure_step_budget(*model.runner,
                                                {.max_tokens = facts.max_num_batched_tokens,
                                                 .max_model_len = facts.max_model_len},
                                                clock));
  }
  model.config = config;
  model.gguf = std::move(files.gguf);
  model.folder = std::move(files.folder);
  facts.load_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return model;
}

}  // namespace pelton
