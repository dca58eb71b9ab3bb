#include "cpu/kv_store.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "backend/quantized_blocks.h"
#include "core/check.h"
#include "core/half.h"
#include "cpu/kv_cache.h"
#include "cpu/memory.h"
#include "cpu/step_plan.h"

namespace pelton::cpu {
namespace {

constexpr int kMaxHeadDim = 512;

template <typename T, typename Convert>
void store_head(const float* k, const float* v, int head_dim, int block_size, int offset,
                uint8_t* keys, uint8_t* values, Convert convert) {
  auto* key_lanes = reinterpret_cast<T*>(keys) + offset;  // [head_dim][block_size]
  auto* value_row = reinterpret_cast<T*>(values) + static_cast<int64_t>(offset) * head_dim;
  for (int d = 0; d < head_dim; ++d) {
    key_lanes[static_cast<int64_t>(d) * block_size] = convert(k[d]);
    value_row[d] = convert(v[d]);
  }
}

// Codes of one vector, and its scale: value = code * scale, the largest magnitude at 127. What is
// not finite makes the scale NaN.
float quantise_head(const float* x, int n, int8_t* codes) {
  float top = 0, poison = 0;
  for (int d = 0; d < n; ++d) {
    top = std::max(top, std::fabs(x[d]));
    poison += x[d] * 0.0F;
  }
  const float inverse = top > 0 ? 127.0F / top : 0.0F;
  for (int d = 0; d < n; ++d) {
    // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, into the low bits.
    codes[d] = static_cast<int8_t>(std::bit_cast<int32_t>(x[d] * inverse + 12582912.0F));
  }
  return top / 127.0F + poison;
}

void store_head_i8(const float* k, const float* v, int head_dim, int block_size, int offset,
                   uint8_t* keys, uint8_t* values, uint8_t* scales) {
  int8_t codes[kMaxHeadDim];
  const float key_scale = quantise_head(k, head_dim, codes);
  for (int d = 0; d < head_dim; ++d) {
    keys[static_cast<int64_t>(d) * block_size + offset] = static_cast<uint8_t>(codes[d]);
  }
  auto* value_row = reinterpret_cast<int8_t*>(values) + static_cast<int64_t>(offset) * head_dim;
  const float value_scale = quantise_head(v, head_dim, value_row);
  std::memcpy(scales + 4 * offset, &key_scale, 4);
  std::memcpy(scales + 4 * (block_size + offset), &value_scale, 4);
}

void store_token(const RopeKvParams& p, const CpuKvCache& cache, const float* row, int slot) {
  const KvGroup& group = cache.geometry().groups[p.kv.group];
  const int block_size = cache.geometry().block_size;
  const int64_t head_bytes = cache.head_bytes(p.kv.group);
  const int64_t value_offset = cache.value_offset(p.kv.group);
  const int offset = slot % block_size;
  uint8_t* layer = cache.block(p.kv.group, slot / block_size) + cache.layer_offset(p.kv);
  for (int h = 0; h < p.num_kv_heads; ++h) {
    const float* k = row + static_cast<int64_t>(p.num_q_heads + h) * p.head_dim;
    const float* v = k + static_cast<int64_t>(p.num_kv_heads) * p.head_dim;
    uint8_t* keys = layer + h * head_bytes;
    uint8_t* values = keys + value_offset;
    if (group.dtype == DType::kF32) {
      store_head<float>(k, v, p.head_dim, block_size, offset, keys, values,
                        [](float x) { return x; });
    } else if (group.dtype == DType::kI8) {
      store_head_i8(k, v, p.head_dim, block_size, offset, keys, values,
                    keys + cache.scale_offset(p.kv.group));
    } else if (group.dtype == DType::kF16) {
      store_head<uint16_t>(k, v, p.head_dim, block_size, offset, keys, values, f32_to_f16);
    } else {
      store_head<uint16_t>(k, v, p.head_dim, block_size, offset, keys, values, f32_to_bf16);
    }
  }
}

}  // namespace

void add_rope_and_store(Job& job, const KernelTable& kernels, const RopeKvParams& p) {
  const auto& plan = static_cast<const CpuStepPlan&>(*p.plan);
  const Batch& batch = plan.batch;
  // The table's per-step values are a cache: a const view of it to the model, ours to fill.
  auto* rope = const_cast<CpuRopeTable*>(static_cast<const CpuRopeTable*>(p.rope));
  const bool fill = rope != nullptr && rope->begin_step(plan);
  const auto* cache = static_cast<const CpuKvCache*>(p.kv.cache);
  const int32_t* slots = cache != nullptr ? batch.kv[p.kv.group].slot_mapping.data() : nullptr;
  if (rope != nullptr) {
    PELTON_CHECK(2 * rope->pairs() <= p.head_dim, "rope: more pairs than the head has");
  }
  PELTON_CHECK(p.head_dim <= kMaxHeadDim, "rope: head size");
  RopeRowArgs shared;
  shared.head_dim = p.head_dim;
  shared.norm_eps = p.norm_eps;
  shared.pairs = rope != nullptr ? rope->pairs() : 0;
  shared.interleaved = rope != nullptr && rope->spec().interleaved;
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, p.qkv.cols));
  job.add(batch.num_tokens(), grain, [=, &kernels, &p, &batch](int64_t begin, int64_t end, int) {
    for (int64_t m = begin; m < end; ++m) {
      float* row = p.qkv.row<float>(m);
      fetch(row, p.qkv.cols * 4);
      RopeRowArgs args = shared;
      if (rope != nullptr) {
        if (fill) rope->fill_row(static_cast<int>(m), batch.positions[m]);
        args.cos = rope->row(static_cast<int>(m));
        args.sin = args.cos + rope->pairs();
      }
      args.heads = row;
      args.num_heads = p.num_q_heads;
      args.norm = p.q_norm;
      kernels.rope_row(args);
      args.heads = row + static_cast<int64_t>(p.num_q_heads) * p.head_dim;
      args.num_heads = p.num_kv_heads;
      args.norm = p.k_norm;
      kernels.rope_row(args);
      if (cache != nullptr && slots[m] >= 0) store_token(p, *cache, row, slots[m]);
    }
  });
}

}  // namespace pelton::cpu
