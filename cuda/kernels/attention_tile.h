// Shapes and shared memory of one block of the attention kernels, and what they are given. Device
// code of attention_*.cu alone.
#pragma once

#include "cuda/kernels/attention.h"
#include "cuda/kernels/device.h"
#include "cuda/kernels/element.h"
#include "cuda/kernels/primitives.h"

namespace pelton::cuda {

// token offset / block_size is (x * ceil(2^21 / block_size)) >> 21 for x < 64 + block_size.
inline constexpr int kInverseShift = 21;
inline constexpr int kMaxBlockSize = 1024;
inline constexpr int kNoWindow = 1 << 30;

// PagedAttentionParams with everything that can be computed once.
struct AttentionArgs {
  const AttentionItem* items = nullptr;
  const void* q = nullptr;
  void* out = nullptr;
  int64_t q_stride = 0;
  int64_t out_stride = 0;
  int num_kv_heads = 0;
  int group = 0;
  int head_dim = 0;
  int window = 0;        // kNoWindow: none
  float cap = 0;         // 0: off
  float cap_factor = 0;  // scale / cap * 2 log2(e)
  float factor = 0;      // of a score before exp2
  const float* sinks = nullptr;

  // K and V: paged (KvView), or rows of a matrix (block_stride: bytes between rows).
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  const std::byte* k_scales = nullptr;
  const std::byte* v_scales = nullptr;
  int64_t block_stride = 0;
  int64_t head_bytes = 0;
  int row_bytes = 0;
  int block_size = 0;
  unsigned block_size_inverse = 0;
  const int32_t* block_tables = nullptr;

  // [max_partial_rows, num_kv_heads, the variant's kDim], not normalised
  float* partial_out = nullptr;
  int partial_dim = 0;              // kDim
  float2* partial_state = nullptr;  // [max_partial_rows, num_kv_heads]: maximum, sum
};

// kDim of the variant that serves head_dim.
constexpr int compiled_head_dim(int head_dim) {
  return head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 256;
}

// kPaged: through block tables; kRows: K and V are columns of the step's qkv, not causal.
enum class KvSource : uint8_t { kPaged, kRows };

// A block of row_groups x columns warps: a warp owns 16 rows of q, and of these a share of the keys
// when scores are made and a share of head_dim when values are summed. kHalves: K or V tiles of 64
// tokens in shared memory.
template <class ElementType_, class Code_, int kDim_, int kRowGroups_, int kColumns_, int kHalves_,
          int kBlocksPerSm_, KvSource kSource_ = KvSource::kPaged>
struct AttentionTile {
  using Element = ElementType_;  // of q and out
  using Code = Code_;            // of K and V
  static constexpr bool k8Bit = sizeof(Code) == 1;
  using Matrix = std::conditional_t<k8Bit, __nv_bfloat16, Element>;  // of the matrix instructions
  static constexpr KvSource kSource = kSource_;
  static constexpr int kDim = kDim_;
  static constexpr int kRowGroups = kRowGroups_;
  static constexpr int kColumns = kColumns_;
  static constexpr int kHalves = kHalves_;
  static constexpr int kBlocksPerSm = kBlocksPerSm_;
  static constexpr int kThreads = kRowGroups * kColumns * 32;
  static constexpr int kRows = kRowGroups * 16;

  static constexpr int kScoreTiles = kKvTileTokens / 8 / kColumns;  // n tiles of scores a warp
  static constexpr int kChains = kKvTileTokens / 16 / kColumns;     // sums of 16 keys a warp
  static constexpr int kOutTiles = kDim / 8 / kColumns;             // n tiles of outputs a warp
  static constexpr int kOutDim = kDim / kColumns;

