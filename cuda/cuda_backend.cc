#include "cuda/cuda_backend.h"

#include <fmt/format.h>

#include <cmath>

#include "cuda/backend_class.h"

namespace pelton {
namespace cuda {
namespace {

constexpr int64_t kLoadBufferBytes = int64_t{16} << 20;

ElementType element_type(DType dtype) {
  return dtype == DType::kF16 ? ElementType::kF16 : ElementType::kBF16;
}

std::vector<float> rope_values(const RopeSpec& spec) {
  const size_t pairs = spec.inverse_frequencies.size();
  std::vector<float> values(static_cast<size_t>(spec.max_positions) * 2 * pairs);
  for (int position = 0; position < spec.max_positions; ++position) {
    float* row = values.data() + static_cast<size_t>(position) * 2 * pairs;
    for (size_t i = 0; i < pairs; ++i) {
      // The product in float32, as models were trained with.
      const float angle = static_cast<float>(position) * spec.inverse_frequencies[i];
      row[i] = static_cast<float>(std::cos(static_cast<double>(angle)) * spec.magnitude);
      row[pairs + i] = static_cast<float>(std::sin(static_cast<double>(angle)) * spec.magnitude);
    }
  }
  return values;
}

}  // namespace

CudaBackend::CudaBackend(const CudaOptions& options)
    : options_(options), type_(element_type(options.activations)) {}

StatusOr<std::unique_ptr<CudaBackend>> CudaBackend::make(const CudaOptions& options) {
  if (!(options.memory_utilization > 0 && options.memory_utilization <= 1)) {
    return invalid_field("gpu_memory_utilization", "is not within 0 and 1");
  }
  if (options.activations != DType::kBF16 && options.activations != DType::kF16) {
    return invalid_field("dtype", "activations on the card are bf16 or f16");
  }
  PELTON_RETURN_IF_ERROR(check_cuda(options));
  std::unique_ptr<CudaBackend> backend(new CudaBackend(options));
  PELTON_RETURN_IF_ERROR(backend->open());
  return backend;
}

Status CudaBackend::open() {
  PELTON_RETURN_IF_CUDA_ERROR(cudaSetDevice(options_.device), "choosing the card");
  cudaDeviceProp card{};
  PELTON_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&card, options_.device),
                              "asking for the card's properties");
  description_ = fmt::format("cuda: {} (sm_{}{}), {}", card.name, card.major, card.minor,
                             dtype_info(options_.activations).name);
  size_t free = 0, total = 0;
  PELTON_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free, &total), "asking for the card's memory");
  const auto wanted =
      static_cast<int64_t>(static_cast<double>(total) * options_.memory_utilization);
  if (wanted > static_cast<int64_t>(free)) {
    Status status = absl::ResourceExhaustedError(
        fmt::format("{} MiB of the card's {} MiB are to be taken and {} MiB are free; lower "
                    "--gpu-memory-utilization",
                    wanted >> 20, total >> 20, free >> 20));
    set_error_field(status, "gpu_memory_utilization");
    return status;
  }
  PELTON_ASSIGN_OR_RETURN(stream_, make_stream());
  PELTON_ASSIGN_OR_RETURN(arena_, DeviceArena::take(wanted, options_.separate_allocations));
  PELTON_ASSIGN_OR_RETURN(loader_, WeightLoader::make(arena_, type_, stream_.get(),
                                                      std::min(kLoadBufferBytes, wanted / 16)));
  PELTON_ASSIGN_OR_RETURN(planner_,
                          StepPlanner::make(arena_, stream_.get(),
                                            {.num_sms = card.multiProcessorCount,
                                             .batch_invariant = options_.batch_invariant}));
  experts_ = std::make_unique<RoutedExperts>(arena_, type_, stream_.get());
  PELTON_ASSIGN_OR_RETURN(sampler_, DeviceSampler::make(arena_, stream_.get()));
  graphs_ = std::make_unique<StepGraphs>(stream_.get());
  return options_.batch_invariant ? Status() : open_library(card);
}

Status CudaBackend::open_library(const cudaDeviceProp& card) {
  PELTON_ASSIGN_OR_RETURN(const CublasLt* library, open_cublaslt());
  const std::string file =
      options_.cache_folder.empty()
          ? ""
          : fmt::format("{}/gemm-sm{}{}-{}.txt", options_.cache_folder, card.major, card.minor,
                        dtype_info(options_.activations).name);
  PELTON_ASSIGN_OR_RETURN(library_gemm_,
                          LibraryGemm::make(*library, type_, stream_.get(), file, card.name));
  library_gemm_->set_own_handicap(options_.own_product_handicap);
  return Status();
}

