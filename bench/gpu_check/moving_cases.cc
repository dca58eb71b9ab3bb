// Rows and blocks on the move: KV blocks copied, logit rows gathered, pooling, softcap, and what
// routed experts need beside their products.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "bench/gpu_check/kernel_cases.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/experts.h"
#include "cuda/kernels/rows.h"

namespace pelton::bench {
namespace {

constexpr int kFill = 0x3c;

Status measure_launch(const std::string& name, double bytes, const MeasureCase& measure,
                      std::function<cudaError_t(int, cudaStream_t)> launch) {
  KernelCase c;
  c.name = name;
  c.bytes = bytes;
  c.launches = 10;
  c.launch = std::move(launch);
  return measure(c);
}

Status copy_case(int pairs, int64_t block_bytes, const MeasureCase& measure) {
  std::vector<int32_t> blocks;
  for (int i = 0; i < pairs; ++i) {
    blocks.push_back(i);
    blocks.push_back(pairs + i);
  }
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory cache, filled(2 * pairs * block_bytes, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory list, uploaded(blocks));
  cuda::CopyBlocksParams p;
  p.cache = cache.get();
  p.block_bytes = block_bytes;
  p.pairs = static_cast<const int32_t*>(list.get());
  p.num_pairs = pairs;
  return measure_launch(fmt::format("copy of {} KV blocks", pairs),
                        2.0 * pairs * static_cast<double>(block_bytes), measure,
                        [p](int, cudaStream_t s) { return cuda::copy_blocks(p, s); });
}

// `rows` of twice as many, and one mean of all of them for each 32.
Status row_case(int rows, int cols, const MeasureCase& measure) {
  std::vector<int32_t> index, starts;
  for (int i = 0; i < rows; ++i) index.push_back(2 * i);
  const int sequences = (rows + 31) / 32;
  for (int i = 0; i <= sequences; ++i) starts.push_back(std::min(32 * i, rows));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory x, filled(int64_t{4} * rows * cols, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory out, filled(int64_t{2} * rows * cols, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory chosen, uploaded(index));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory begins, uploaded(starts));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory vectors, filled(int64_t{4} * sequences * cols, kFill));
  cuda::GatherRowsParams gather;
  gather.x = x.get();
  gather.index = static_cast<const int32_t*>(chosen.get());
  gather.out = out.get();
  gather.x_stride_bytes = gather.out_stride_bytes = gather.row_bytes = int64_t{2} * cols;
  gather.rows = rows;
  PELTON_RETURN_IF_ERROR(
      measure_launch(fmt::format("gather of {} rows of {}", rows, cols), 4.0 * rows * cols, measure,
                     [gather](int, cudaStream_t s) { return cuda::gather_rows(gather, s); }));
  cuda::PoolParams pool;
  pool.x = x.get();
  pool.x_stride = pool.out_stride = pool.cols = cols;
  pool.starts = static_cast<const int32_t*>(begins.get());
  pool.out = static_cast<float*>(vectors.get());
  pool.sequences = sequences;
  return measure_launch(fmt::format("mean of {} rows of {}", rows, cols),
                        2.0 * rows * cols + 4.0 * sequences * cols, measure,
                        [pool](int, cudaStream_t s) { return cuda::pool(pool, s); });
}

Status softcap_case(int rows, int vocab, const MeasureCase& measure) {
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory x, filled(int64_t{4} * rows * vocab, kFill));
  cuda::SoftcapParams p;
  p.x = x.get();
  p.x_stride = p.cols = vocab;
  p.cap = 30;
  p.rows = rows;
  return measure_launch(fmt::format("softcap, {} x {}", rows, vocab), 8.0 * rows * vocab, measure,
                        [p](int, cudaStream_t s) { return cuda::softcap(p, s); });
}

// 128 experts, 8 a token, as the largest routed models have them.
Status expert_cases(int rows, int cols, const MeasureCase& measure) {
  constexpr int kExperts = 128, kTopK = 8;
  const int64_t entries = int64_t{rows} * kTopK;
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory logits, filled(int64_t{2} * rows * kExperts, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory ids, filled(4 * entries, 0));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory weights, filled(4 * entries, 0));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory starts, filled(4 * (kExperts + 1), 0));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory place, filled(4 * entries, 0));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory token_of, filled(4 * entries, 0));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory x, filled(2 * entries * cols, kFill));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory out, filled(int64_t{2} * rows * cols, kFill));
  cuda::RouteParams route;
  route.logits = logits.get();
  route.logits_stride = route.experts = kExperts;
  route.rows = rows;
  route.top_k = kTopK;
  route.expert_ids = static_cast<int32_t*>(ids.get());
  route.expert_weights = static_cast<float*>(weights.get());
  const auto bytes = static_cast<double>(entries);
  PELTON_RETURN_IF_ERROR(
      measure_launch(fmt::format("{} of {} experts for {} tokens", kTopK, kExperts, rows),
                     2.0 * rows * kExperts + 8 * bytes, measure,
                     [route](int, cudaStream_t s) { return cuda::route(route, s); }));
  cuda::GroupByExpertParams group;
  group.expert_ids = route.expert_ids;
  group.entries = static_cast<int>(entries);
  group.top_k = kTopK;
  group.experts = kExperts;
  group.starts = static_cast<int32_t*>(starts.get());
  group.place = static_cast<int32_t*>(place.get());
  group.token_of = static_cast<int32_t*>(token_of.get());
  PELTON_RETURN_IF_ERROR(
      measure_launch(fmt::format("{} tokens grouped by expert", rows), 12 * bytes, measure,
                     [group](int, cudaStream_t s) { return cuda::group_by_expert(group, s); }));
  cuda::CombineExpertsParams combine;
  combine.x = x.get();
  combine.x_stride = combine.out_stride = combine.cols = cols;
  combine.expert_ids = route.expert_ids;
  combine.expert_weights = route.expert_weights;
  combine.place = group.place;
  combine.top_k = kTopK;
  combine.out = out.get();
  combine.rows = rows;
  return measure_launch(
      fmt::format("experts' results of {} tokens added", rows), 2.0 * rows * cols * (kTopK + 1),
      measure, [combine](int, cudaStream_t s) { return cuda::combine_experts(combine, s); });
}

}  // namespace

Status moving_cases(const CheckContext& context, const MeasureCase& measure) {
  const bool quick = context.quick;
  PELTON_RETURN_IF_ERROR(copy_case(quick ? 2 : 64, quick ? 256 : 4 << 20, measure));
  PELTON_RETURN_IF_ERROR(row_case(quick ? 3 : 256, quick ? 64 : 4096, measure));
  PELTON_RETURN_IF_ERROR(softcap_case(quick ? 2 : 256, quick ? 300 : 128256, measure));
  return expert_cases(quick ? 3 : 2048, quick ? 64 : 2048, measure);
}

}  // namespace pelton::bench
