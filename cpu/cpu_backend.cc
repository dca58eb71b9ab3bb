#include "cpu/cpu_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "backend/drawn_tokens.h"
#include "core/check.h"
#include "cpu/attention.h"
#include "cpu/kernels/dot.h"
#include "cpu/kernels/kernels.h"
#include "cpu/kv_cache.h"
#include "cpu/kv_store.h"
#include "cpu/linear.h"
#include "cpu/machine.h"
#include "cpu/memory.h"
#include "cpu/moe.h"
#include "cpu/packed_matrix.h"
#include "cpu/row_makers.h"
#include "cpu/sampler.h"
#include "cpu/step_plan.h"
#include "cpu/thread_pool.h"

namespace pelton {
namespace cpu {
namespace {

// Rows of an elementwise op that one task takes: about this many floats.
constexpr int64_t kTaskFloats = 8192;
int64_t row_grain(int64_t cols) {
  return std::max<int64_t>(1, kTaskFloats / std::max<int64_t>(cols, 1));
}

class CpuBuffer final : public Buffer {
 public:
  explicit CpuBuffer(Piece piece, int64_t bytes) : piece_(std::move(piece)), bytes_(bytes) {}
  void* data() const override { return piece_.data; }
  int64_t bytes() const override { return bytes_; }

 private:
  Piece piece_;
  int64_t bytes_;
};

const CpuStepPlan& plan_of(const StepPlan& plan) {
  return static_cast<const CpuStepPlan&>(plan);
}
const PackedMatrix& packed(const Matrix& matrix) {
  return static_cast<const PackedMatrix&>(matrix);
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(const KernelTable& kernels, std::span<const DotTable* const> dots,
             std::shared_ptr<ThreadPool> pool)
      : kernels_(kernels),
        pool_(std::move(pool)),
        dots_(dots.begin(), dots.end()),
        linear_(kernels_, dots, *pool_),
        attention_(kernels_, *pool_),
        sampler_(kernels_, *pool_),
        experts_(kernels_, *pool_, linear_) {}

  std::string description() const override {
    std::string out = fmt::format("cpu: {} threads, {}", pool_->threads(), kernels_.name);
    for (const DotTable* dot : dots_) out += fmt::format(", {}", dot->name);
    return out;
  }
  DType activation_dtype() const override { return DType::kF32; }
  bool host_addressable() const override { return true; }
  bool supports_weights(DType dtype) const override { return tile_layout(dtype).block != 0; }
  bool supports_kv(DType dtype) const override { return has_kv_kernels(dtype); }
  int64_t free_memory_bytes() const override { return available_memory_bytes(); }
  Communicator& communicator() override { return communicator_; }

  StatusOr<std::unique_ptr<Buffer>> allocate(int64_t bytes) override {
    if (bytes < 0) return absl::InvalidArgumentError("allocation of a negative size");
    PELTON_ASSIGN_OR_RETURN(Piece piece, arena_.allocate(bytes));
    return std::make_unique<CpuBuffer>(std::move(piece), bytes);
  }
  StatusOr<std::unique_ptr<Buffer>> upload(std::span<const std::byte> host) override {
    PELTON_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer,
                            allocate(static_cast<int64_t>(host.size())));
    if (!host.empty()) std::memcpy(buffer->data(), host.data(), host.size());
    return buffer;
  }
  StatusOr<std::unique_ptr<Matrix>> pack(std::span<const RowSource* const> sources) override {
    return PackedMatrix::pack(sources, arena_, *pool_);
  }
  StatusOr<std::unique_ptr<RopeTable>> make_rope(const RopeSpec& spec) override {
    return std::make_unique<CpuRopeTable>(spec);
  }
  StatusOr<std::unique_ptr<KvCache>> allocate_kv(const KvGeometry& geometry,
                                                 std::span<const int> num_blocks) override {
    return CpuKvCache::create(geometry, num_blocks);
  }

