// A second, independent reading of backend.h for tests: weights as float32, sums in float64, plain
// loops, one thread. Slow on purpose; what a fast backend is compared with on tiny models.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace pelton {

class NaiveBackend : public Backend {
 public:
  NaiveBackend() = default;

  std::string description() const override { return "naive: one thread, float64 sums"; }
  DType activation_dtype() const override { return DType::kF32; }
  bool host_addressable() const override { return true; }
  bool supports_weights(DType dtype) const override;
  bool supports_kv(DType dtype) const override { return dtype == DType::kF32; }
  int64_t free_memory_bytes() const override { return int64_t{1} << 30; }
  Communicator& communicator() override { return communicator_; }

  StatusOr<std::unique_ptr<Buffer>> allocate(int64_t bytes) override;
  StatusOr<std::unique_ptr<Buffer>> upload(std::span<const std::byte> host) override;
  StatusOr<std::unique_ptr<Matrix>> pack(std::span<const RowSource* const> sources) override;
  StatusOr<std::unique_ptr<RopeTable>> make_rope(const RopeSpec& spec) override;
  StatusOr<std::unique_ptr<KvCache>> allocate_kv(const KvGeometry& geometry,
                                                 std::span<const int> num_blocks) override;

  StatusOr<const StepPlan*> prepare(const Batch& batch, const KvGeometry& geometry) override;
  void copy_blocks(KvCache& cache, int group, std::span<const BlockCopy> copies) override;
  void embed(const StepPlan& plan, const EmbedParams& params) override;
  void norm(const NormParams& params) override;
  void linear(const LinearParams& params) override;
  void rope_and_write_kv(const RopeKvParams& params) override;
  void attention(const AttentionParams& params) override;
  void encoder_attention(const EncoderAttentionParams& params) override;
  void activation(const ActivationParams& params) override;
  void route(const RouteParams& params) override;
  void experts(const ExpertsParams& params) override;
  void pool(const PoolParams& params) override;
  void gather_logit_rows(const StepPlan& plan, const Tensor& x, const Tensor& out) override;
  void softcap(const Tensor& x, float cap) override;

  Status sample(const Tensor& logits, std::span<const SampleRow> rows) override;
  StatusOr<std::vector<SampledToken>> collect() override;

  Status read_block(const KvCache& cache, int group, BlockId block,
                    std::span<std::byte> host) override;
  Status write_block(KvCache& cache, int group, BlockId block,
                     std::span<const std::byte> host) override;
  Status download(const Tensor& x, std::span<std::byte> host) override;
  Status synchronize() override { return Status(); }

 private:
  SingleRank communicator_;
  std::unique_ptr<StepPlan> plan_;
  std::vector<SampledToken> sampled_;
};

}  // namespace pelton