// Before the KV cache takes what is left: timing needs room for a while.
Status CudaBackend::tune_products(const StepLimits& limits) {
  for (const TunedMatrix& matrix : tuned_) {
    const bool head = matrix.n == limits.vocab_size;
    PELTON_RETURN_IF_ERROR(
        library_gemm_->tune({matrix.n, matrix.k, head, matrix.fp8}, matrix.weights,
                            head ? limits.max_logit_rows : limits.max_tokens, arena_));
  }
  library_gemm_->save();
  return library_gemm_->reserve(arena_);
}

StatusOr<std::unique_ptr<Buffer>> CudaBackend::allocate(int64_t bytes) {
  PELTON_ASSIGN_OR_RETURN(DevicePiece piece, arena_->allocate(bytes));
  return std::make_unique<DeviceBuffer>(std::move(piece));
}

StatusOr<std::unique_ptr<Buffer>> CudaBackend::upload(std::span<const std::byte> host) {
  PELTON_ASSIGN_OR_RETURN(DevicePiece piece, arena_->allocate(static_cast<int64_t>(host.size())));
  PELTON_RETURN_IF_ERROR(loader_->upload(host, piece.data()));
  return std::make_unique<DeviceBuffer>(std::move(piece));
}

StatusOr<std::unique_ptr<Matrix>> CudaBackend::pack(std::span<const RowSource* const> sources) {
  PELTON_ASSIGN_OR_RETURN(std::unique_ptr<PackedMatrix> matrix, loader_->pack(sources));
  for (const PackedMatrix::Segment& segment : matrix->segments()) {
    const bool fp8 = segment.format == WeightFormat::kF8_128 && segment.rows % kTileRows == 0;
    const TunedMatrix tuned = {static_cast<int>(segment.rows), static_cast<int>(matrix->cols()),
                               fp8, segment.data.data()};
    const bool known = std::any_of(tuned_.begin(), tuned_.end(), [&](const TunedMatrix& other) {
      return other.n == tuned.n && other.k == tuned.k && other.fp8 == fp8;
    });
    if ((segment.format == WeightFormat::k16Bit || fp8) && !known) tuned_.push_back(tuned);
  }
  return matrix;
}

StatusOr<std::unique_ptr<RopeTable>> CudaBackend::make_rope(const RopeSpec& spec) {
  const std::vector<float> values = rope_values(spec);
  PELTON_ASSIGN_OR_RETURN(DevicePiece piece,
                          arena_->allocate(static_cast<int64_t>(values.size()) * 4));
  PELTON_RETURN_IF_ERROR(loader_->upload(std::as_bytes(std::span(values)), piece.data()));
  return std::make_unique<CudaRopeTable>(
      std::move(piece), static_cast<int>(2 * spec.inverse_frequencies.size()), spec.interleaved);
}

StatusOr<std::unique_ptr<KvCache>> CudaBackend::allocate_kv(const KvGeometry& geometry,
                                                            std::span<const int> num_blocks) {
  return CudaKvCache::create(geometry, num_blocks, type_, arena_);
}

Status CudaBackend::reserve(const StepLimits& limits, const KvGeometry& geometry) {
  PELTON_RETURN_IF_ERROR(loader_->finish());  // its staging is the KV cache's now
  if (library_gemm_ != nullptr) {
    PELTON_RETURN_IF_ERROR(tune_products(limits));
  }
  const int64_t kv_tokens = arena_->free_bytes() / std::max<int64_t>(1, geometry.bytes_per_token());
  PELTON_RETURN_IF_ERROR(planner_->reserve(limits, geometry, kv_tokens));
  PELTON_RETURN_IF_ERROR(experts_->reserve(limits));
  PELTON_RETURN_IF_ERROR(sampler_->reserve(limits.max_logit_rows, limits.vocab_size));
  graphs_->set_limit(options_.graphs ? std::min(limits.max_seqs, limits.max_logit_rows) : 0);
  return Status();
}

Status CudaBackend::seal() {
  PELTON_RETURN_IF_ERROR(loader_->finish());
  planner_->seal();
  experts_->seal();
  sampler_->seal();
  sealed_ = true;
  return synchronize();
}