  StatusOr<const StepPlan*> prepare(const Batch& batch, const KvGeometry& geometry) override;
  void copy_blocks(KvCache& cache, int group, std::span<const BlockCopy> copies) override {
    auto& kv = static_cast<CpuKvCache&>(cache);
    const int64_t bytes = kv.geometry().bytes_per_block(group);
    for (const BlockCopy& copy : copies) {
      std::memcpy(kv.block(group, copy.to.value), kv.block(group, copy.from.value), bytes);
    }
  }
  void embed(const StepPlan& plan, const EmbedParams& p) override;
  void norm(const NormParams& p) override;
  void linear(const LinearParams& p) override {
    job_.clear();
    add_linear(p, {});
    pool_->run(job_);
  }
  void rope_and_write_kv(const RopeKvParams& p) override {
    job_.clear();
    add_rope_and_store(job_, kernels_, p);
    pool_->run(job_);
  }
  void attention(const AttentionParams& p) override { attention_.run(p); }
  void encoder_attention(const EncoderAttentionParams& p) override { attention_.run_encoder(p); }
  void activation(const ActivationParams& p) override;
  void route(const RouteParams& p) override { experts_.route(p); }
  void experts(const ExpertsParams& p) override { experts_.run(p); }
  void pool(const PoolParams& p) override;
  void normed_attention(const NormParams& norm, const LinearParams& qkv, const RopeKvParams& rope,
                        const AttentionParams& attention) override;
  void normed_linear(const NormParams& norm, const LinearParams& linear) override;
  void activated_linear(const ActivationParams& activation, const LinearParams& linear) override;
  void gather_logit_rows(const StepPlan& plan, const Tensor& x, const Tensor& out) override;
  void softcap(const Tensor& x, float cap) override {
    pool_->run(x.rows, row_grain(x.cols), [&](int64_t begin, int64_t end, int) {
      for (int64_t m = begin; m < end; ++m) kernels_.softcap(x.row<float>(m), x.cols, cap);
    });
  }

  Status sample(const Tensor& logits, std::span<const SampleRow> rows) override {
    sampled_ = sampler_.run(logits, rows);
    return absl::OkStatus();
  }
  StatusOr<std::vector<SampledToken>> collect() override { return std::exchange(sampled_, {}); }

  Status read_block(const KvCache& cache, int group, BlockId block,
                    std::span<std::byte> host) override {
    const auto& kv = static_cast<const CpuKvCache&>(cache);
    PELTON_RETURN_IF_ERROR(kv.check_block(group, block, host.size()));
    std::memcpy(host.data(), kv.block(group, block.value), host.size());
    return absl::OkStatus();
  }
  Status write_block(KvCache& cache, int group, BlockId block,
                     std::span<const std::byte> host) override {
    auto& kv = static_cast<CpuKvCache&>(cache);
    PELTON_RETURN_IF_ERROR(kv.check_block(group, block, host.size()));
    std::memcpy(kv.block(group, block.value), host.data(), host.size());
    return absl::OkStatus();
  }
  Status download(const Tensor& x, std::span<std::byte> host) override;
  Status synchronize() override { return absl::OkStatus(); }

 private:
  NormRows norm_rows(const NormParams& p);
  void add_linear(const LinearParams& p, const RowMaker& maker);

