// The inner loops of the CPU backend, compiled once for each instruction set and chosen at run
// time. Plain functions over raw pointers, thread-safe, no allocation. Every one gives the same
// bits on every instruction set: lanes are always sixteen, sums have a fixed order, fused
// multiply-adds are written out.
#pragma once

#include <cstdint>

#include "backend/op_kinds.h"
#include "core/dtype.h"
#include "cpu/kernels/tiles.h"

namespace pelton::cpu {

// out[t][r] = bias[r] + sum over k of x[t][k] * w[r][k]: for each output one chain of fused
// multiply-adds in ascending k, from zero. The same in gemv and gemm.
struct GemvArgs {
  const uint8_t* tiles = nullptr;  // of the first group, k-block 0
  int64_t tile_stride = 0;         // bytes from a k-block to the next
  int64_t k = 0;                   // a multiple of the tile's block
  int rows = 0;                    // 1 .. kPanelRows
  const float* x = nullptr;        // [tokens, k]
  int64_t x_stride = 0;
  int tokens = 0;               // 1 .. kMaxGemvTokens
  const float* bias = nullptr;  // [rows], or null
  float* out = nullptr;         // [tokens, rows]
  int64_t out_stride = 0;
};
inline constexpr int kMaxGemvTokens = 8;

// One group's weights as float32: panel[k * panel_stride + lane].
struct DequantizeArgs {
  const uint8_t* tiles = nullptr;
  int64_t tile_stride = 0;
  int64_t k_count = 0;  // a multiple of the tile's block
  float* panel = nullptr;
  int64_t panel_stride = 0;
};

// A slice of k for up to gemm_groups * 16 rows and gemm_tokens tokens.
struct GemmArgs {
  const float* panel = nullptr;  // [k, gemm_groups * 16]
  const float* x = nullptr;      // [k, tokens]
  int64_t k = 0;                 // a multiple of 8
  int rows = 0;
  int tokens = 0;
  bool first = true;            // start from zero, else go on from out
  const float* bias = nullptr;  // added after the last slice; null before that
  float* out = nullptr;
  int64_t out_stride = 0;
  const uint8_t* prefetch = nullptr;  // so many lines from here on are fetched for each 8 of k
  int prefetch_lines = 0;
};

// Attention of up to attention_rows query rows of one sequence that share a KV head, over the
// context in splits of kSplitTokens. A split is reduced from scratch; splits merge in order.
inline constexpr int kSplitTokens = 128;
inline constexpr int kMaxTileRows = 192;
struct AttentionArgs {
  const float* const* q = nullptr;  // [rows] of [head_dim]
  const int32_t* begin = nullptr;   // [rows] first and
  const int32_t* end = nullptr;     // [rows] one past the last position that the row sees
  int rows = 0;
  int head_dim = 0;
  DType kv_dtype = DType::kF32;
  const uint8_t* keys = nullptr;  // of this layer and head, block 0: [head_dim][key_stride]
  int64_t value_offset = 0;       // bytes from a block's keys to its values, [block_size][head_dim]
  // int8: bytes from a block's keys to its scales, f32 [block_size] of keys, then of values. Else
  // 0.
  int64_t scale_offset = 0;
  int64_t block_bytes = 0;  // from a block to the next
  const int32_t* block_table = nullptr;
  int block_size = 0;
  int64_t key_stride = 0;  // elements from a dimension of the keys to the next, >= block_size
  float scale = 0;
  float softcap = 0;
  bool apart = false;  // attend: each split adds to states of its own, [splits][rows]
  // What will be attended to afterwards, fetched while the last split is worked on: position p of
  // it goes for p + next_shift, up to next_end.
  const uint8_t* next_keys = nullptr;
  const int32_t* next_block_table = nullptr;
  int next_shift = 0;
  int next_end = 0;
};
// A row's softmax so far: weights relative to exp(max). sum 0: nothing seen yet.
struct AttentionState {
  float max = 0;
  float sum = 0;
  float* acc = nullptr;  // [head_dim rounded up to 16]
};

// attend_tile: rows of one call at most, and floats of its scratch.
constexpr int attention_tile_rows(int head_dim) {
  const int rows = 24576 / head_dim / 12 * 12;  // queries and sums stay in the second-level cache
  return rows < 48 ? 48 : rows > kMaxTileRows ? kMaxTileRows : rows;
}
constexpr int64_t attention_tile_floats(int rows, int head_dim) {
  const int64_t kv = static_cast<int64_t>(head_dim) * (2 * kSplitTokens + kLanes);
  return kv + 2 * (kSplitTokens + kLanes) + kLanes + static_cast<int64_t>(rows) * head_dim;
}

struct RowWeights {
  const float* weight = nullptr;  // [n], null: this norm is absent
  const float* bias = nullptr;    // [n], or null
};
struct NormRowArgs {
  NormKind kind = NormKind::kRms;
  float eps = 0;
  const float* x = nullptr;
  float* residual = nullptr;  // in and out, or null
  RowWeights post;
  RowWeights pre;
  float* out = nullptr;      // null: pre is absent
  float* scratch = nullptr;  // [n], may be out
  int64_t n = 0;
};

struct RopeRowArgs {
  float* heads = nullptr;  // [num_heads, head_dim], in place
  int num_heads = 0;
  int head_dim = 0;
  const float* norm = nullptr;  // [head_dim], or null
  float norm_eps = 0;
  const float* cos = nullptr;  // [pairs], or null: no rotation
  const float* sin = nullptr;
  int pairs = 0;
  bool interleaved = false;
};

struct RowMax {
  float value;  // -inf where nothing is finite
  bool bad;     // a NaN or +inf
};

inline constexpr int kNumKernelDTypes = kNumDTypes;
struct KernelTable {
  const char* name;
  int gemm_groups;
  int gemm_tokens;
  int gemv_groups;  // what one pass of gemv handles: rows are best split in multiples of it
  int attention_rows;
  void (*gemv[kNumKernelDTypes])(const GemvArgs&);  // null: no such format
  void (*dequantize[kNumKernelDTypes])(const DequantizeArgs&);
  void (*gemm)(const GemmArgs&);
  // Adds splits [first, last) to the rows' states. [rows]
  void (*attend)(const AttentionArgs&, int first_split, int last_split, AttentionState* states);
  // The same bits for many rows, up to attention_tile_rows(): the keys and values of a split are
  // read once for all of them.
  void (*attend_tile)(const AttentionArgs&, int first_split, int last_split, AttentionState* states,
                      float* scratch);
  void (*merge_attention)(AttentionState& into, const AttentionState& next, int head_dim);
  // out = acc / sum, the sink (a logit, or null) taking part.
  void (*finish_attention)(const AttentionState&, const float* sink, int head_dim, float* out);
  void (*norm_row)(const NormRowArgs&);
  void (*rope_row)(const RopeRowArgs&);
  void (*activate)(Activation kind, const float* x, const float* up, int64_t n, float* out);
  void (*softcap)(float* x, int64_t n, float cap);
  void (*axpy)(float a, const float* x, int64_t n, float* y);  // y = fma(a, x, y)
  // The sampler's passes over a row.
  RowMax (*row_max)(const float* x, int64_t n);
  void (*divide)(const float* x, int64_t n, float divisor, float* out);
  uint64_t (*sampler_weights)(const float* x, int64_t n, float max, uint32_t* weights);  // the sum
  double (*exp_sum)(const float* x, int64_t n, float max);  // sum of exp(x - max)
};

const KernelTable& kernels_scalar();
const KernelTable& kernels_avx2();
const KernelTable& kernels_avx512();
const KernelTable& kernels_neon();

}  // namespace pelton::cpu
