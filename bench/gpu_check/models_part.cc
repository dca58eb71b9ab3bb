// Whole models of dummy weights on the engine: start-up, prefill, decode at several batch sizes,
// beside what the weights' bytes and the matrix rate allow.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "bench/engine_bench.h"
#include "bench/gpu_check/check_context.h"
#include "bench/stopwatch.h"
#include "cuda/cublaslt_api.h"
#include "cuda/cuda_backend.h"
#include "cuda/step_clock.h"
#include "model/load.h"

namespace pelton::bench {
namespace {

struct ModelCase {
  const char* shape;
  DType dtype;
  bool library = false;  // products by cuBLASLt where it is faster: without --batch-invariant
};

std::string shape_path(const CheckContext& context, const std::string& shape) {
  return fmt::format("{}/shapes/{}", context.folder, shape);
}

EngineBenchOptions engine_options(const CheckContext& context) {
  EngineBenchOptions options;
  options.prefill = context.quick ? 8 : 2048;
  options.most_prefill_batch = 1;
  options.decode = context.quick ? 4 : 32;
  options.context = context.quick ? 4 : 128;
  options.batches = context.quick ? std::vector<int>{1, 2} : std::vector<int>{1, 8, 64, 256};
  options.repeats = 1;
  return options;
}

LoadOptions load_options(const CheckContext& context, const ModelCase& c) {
  LoadOptions options;
  options.path = shape_path(context, c.shape);
  options.load_format = LoadFormat::kDummy;
  options.dummy_dtype = c.dtype;
  options.max_num_seqs = context.quick ? 2 : 256;
  options.max_num_batched_tokens = context.quick ? 16 : 2048;
  options.max_model_len = context.quick ? 32 : 4096;
  if (context.quick) options.kv_cache_memory_bytes = 1 << 20;
  return options;
}

// Tokens a second that the ceilings allow: weights once a step, 2 operations a weight and token.
double rate_limit(const CheckContext& context, const LoadFacts& facts, int64_t step_tokens) {
  if (context.read_gb_per_s <= 0 || context.mma_tflops <= 0) return 0;
  const double by_bytes = static_cast<double>(facts.weight_bytes) / (1e9 * context.read_gb_per_s);
  const double by_operations = 2.0 * static_cast<double>(facts.parameters) *
                               static_cast<double>(step_tokens) / (1e12 * context.mma_tflops);
  return static_cast<double>(step_tokens) / std::max(by_bytes, by_operations);
}

// What the card waited between two decode steps: from a step's last kernel to the next one's first.
void add_idle(const std::string& label, const EngineFigure& figure,
              std::vector<cuda::StepTimes> steps, PartReport& report) {
  if (steps.empty()) return;
  std::sort(steps.begin(), steps.end(),
            [](const auto& a, const auto& b) { return a.idle_us < b.idle_us; });
  double busy = 0;
  for (const cuda::StepTimes& step : steps) busy += step.busy_us;
  CheckRow row;
  row.name = fmt::format("{}: idle between steps, {}, batch {}", label, figure.name, figure.batch);
  row.unit = "us";
  row.value = steps[steps.size() / 2].idle_us;
  row.lower_is_better = true;
  row.note =
      fmt::format("median of {}, longest {:.0f} us; busy {:.0f} us a step; goal 50 us",
                  steps.size(), steps.back().idle_us, busy / static_cast<double>(steps.size()));
  report.add(row);
}

std::string label_of(const ModelCase& c) {
  return fmt::format("{} {}{}", c.shape, dtype_info(c.dtype).name, c.library ? ", cuBLASLt" : "");
}

Status check_model(const CheckContext& context, const ModelCase& c, PartReport& report) {
  const std::string label = label_of(c);
  const Stopwatch watch;
  CudaOptions cuda_options;
  cuda_options.batch_invariant = !c.library;
  cuda_options.step_clock = std::make_shared<cuda::StepClock>();
  if (context.quick) cuda_options.memory_utilization = 0.25;
  PELTON_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, make_cuda_backend(cuda_options));
  PELTON_ASSIGN_OR_RETURN(LoadedModel model, load_model(load_options(context, c), *backend));
  const LoadFacts facts = model.facts;
  CheckRow row;
  row.name = label + ": start-up";
  row.unit = "s";
  row.value = watch.seconds();
  row.note = fmt::format("weights made on the way; {:.2f} GB of weights, {} KV tokens",
                         1e-9 * static_cast<double>(facts.weight_bytes), facts.kv_cache_tokens);
  report.add(row);
  EngineBenchOptions options = engine_options(context);
  options.begun = [&] { cuda_options.step_clock->take(); };
  options.ended = [&](const EngineFigure& figure) {
    const bool decode = figure.name.starts_with("decode");
    if (decode) add_idle(label, figure, cuda_options.step_clock->take(), report);
  };
  PELTON_ASSIGN_OR_RETURN(const std::vector<EngineFigure> figures,
                          measure_engine(std::move(model), options));
  for (const EngineFigure& figure : figures) {
    const bool prefill = figure.name.starts_with("prefill");
    row.name = fmt::format("{}: {}, batch {}", label, figure.name, figure.batch);
    row.unit = "tok/s";
    row.value = figure.tokens_per_second;
    row.limit = rate_limit(context, facts, prefill ? options.prefill : figure.batch);
    row.note = prefill ? fmt::format("first token after {:.1f} ms", 1e3 * figure.seconds)
                       : fmt::format("{:.2f} ms a step, context {}",
                                     1e3 * figure.seconds / options.decode, options.context);
    report.add(row);
  }
  return Status();
}

}  // namespace

Status check_models(const CheckContext& context, PartReport& report) {
  std::vector<ModelCase> cases = {
      {"llama-3.2-1b", DType::kBF16},   {"llama-3.2-1b", DType::kF8_128},
      {"llama-3.2-1b", DType::kI4_128}, {"llama-3.1-8b", DType::kBF16},
      {"llama-3.1-8b", DType::kF8_128}, {"llama-3.1-8b", DType::kI4_128}};
  cases.push_back({"llama-3.1-8b", DType::kBF16, true});
  if (context.quick) {
    cases = {{"tiny", DType::kBF16}, {"tiny", DType::kF8_128}, {"tiny", DType::kI4_128}};
    cases.push_back({"tiny", DType::kBF16, true});
  }
  for (const ModelCase& c : cases) {
    if (c.library && !cuda::open_cublaslt().ok()) {
      CheckRow row;
      row.name = label_of(c);
      row.note = "cuBLASLt is not there: not run";
      report.add(row);
      continue;
    }
    const Status status = check_model(context, c, report);
    if (status.ok()) continue;
    CheckRow row;  // the next model may still do
    row.name = label_of(c);
    row.ok = false;
    row.note = std::string(status.message());
    report.add(row);
  }
  return Status();
}

}  // namespace pelton::bench