  const KernelTable& kernels_;
  std::shared_ptr<ThreadPool> pool_;
  std::vector<const DotTable*> dots_;
  Arena arena_;
  SingleRank communicator_;
  Linear linear_;
  Attention attention_;
  Sampler sampler_;
  Experts experts_;
  Scratch norm_scratch_;
  Job job_;
  CpuStepPlan plan_;
  std::vector<SampledToken> sampled_;
};

StatusOr<const KernelTable*> choose_kernels(CpuIsa isa) {
#if defined(__x86_64__)
  if (has_avx512() && (isa == CpuIsa::kAuto || isa == CpuIsa::kAvx512)) return &kernels_avx512();
  if (has_avx2() && (isa == CpuIsa::kAuto || isa == CpuIsa::kAvx2)) return &kernels_avx2();
#elif defined(__aarch64__)
  if (has_neon() && (isa == CpuIsa::kAuto || isa == CpuIsa::kNeon)) return &kernels_neon();
#endif
  if (isa == CpuIsa::kAuto || isa == CpuIsa::kScalar) return &kernels_scalar();
  return absl::FailedPreconditionError("this processor lacks the instruction set asked for");
}

// The dot products that go with these kernels; a processor with AVX-512 but without its dot
// products uses those of AVX2.
std::vector<const DotTable*> choose_dots(const KernelTable& kernels) {
#if defined(__x86_64__)
  if (&kernels != &kernels_scalar()) {
    const bool wide = &kernels == &kernels_avx512();
    std::vector<const DotTable*> out = {&dot_avx2(), &dot_avx2_wide()};
    if (wide && has_avx512_vnni()) out = {&dot_avx512()};
    if (wide && has_avx512_bf16()) out.push_back(&bf16_avx512());
    return out;
  }
#elif defined(__aarch64__)
  if (&kernels != &kernels_scalar()) return {has_neon_sdot() ? &dot_neon_sdot() : &dot_neon()};
#endif
  return {&dot_scalar()};
}

StatusOr<const StepPlan*> CpuBackend::prepare(const Batch& batch, const KvGeometry& geometry) {
  const auto tokens = static_cast<size_t>(batch.num_tokens());
  const auto seqs = static_cast<size_t>(batch.num_seqs());
  if (batch.positions.size() != tokens || batch.query_start_loc.size() != seqs + 1 ||
      batch.query_start_loc.back() != batch.num_tokens() ||
      batch.kv.size() != geometry.groups.size()) {
    return absl::InternalError("a batch whose parts do not fit together");
  }
  for (const GroupBatch& group : batch.kv) {
    if (group.slot_mapping.size() != tokens ||
        group.block_tables.size() != seqs * group.max_blocks_per_seq) {
      return absl::InternalError("a batch whose block tables do not fit it");
    }
  }
  plan_.batch = batch;
  PELTON_RETURN_IF_ERROR(fill_drawn_tokens(sampled_, plan_.batch));
  ++plan_.serial;
  return &plan_;
}

void CpuBackend::embed(const StepPlan& plan, const EmbedParams& p) {
  const Batch& batch = plan_of(plan).batch;
  const PackedMatrix& table = packed(*p.table);
  const int64_t cols = table.cols();
  pool_->run(
      batch.num_tokens(), row_grain(cols * kLanes), [&](int64_t begin, int64_t end, int worker) {
        std::vector<float> position(p.positions != nullptr ? cols : 0);
        for (int64_t m = begin; m < end; ++m) {
          float* out = p.out.row<float>(m);
          linear_.read_row(table, batch.tokens[m], worker, out);
          if (p.positions != nullptr) {
            linear_.read_row(packed(*p.positions), batch.positions[m], worker, position.data());
            for (int64_t i = 0; i < cols; ++i) out[i] += position[i];
          }
          if (p.scale != 1.0F) {
            for (int64_t i = 0; i < cols; ++i) out[i] *= p.scale;
          }
        }
      });
}

NormRows CpuBackend::norm_rows(const NormParams& p) {
  const bool scratch = p.post.weight != nullptr && !p.out.defined();
  return {kernels_, p, scratch ? norm_scratch_.floats(pool_->threads() * p.x.cols) : nullptr};
}

// To job_, which has no other product.
void CpuBackend::add_linear(const LinearParams& p, const RowMaker& maker) {
  linear_.add(job_, p.x, packed(*p.w), p.bias, p.out, maker);
  linear_.add_ahead(job_, static_cast<const PackedMatrix*>(p.next));
}

void CpuBackend::norm(const NormParams& p) {
  const NormRows rows = norm_rows(p);
  pool_->run(p.x.rows, row_grain(p.x.cols), [&](int64_t begin, int64_t end, int worker) {
    for (int64_t m = begin; m < end; ++m) rows.make(m, worker);
  });
}

void CpuBackend::activation(const ActivationParams& p) {
  const int64_t n = p.out.cols;
  PELTON_CHECK(p.x.cols == (p.gated ? 2 * n : n), "activation: shapes");
  const ActivationRows rows = {kernels_, p};
  // A long row is cut as well: decode has few rows.
  const int64_t pieces = std::max<int64_t>(1, n / 1024);
  pool_->run(p.x.rows * pieces, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t m = item / pieces, piece = item % pieces;
      rows.make(m, n * piece / pieces, n * (piece + 1) / pieces);
    }
  });
}

void CpuBackend::normed_attention(const NormParams& norm, const LinearParams& qkv,
                                  const RopeKvParams& rope, const AttentionParams& attention) {
  const NormRows rows = norm_rows(norm);
  job_.clear();
  add_linear(qkv, rows.maker());
  add_rope_and_store(job_, kernels_, rope);
  attention_.add(job_, attention);
  pool_->run(job_);
}

void CpuBackend::normed_linear(const NormParams& norm, const LinearParams& linear) {
  const NormRows rows = norm_rows(norm);
  job_.clear();
  add_linear(linear, rows.maker());
  pool_->run(job_);
}