std::vector<int> CudaBackend::recordable_steps() const {
  return graphs_->sizes();
}

StatusOr<const StepPlan*> CudaBackend::prepare(const Batch& batch, const KvGeometry& geometry) {
  PELTON_RETURN_IF_ERROR(failure_);
  const bool decode = batch.num_tokens() == batch.num_seqs() &&
                      batch.logit_rows.size() <= batch.seq_lens.size() && !batch.empty();
  const int recorded = decode ? graphs_->fitting(batch.num_seqs(), !sealed_) : 0;
  auto plan =
      planner_->prepare(batch, geometry, recorded, sampler_->drawn(), sampler_->num_drawn());
  if (!plan.ok()) return keep(plan.status());
  return *plan;
}

bool CudaBackend::begin_forward(const StepPlan& plan) {
  if (!failure_.ok()) return false;
  const int recorded = plan_of(plan).recorded_seqs;
  if (options_.step_clock != nullptr && !recording_) {
    note(options_.step_clock->begin(stream_.get()));
  }
  if (recorded == 0) return true;
  if (recording_) {
    note(graphs_->begin_recording(recorded));
    return failure_.ok();
  }
  if (!sealed_) return true;  // before it is recorded: the same kernels, for their first run
  note(graphs_->replay(recorded));
  return false;
}

Status CudaBackend::end_forward() {
  note(graphs_->end_recording());
  if (options_.step_clock != nullptr && !recording_) {
    note(options_.step_clock->end(stream_.get()));
  }
  return failure_;
}

Status CudaBackend::sample(const Tensor& logits, std::span<const SampleRow> rows) {
  PELTON_RETURN_IF_ERROR(failure_);
  return keep(sampler_->sample(logits, rows, options_.step_clock.get()));
}

StatusOr<std::vector<SampledToken>> CudaBackend::collect() {
  PELTON_RETURN_IF_ERROR(failure_);
  auto tokens = sampler_->collect();
  if (!tokens.ok()) note(tokens.status());
  if (tokens.ok() && options_.step_clock != nullptr) note(options_.step_clock->collect());
  return tokens;
}

Status CudaBackend::read_block(const KvCache& cache, int group, BlockId block,
                               std::span<std::byte> host) {
  const auto& kv = static_cast<const CudaKvCache&>(cache);
  PELTON_RETURN_IF_ERROR(kv.check_block(group, block, host.size()));
  note(cudaMemcpyAsync(host.data(), kv.block(group, block.value), host.size(),
                       cudaMemcpyDeviceToHost, stream_.get()),
       "reading a KV block");
  return synchronize();
}

Status CudaBackend::write_block(KvCache& cache, int group, BlockId block,
                                std::span<const std::byte> host) {
  auto& kv = static_cast<CudaKvCache&>(cache);
  PELTON_RETURN_IF_ERROR(kv.check_block(group, block, host.size()));
  note(cudaMemcpyAsync(kv.block(group, block.value), host.data(), host.size(),
                       cudaMemcpyHostToDevice, stream_.get()),
       "writing a KV block");
  return synchronize();
}

Status CudaBackend::download(const Tensor& x, std::span<std::byte> host) {
  const int64_t row_bytes = dtype_bytes(x.dtype, x.cols);
  if (static_cast<int64_t>(host.size()) < x.rows * row_bytes) {
    return absl::InvalidArgumentError("download: the host buffer is too small");
  }
  if (x.rows > 0 && row_bytes > 0) {
    note(cudaMemcpy2DAsync(host.data(), static_cast<size_t>(row_bytes), x.data,
                           static_cast<size_t>(dtype_bytes(x.dtype, x.row_stride)),
                           static_cast<size_t>(row_bytes), static_cast<size_t>(x.rows),
                           cudaMemcpyDeviceToHost, stream_.get()),
         "reading from the card");
  }
  return synchronize();
}

Status CudaBackend::synchronize() {
  PELTON_RETURN_IF_ERROR(failure_);
  note(cudaStreamSynchronize(stream_.get()), "the card's work");
  return failure_;
}

}  // namespace cuda

StatusOr<std::unique_ptr<Backend>> make_cuda_backend(const CudaOptions& options) {
  return cuda::CudaBackend::make(options);
}

}  // namespace pelton
