// The class behind make_cuda_backend(): what one card, one stream and one arena do for a model. Its
// ops stand in backend_ops.cc, the rest in cuda_backend.cc. Engine thread.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/cuda_backend.h"
#include "cuda/cuda_status.h"
#include "cuda/device_arena.h"
#include "cuda/device_sampler.h"
#include "cuda/handles.h"
#include "cuda/kv_cache.h"
#include "cuda/library_gemm.h"
#include "cuda/op_parts.h"
#include "cuda/packed_matrix.h"
#include "cuda/routed_experts.h"
#include "cuda/step_clock.h"
#include "cuda/step_graphs.h"
#include "cuda/step_plan.h"

namespace pelton::cuda {

inline const CudaStepPlan& plan_of(const StepPlan& plan) {
  return static_cast<const CudaStepPlan&>(plan);
}

// cos and sin of every position, as float32 of what the CPU computes for each step.
class CudaRopeTable final : public RopeTable {
 public:
  CudaRopeTable(DevicePiece values, int rotary_dim, bool interleaved)
      : values_(std::move(values)), rotary_dim_(rotary_dim), interleaved_(interleaved) {}
  const float* values() const { return values_.as<float>(); }
  int rotary_dim() const { return rotary_dim_; }
  bool interleaved() const { return interleaved_; }

 private:
  DevicePiece values_;  // [max_positions, rotary_dim]
  int rotary_dim_;
  bool interleaved_;
};

class CudaBackend final : public Backend {
 public:
  static StatusOr<std::unique_ptr<CudaBackend>> make(const CudaOptions& options);
  ~CudaBackend() override {
    if (stream_) cudaStreamSynchronize(stream_.get());
  }

  std::string description() const override { return description_; }
  DType activation_dtype() const override { return options_.activations; }
  bool host_addressable() const override { return false; }
  bool supports_weights(DType dtype) const override { return has_weight_format(dtype); }
  bool supports_kv(DType dtype) const override { return kv_type(dtype, type_).has_value(); }
  // In one piece, and pieces are rounded up.
  int64_t free_memory_bytes() const override {
    return std::max<int64_t>(0, arena_->largest_free_bytes() - 16 * DeviceArena::kAlignment);
  }
  Communicator& communicator() override { return communicator_; }
  bool asynchronous() const override { return true; }
  bool dedicated_memory() const override { return true; }

  StatusOr<std::unique_ptr<Buffer>> allocate(int64_t bytes) override;
  StatusOr<std::unique_ptr<Buffer>> upload(std::span<const std::byte> host) override;
  StatusOr<std::unique_ptr<Matrix>> pack(std::span<const RowSource* const> sources) override;
  StatusOr<std::unique_ptr<RopeTable>> make_rope(const RopeSpec& spec) override;
  StatusOr<std::unique_ptr<KvCache>> allocate_kv(const KvGeometry& geometry,
                                                 std::span<const int> num_blocks) override;
  Status reserve(const StepLimits& limits, const KvGeometry& geometry) override;
  Status seal() override;
  std::vector<int> recordable_steps() const override;
  void record(bool on) override { recording_ = on; }

  StatusOr<const StepPlan*> prepare(const Batch& batch, const KvGeometry& geometry) override;
  bool begin_forward(const StepPlan& plan) override;
  Status end_forward() override;
  void copy_blocks(KvCache& cache, int group, std::span<const BlockCopy> copies) override;
  void embed(const StepPlan& plan, const EmbedParams& p) override;
  void norm(const pelton::NormParams& p) override;
  void linear(const pelton::LinearParams& p) override;
  void rope_and_write_kv(const pelton::RopeKvParams& p) override;
  void attention(const AttentionParams& p) override;
  void encoder_attention(const EncoderAttentionParams& p) override;
  void activation(const pelton::ActivationParams& p) override;
  void route(const pelton::RouteParams& p) override;
  void experts(const ExpertsParams& p) override;
  void pool(const pelton::PoolParams& p) override;
  void gather_logit_rows(const StepPlan& plan, const Tensor& x, const Tensor& out) override;
  void softcap(const Tensor& x, float cap) override;

  Status sample(const Tensor& logits, std::span<const SampleRow> rows) override;
  StatusOr<std::vector<SampledToken>> collect() override;
  Status read_block(const KvCache& cache, int group, BlockId block,
                    std::span<std::byte> host) override;
  Status write_block(KvCache& cache, int group, BlockId block,
                     std::span<const std::byte> host) override;
  Status download(const Tensor& x, std::span<std::byte> host) override;
  Status synchronize() override;

 private:
  explicit CudaBackend(const CudaOptions& options);
  Status open();
  Status open_library(const cudaDeviceProp& card);
  Status tune_products(const StepLimits& limits);
  // Keeps the first error; the device's work is worth nothing after it.
  void note(Status status) {
    if (failure_.ok() && !status.ok()) failure_ = std::move(status);
  }
  void note(cudaError_t error, std::string_view what) {
    if (error != cudaSuccess) note(cuda_status(error, what));
  }
  Status keep(Status status) {
    note(status);
    return status;
  }

  const CudaOptions options_;
  const ElementType type_;
  std::string description_;
  SingleRank communicator_;
  std::shared_ptr<DeviceArena> arena_;
  Stream stream_;
  std::unique_ptr<WeightLoader> loader_;
  std::unique_ptr<StepPlanner> planner_;
  std::unique_ptr<RoutedExperts> experts_;
  std::unique_ptr<DeviceSampler> sampler_;
  std::unique_ptr<StepGraphs> graphs_;
  std::unique_ptr<LibraryGemm> library_gemm_;  // without batch_invariant
  struct TunedMatrix {
    int n, k;
    bool fp8;
    const void* weights;
  };
  std::vector<TunedMatrix> tuned_;  // one of each shape in 16 bits or fp8
  bool recording_ = false;
  bool sealed_ = false;  // recorded steps are replayed from here on
  Status failure_;
};

}  // namespace pelton::cuda