void CpuBackend::activated_linear(const ActivationParams& activation, const LinearParams& linear) {
  PELTON_CHECK(activation.x.cols == (activation.gated ? 2 : 1) * activation.out.cols,
               "activation: shapes");
  const ActivationRows rows = {kernels_, activation};
  job_.clear();
  add_linear(linear, rows.maker());
  pool_->run(job_);
}

void CpuBackend::pool(const PoolParams& p) {
  const Batch& batch = plan_of(*p.plan).batch;
  pool_->run(batch.num_seqs(), 1, [&](int64_t first, int64_t last, int) {
    for (int64_t s = first; s < last; ++s) {
      const int begin = batch.query_start_loc[s], end = batch.query_start_loc[s + 1];
      const int64_t n = p.x.cols;
      float* out = p.out.row<float>(s);
      if (p.kind == Pooling::kMean) {
        std::fill_n(out, n, 0.0F);
        for (int m = begin; m < end; ++m) kernels_.axpy(1.0F, p.x.row<const float>(m), n, out);
        for (int64_t i = 0; i < n; ++i) out[i] /= static_cast<float>(std::max(1, end - begin));
      } else {
        std::copy_n(p.x.row<const float>(p.kind == Pooling::kFirst ? begin : end - 1), n, out);
      }
      if (p.normalize) {
        double squares = 0;
        for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(out[i]) * out[i];
        const auto inverse = static_cast<float>(1.0 / std::max(std::sqrt(squares), 1e-12));
        for (int64_t i = 0; i < n; ++i) out[i] *= inverse;
      }
    }
  });
}

void CpuBackend::gather_logit_rows(const StepPlan& plan, const Tensor& x, const Tensor& out) {
  const std::vector<int32_t>& rows = plan_of(plan).batch.logit_rows;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::copy_n(x.row<const float>(rows[r]), x.cols, out.row<float>(static_cast<int64_t>(r)));
  }
}

Status CpuBackend::download(const Tensor& x, std::span<std::byte> host) {
  const int64_t row_bytes = dtype_bytes(x.dtype, x.cols);
  if (static_cast<int64_t>(host.size()) < x.rows * row_bytes) {
    return absl::InvalidArgumentError("download: the host buffer is too small");
  }
  const int64_t stride = dtype_bytes(x.dtype, x.row_stride);
  for (int64_t m = 0; m < x.rows; ++m) {
    std::memcpy(host.data() + m * row_bytes, static_cast<const std::byte*>(x.data) + m * stride,
                row_bytes);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace cpu

StatusOr<CpuIsa> cpu_isa_from_name(std::string_view name) {
  if (name == "auto") return CpuIsa::kAuto;
  if (name == "scalar") return CpuIsa::kScalar;
  if (name == "avx2") return CpuIsa::kAvx2;
  if (name == "avx512") return CpuIsa::kAvx512;
  if (name == "neon") return CpuIsa::kNeon;
  return absl::InvalidArgumentError(
      fmt::format("unknown instruction set '{}' (auto, scalar, avx2, avx512)", name));
}

StatusOr<CpuActivations> cpu_activations_from_name(std::string_view name) {
  if (name == "f32") return CpuActivations::kF32;
  if (name == "int8") return CpuActivations::kInt8;
  return absl::InvalidArgumentError(fmt::format("unknown activations '{}' (f32, int8)", name));
}

std::shared_ptr<cpu::ThreadPool> make_cpu_pool(int threads, bool pin) {
  return std::make_shared<cpu::ThreadPool>(threads > 0 ? threads : cpu::usable_cores(),
                                           pin ? cpu::core_cpus() : std::vector<int>());
}

StatusOr<std::unique_ptr<Backend>> make_cpu_backend(const CpuOptions& options) {
  if (options.threads < 0 || options.threads > 1024) {
    return absl::InvalidArgumentError(fmt::format("{} cpu threads (0..1024)", options.threads));
  }
  PELTON_ASSIGN_OR_RETURN(const cpu::KernelTable* kernels, cpu::choose_kernels(options.isa));
  std::vector<const cpu::DotTable*> dots;
  if (options.activations == CpuActivations::kInt8) dots = cpu::choose_dots(*kernels);
  return std::make_unique<cpu::CpuBackend>(
      *kernels, dots, options.pool != nullptr ? options.pool : make_cpu_pool(options.threads));
}

}  // namespace pelton
