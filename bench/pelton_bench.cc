// pelton-bench: offline figures of a model (straight on the engine) or of the kernels, each beside
// this machine's ceilings measured in the same run.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/attention_bench.h"
#include "bench/ceilings.h"
#include "bench/engine_bench.h"
#include "bench/kernel_bench.h"
#include "bench/load_bench.h"
#include "bench/model_work.h"
#include "bench/random_gguf.h"
#include "cpu/cpu_backend.h"
#include "cpu/thread_pool.h"
#if PELTON_WITH_CUDA
#include "cuda/cuda_backend.h"
#endif

namespace pelton::bench {
namespace {

struct Flags {
  std::string model;
  bool ceilings = false;
  bool kernels = false;
  bool attention = false;
  std::vector<DType> formats;
  int load_passes = 0;
  bool json = false;
  TimeBase base = TimeBase::kWall;
  int threads = 0;
  std::string device = "cpu";
  std::string isa = "auto";
  std::string activations = "int8";
  bool dummy = false;
  std::string quantization;
  std::string head;
  std::string write_gguf;
  std::string kv_cache_dtype;
  EngineBenchOptions engine;
};

using Json = nlohmann::ordered_json;

int64_t resident_bytes() {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

Json ceilings_json(const std::vector<Ceilings>& ceilings) {
  Json out;
  const Ceilings& all = ceilings.back();
  out["threads"] = all.threads;
  out["read_gbps"] = all.read_gb_per_s;
  out["fma_gflops"] = all.fma_gflops;
  out["bf16_gflops"] = all.bf16_gflops;
  out["int8_gops"] = all.int8_gops;
  out["int8_paired_gops"] = all.int8_paired_gops;
  out["read_gbps_1_thread"] = ceilings.front().read_gb_per_s;
  out["fma_gflops_1_thread"] = ceilings.front().fma_gflops;
  out["bf16_gflops_1_thread"] = ceilings.front().bf16_gflops;
  out["int8_gops_1_thread"] = ceilings.front().int8_gops;
  out["int8_paired_gops_1_thread"] = ceilings.front().int8_paired_gops;
  return out;
}

void print_ceilings(const std::vector<Ceilings>& ceilings) {
  for (const Ceilings& c : ceilings) {
    fmt::print(
        "{} thread{}: read {:.1f} GB/s, fp32 FMA {:.0f} GFLOP/s, bf16 {:.0f} GFLOP/s, "
        "int8 {:.0f} GOP/s, paired {:.0f} GOP/s\n",
        c.threads, c.threads == 1 ? "" : "s", c.read_gb_per_s, c.fma_gflops, c.bf16_gflops,
        c.int8_gops, c.int8_paired_gops);
  }
}

Status run_kernels(const Flags& flags, Backend& backend, cpu::ThreadPool& pool,
                   const Ceilings& ceiling, Json& json) {
  std::vector<KernelFigure> figures;
  if (flags.kernels) {
    PELTON_ASSIGN_OR_RETURN(
        figures, measure_kernels(backend, flags.engine.batches, flags.formats, flags.base));
  }
  if (flags.attention) {
    PELTON_ASSIGN_OR_RETURN(const std::vector<KernelFigure> more,
                            measure_attention(backend, pool, flags.base));
    figures.insert(figures.end(), more.begin(), more.end());
  }
  if (!flags.json) {
    fmt::print("\n{:<24}{:>8}{:>10}{:>10}{:>8}{:>11}{:>8}{:>9}{:>10}\n", "kernels", "tokens", "ms",
               "GB/s", "of read", "GFLOP/s", "of FMA", "of peak", "of bound");
  }
  for (const KernelFigure& f : figures) {
    const double of_read = f.gb_per_s / ceiling.read_gb_per_s;
    const double of_fma = f.gflops / ceiling.fma_gflops;
    const double of_peak = f.gflops / peak_gops(f.dtype, ceiling);
    const double of_bound = f.seconds / bound_seconds(f.dtype, 1e9 * f.gb_per_s * f.seconds,
                                                      1e9 * f.gflops * f.seconds, ceiling);
    json["kernels"].push_back({{"name", f.name},
                               {"tokens", f.tokens},
                               {"seconds", f.seconds},
                               {"gb_per_s", f.gb_per_s},
                               {"of_read", of_read},
                               {"gflops", f.gflops},
                               {"of_fma", of_fma},
                               {"of_peak", of_peak},
                               {"of_bound", of_bound}});
    if (flags.json) continue;
    fmt::print("{:<24}{:>8}{:>10.3f}{:>10.1f}{:>8.2f}{:>11.1f}{:>8.2f}{:>9.2f}{:>10.2f}\n", f.name,
               f.tokens, f.seconds * 1e3, f.gb_per_s, of_read, f.gflops, of_fma, of_peak, of_bound);
  }
  return absl::OkStatus();
}

// Fractions of the ceilings: time at the ceiling over time taken, attention in float32.
struct Fractions {
  double of_read = 0;  // decode alone: a step reads the weights once, and each token its KV
  double of_fma = 0;   // as if every product were of float32
  double of_peak = 0;  // by the best rate for each weight format
};

Fractions fractions_of(const EngineFigure& f, const ModelWork& work, double kv_bytes,
                       const Ceilings& ceiling) {
  Fractions out;
  const double steps = static_cast<double>(f.tokens) / f.batch;
  const double bytes =
      static_cast<double>(work.step_bytes) * steps + kv_bytes * static_cast<double>(f.attended);
  if (f.name.starts_with("decode")) out.of_read = 1e-9 * bytes / ceiling.read_gb_per_s / f.seconds;
  Ceilings fma = ceiling;
  fma.bf16_gflops = fma.int8_gops = fma.int8_paired_gops = fma.fma_gflops;
  out.of_fma = work.seconds_at_peak(f.tokens, f.sampled, f.attended, fma) / f.seconds;
  out.of_peak = work.seconds_at_peak(f.tokens, f.sampled, f.attended, ceiling) / f.seconds;
  return out;
}

void print_figure(const EngineFigure& f, const Fractions& fractions) {
  const bool decode = fractions.of_read > 0;
  fmt::print("{:<14}{:>6}{:>8}{:>9.3f}{:>10.1f}{:>9}{:>8.2f}{:>9.2f}{:>10.1f}{:>13.1f}\n", f.name,
             f.batch, f.tokens, f.seconds, f.tokens_per_second,
             decode ? fmt::format("{:.2f}", fractions.of_read) : "", fractions.of_fma,
             fractions.of_peak, f.longest_step * 1e3, f.tokens / f.cpu_seconds);
}

// Work at the formats of the files, which the backend packs as they are.
StatusOr<ModelWork> read_work(const LoadOptions& options) {
  PELTON_ASSIGN_OR_RETURN(const ModelFiles files,
                          open_model_files(options.path, {.load_format = options.load_format,
                                                          .dummy_dtype = options.dummy_dtype,
                                                          .seed = options.seed,
                                                          .shard = {}}));
  return work_of(files);
}

StatusOr<LoadOptions> load_options(const Flags& flags) {
  LoadOptions options;
  options.path = flags.model;
  options.load_format = flags.dummy ? LoadFormat::kDummy : LoadFormat::kAuto;
  const auto dtype = [](const std::string& name) -> StatusOr<std::optional<DType>> {
    if (name.empty()) return std::optional<DType>();
    const std::optional<DType> found = dtype_from_name(name);
    if (!found) return absl::InvalidArgumentError(fmt::format("unknown format '{}'", name));
    return found;
  };
  PELTON_ASSIGN_OR_RETURN(options.dummy_dtype, dtype(flags.quantization));
  PELTON_ASSIGN_OR_RETURN(options.kv_cache_dtype, dtype(flags.kv_cache_dtype));
  options.max_num_seqs = 256;
  return options;
}

Status run_load(const Flags& flags, Backend& backend, cpu::ThreadPool& pool,
                const Ceilings& ceiling, Json& json) {
  PELTON_ASSIGN_OR_RETURN(const LoadOptions options, load_options(flags));
  PELTON_ASSIGN_OR_RETURN(const LoadFigure f,
                          measure_load(options, backend, pool, flags.load_passes));
  const auto rate = [&](double seconds) { return 1e-9 * static_cast<double>(f.bytes) / seconds; };
  json["load"] = {{"bytes", f.bytes},
                  {"first_seconds", f.first},
                  {"best_seconds", f.best},
                  {"gb_per_s", rate(f.best)},
                  {"of_read", rate(f.best) / ceiling.read_gb_per_s},
                  {"reading_gb_per_s", rate(f.read)},
                  {"fresh_memory_gb_per_s", rate(f.fresh)}};
  if (flags.json) return absl::OkStatus();
  fmt::print(
      "\nloading {:.1f} MB of weights: first {:.3f} s, best {:.3f} s, {:.1f} GB/s, {:.2f} of "
      "read;\n  alone: the file {:.1f} GB/s, fresh memory {:.1f} GB/s\n",
      1e-6 * static_cast<double>(f.bytes), f.first, f.best, rate(f.best),
      rate(f.best) / ceiling.read_gb_per_s, rate(f.read), rate(f.fresh));
  return absl::OkStatus();
}

Status run_model(const Flags& flags, Backend& backend, const Ceilings& ceiling, Json& json) {
  PELTON_ASSIGN_OR_RETURN(const LoadOptions options, load_options(flags));
  PELTON_ASSIGN_OR_RETURN(LoadedModel model, load_model(options, backend));
  const LoadFacts facts = model.facts;
  const double kv_bytes =  // of one token in all layers
      static_cast<double>(facts.kv_cache_bytes) / static_cast<double>(facts.kv_cache_tokens);
  PELTON_ASSIGN_OR_RETURN(const ModelWork work, read_work(options));
  json["model"] = {{"path", flags.model},
                   {"architecture", facts.architecture},
                   {"weight_format", facts.weight_format},
                   {"parameters", facts.parameters},
                   {"weight_bytes", facts.weight_bytes},
                   {"step_bytes", work.step_bytes},
                   {"kv_bytes_per_token", kv_bytes},
                   {"layer_weights", work.layer_weights()},
                   {"head_weights", work.head_weights()},
                   {"load_seconds", facts.load_seconds},
                   {"resident_bytes", resident_bytes()}};
  if (!flags.json) {
    fmt::print(
        "\n{}: {}, {:.1f} M parameters, {:.1f} MB of weights ({}), loaded in {:.2f} s, "
        "{:.1f} MB resident\n",
        flags.model, facts.architecture, 1e-6 * static_cast<double>(facts.parameters),
        1e-6 * static_cast<double>(facts.weight_bytes), facts.weight_format, facts.load_seconds,
        1e-6 * static_cast<double>(resident_bytes()));
    fmt::print("{:<14}{:>6}{:>8}{:>9}{:>10}{:>9}{:>8}{:>9}{:>10}{:>13}\n", "engine", "batch",
               "tokens", "seconds", "tok/s", "of read", "of FMA", "of peak", "step ms",
               "tok/cpu-sec");
  }
  PELTON_ASSIGN_OR_RETURN(const std::vector<EngineFigure> figures,
                          measure_engine(std::move(model), flags.engine));
  for (const EngineFigure& f : figures) {
    const bool known = ceiling.read_gb_per_s > 0;  // of a card gpu_check measures them
    const Fractions fractions = known ? fractions_of(f, work, kv_bytes, ceiling) : Fractions{};
    json["figures"].push_back({{"name", f.name},
                               {"batch", f.batch},
                               {"tokens", f.tokens},
                               {"seconds", f.seconds},
                               {"cpu_seconds", f.cpu_seconds},
                               {"tokens_per_second", f.tokens_per_second},
                               {"repeats_tokens_per_second", f.repeats},
                               {"longest_step_seconds", f.longest_step},
                               {"of_fma", fractions.of_fma},
                               {"of_peak", fractions.of_peak}});
    if (fractions.of_read > 0) json["figures"].back()["of_read"] = fractions.of_read;
    if (!flags.json) print_figure(f, fractions);
  }
  return absl::OkStatus();
}

Status write_gguf(const Flags& flags) {
  RandomGgufOptions options;
  options.config = flags.model;
  options.path = flags.write_gguf;
  const auto matrices = dtype_from_name(flags.quantization.empty() ? "bf16" : flags.quantization);
  const auto head = flags.head.empty() ? matrices : dtype_from_name(flags.head);
  if (!matrices || !head) return absl::InvalidArgumentError("unknown format of the weights");
  options.matrices = *matrices;
  options.embedding = *head;
  return write_random_gguf(options);
}

void print_json(const Json& json) {
  fmt::print("{}\n", json.dump());
}

// The engine on a card. Its ceilings and kernels are gpu_check's.
Status run_on_card(const Flags& flags) {
#if PELTON_WITH_CUDA
  if (flags.kernels || flags.attention || flags.load_passes > 0 || flags.model.empty()) {
    return absl::InvalidArgumentError("on a card a model is measured; its kernels by gpu_check");
  }
  PELTON_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, make_cuda_backend({}));
  Json json;
  json["backend"] = backend->description();
  if (!flags.json) fmt::print("{}\n", backend->description());
  PELTON_RETURN_IF_ERROR(run_model(flags, *backend, Ceilings{}, json));
  if (flags.json) print_json(json);
  return absl::OkStatus();
#else
  return absl::UnimplementedError(
      fmt::format("this build has no CUDA backend: --device {}", flags.device));
#endif
}

Status run(const Flags& flags) {
  if (!flags.write_gguf.empty()) return write_gguf(flags);
  if (flags.device == "cuda") return run_on_card(flags);
  if (flags.device != "cpu") return absl::InvalidArgumentError("--device: cpu or cuda");
  CpuOptions options;
  PELTON_ASSIGN_OR_RETURN(options.isa, cpu_isa_from_name(flags.isa));
  PELTON_ASSIGN_OR_RETURN(options.activations, cpu_activations_from_name(flags.activations));
  options.pool = make_cpu_pool(flags.threads);
  PELTON_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, make_cpu_backend(options));
  Json json;
  json["backend"] = backend->description();
  if (!flags.json) fmt::print("{}\n", backend->description());
  const std::vector<Ceilings> ceilings =
      measure_ceilings(options.pool->threads(), flags.base, options.isa);
  if (ceilings.empty()) return absl::ResourceExhaustedError("no memory to measure with");
  json["ceilings"] = ceilings_json(ceilings);
  if (!flags.json) print_ceilings(ceilings);
  if (flags.kernels || flags.attention) {
    PELTON_RETURN_IF_ERROR(run_kernels(flags, *backend, *options.pool, ceilings.back(), json));
  }
  if (!flags.model.empty() && flags.load_passes > 0) {
    PELTON_RETURN_IF_ERROR(run_load(flags, *backend, *options.pool, ceilings.back(), json));
  } else if (!flags.model.empty()) {
    PELTON_RETURN_IF_ERROR(run_model(flags, *backend, ceilings.back(), json));
  }
  if (flags.json) {
    const bool alone = !flags.kernels && !flags.attention && flags.model.empty();
    print_json(alone ? json["ceilings"] : json);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace pelton::bench

int main(int argc, char** argv) {
  pelton::bench::Flags flags;
  CLI::App app("Offline figures beside this machine's ceilings");
  app.add_option("model", flags.model, "Hugging Face folder or .gguf file; none: no model figures");
  app.add_flag("--ceilings", flags.ceilings,
               "Read bandwidth and multiply-add rates (always measured)");
  app.add_flag("--kernels", flags.kernels, "Matrix products at 2048x2048 and the demo's shapes");
  app.add_option_function<std::vector<std::string>>(
         "--formats",
         [&](const std::vector<std::string>& names) {
           for (const std::string& name : names) {
             const std::optional<pelton::DType> found = pelton::dtype_from_name(name);
             if (!found) throw CLI::ValidationError("--formats", "unknown format " + name);
             flags.formats.push_back(*found);
           }
         },
         "Of --kernels, comma-separated; none: all, and the demo's shapes")
      ->delimiter(',');
  app.add_flag("--attention", flags.attention, "Attention at 4,096 tokens, and of 2,048");
  app.add_option("--load", flags.load_passes,
                 "Load MODEL's weights so many times and measure nothing else of it")
      ->check(CLI::Range(0, 1000));
  app.add_flag("--json", flags.json, "One JSON object instead of tables");
  app.add_option("--threads", flags.threads, "0: one for each physical core")
      ->check(CLI::Range(0, 1024));
  app.add_option_function<std::string>(
         "--clock",
         [&](const std::string& name) {
           flags.base =
               name == "cpu" ? pelton::bench::TimeBase::kCpu : pelton::bench::TimeBase::kWall;
         },
         "wall, or cpu: time that the process ran (ceilings and kernels; with --threads 1)")
      ->check(CLI::IsMember({"wall", "cpu"}));
  app.add_option("--device", flags.device, "cpu, cuda");
  app.add_option("--isa", flags.isa, "auto, scalar, avx2, avx512, neon")->envname("PELTON_CPU_ISA");
  app.add_option("--activations", flags.activations, "int8, f32")->envname("PELTON_ACTIVATIONS");
  app.add_option_function<std::string>(
         "--load-format", [&](const std::string& name) { flags.dummy = name == "dummy"; },
         "auto or dummy (random weights from a config.json)")
      ->check(CLI::IsMember({"auto", "dummy"}));
  app.add_option("--quantization", flags.quantization, "Format of dummy weights");
  app.add_option("--write-gguf", flags.write_gguf,
                 "Write random weights of the config MODEL to this file instead of measuring");
  app.add_option("--head", flags.head, "Format of embedding and head in that file");
  app.add_option("--kv-cache-dtype", flags.kv_cache_dtype, "f32, bf16, f16, int8");
  app.add_option("--prefill", flags.engine.prefill, "Prompt tokens; 0: no prefill figure")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--decode", flags.engine.decode, "Tokens a sequence; 0: no decode figure")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--context", flags.engine.context, "Prompt tokens of a sequence that decodes")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--batch", flags.engine.batches, "Sequences at once, comma-separated")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  app.add_flag("--mixed", flags.engine.mixed,
               "Also decoding beside one prefill, and beside prompts that keep arriving");
  app.add_option("--repeats", flags.engine.repeats,
                 "The best of so many runs, after one to warm up")
      ->check(CLI::Range(1, 1000));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    constexpr int kExitUsage = 2;
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  if (std::error_code error; !flags.model.empty() && !std::filesystem::exists(flags.model, error)) {
    fmt::print(stderr, "pelton-bench: {}: no such file or folder\n", flags.model);
    return 1;
  }
  const pelton::Status status = pelton::bench::run(flags);
  if (status.ok()) return 0;
  fmt::print(stderr, "pelton-bench: {}\n", std::string(status.message()));
  return 1;
}