  static constexpr int kKvRowBytes = kDim * static_cast<int>(sizeof(Code));
  static constexpr int kScaleBytes = k8Bit ? 2 * kKvTileTokens * 4 : 0;  // K's and V's, with K
  static constexpr int kHalfBytes = kKvTileTokens * kKvRowBytes + kScaleBytes;
  static constexpr int kQueryRowBytes = kDim * 2;
  static constexpr int kQueryBytes = kRows * kQueryRowBytes;
  static constexpr int kWeightRowBytes = kKvTileTokens * 2;
  static constexpr int kWeightBytes = kColumns > 1 ? kRows* kWeightRowBytes : 0;
  static constexpr int kMaximaBytes = kColumns > 1 ? kColumns* kRows * 4 : 0;
  static constexpr int kSumsBytes = kColumns > 1 ? 4 * kRows * 4 : 0;
  static constexpr int kSharedBytes =
      kHalves * kHalfBytes + kQueryBytes + kWeightBytes + kMaximaBytes + kSumsBytes;
};

// Shared memory of a block, by offsets from its start (all multiples of 128 but for the last two).
// Rows of 16-byte chunks are swizzled so that eight consecutive rows of one chunk lie in different
// banks.
template <class Tile>
struct AttentionShared {
  static constexpr int kQuery = Tile::kHalves * Tile::kHalfBytes;  // at the end the outputs
  static constexpr int kWeights = kQuery + Tile::kQueryBytes;      // kColumns > 1
  static constexpr int kMaxima = kWeights + Tile::kWeightBytes;    // [kColumns][kRows]
  static constexpr int kSums = kMaxima + Tile::kMaximaBytes;       // [4][kRows]
  static_assert(Tile::kHalfBytes % 128 == 0 && kWeights % 128 == 0);

  unsigned char* memory;

  __device__ __forceinline__ static int half(int index) {
    return (index % Tile::kHalves) * Tile::kHalfBytes;
  }
  __device__ __forceinline__ float* maxima() const {
    return reinterpret_cast<float*>(memory + kMaxima);
  }
  __device__ __forceinline__ float* sums() const {
    return reinterpret_cast<float*>(memory + kSums);
  }
};

template <int kRowBytes>
__device__ __forceinline__ int swizzled(int row, int chunk) {
  static_assert(kRowBytes == 64 || kRowBytes % 128 == 0);
  const int mask = kRowBytes == 64 ? (row >> 1) & 3 : row & 7;
  return row * kRowBytes + ((chunk ^ mask) << 4);
}

// `offset` (a swizzled row's chunk c, from a multiple of 128) moved on to chunk c + chunks, where
// the two have no bit in common. One exclusive or, and a constant beyond eight chunks.
__device__ __forceinline__ int chunks_on(int offset, int chunks) {
  return (offset ^ ((chunks & 7) << 4)) + ((chunks & ~7) << 4);
}

// Who this thread is within its block.
template <class Tile>
struct AttentionLane {
  int lane;       // of the warp
  int row_group;  // 16 rows
  int column;     // which share of keys and of head_dim

  __device__ __forceinline__ AttentionLane()
      : lane(static_cast<int>(threadIdx.x) % 32),
        row_group(static_cast<int>(threadIdx.x) / 32 / Tile::kColumns),
        column(static_cast<int>(threadIdx.x) / 32 % Tile::kColumns) {}

  __device__ __forceinline__ int quad() const { return lane % 4; }
  // Of the block's rows; a thread holds this one and the one 8 below.
  __device__ __forceinline__ int row() const { return row_group * 16 + lane / 4; }
};

// Meets the warps that share rows.
template <class Tile>
__device__ __forceinline__ void row_group_barrier(int row_group) {
  if constexpr (Tile::kColumns == 1) {
    __syncwarp();
  } else if constexpr (Tile::kRowGroups == 1) {
    __syncthreads();
  } else {
    named_barrier_sync(1 + row_group, Tile::kColumns * 32);
  }
}

__device__ __forceinline__ AttentionItem load_item(const AttentionItem* source) {
  AttentionItem item;
  const uint4 low = load16(source);
  const uint4 high = load16(reinterpret_cast<const unsigned char*>(source) + 16);
  item.token = static_cast<int>(low.x);
  item.table = static_cast<int>(low.y);
  item.position = static_cast<int>(low.z);
  item.first_row = static_cast<int>(low.w);
  item.rows = static_cast<int16_t>(high.x & 0xffff);
  item.split_tiles = static_cast<int16_t>(high.x >> 16);
  item.first_split = static_cast<int>(high.y);
  item.end_split = static_cast<int>(high.z);
  item.partial = static_cast<int>(high.w);
  return item;
}

}  // namespace pelton::cuda
