// Brings tiles of K and V to shared memory, one half (K or V of 64 tokens) after the other, ahead
// of their use. Device code of attention_*.cu alone.
#pragma once

#include "cuda/kernels/attention_tile.h"

namespace pelton::cuda {

// The positions that a block reads: [begin, end), from `first_tile` on.
struct KvRange {
  int begin = 0;
  int end = 0;
  int first_tile = 0;
  int end_tile = 0;
};

template <class Tile>
class KvLoader {
 public:
  __device__ __forceinline__ KvLoader(const AttentionArgs& args, const AttentionItem& item,
                                      const KvRange& range, int kv_head, int lane)
      : range_(range), tile_(range.first_tile), head_(kv_head), lane_(lane) {
    find_rows(args, item);
  }

  // Starts the copy of the next half and commits it; past the end it commits an empty group.
  __device__ __forceinline__ void start_next(const AttentionArgs& args, const AttentionItem& item,
                                             const AttentionShared<Tile>& shared) {
    if (tile_ < range_.end_tile) {
      unsigned char* target = shared.memory + slot_ * Tile::kHalfBytes;
      copy_half(args, target);
      if constexpr (Tile::k8Bit) {
        if (!is_v_) copy_scales(args, target + kKvTileTokens * Tile::kKvRowBytes);
      }
      if (is_v_) {
        ++tile_;
        find_rows(args, item);
      }
      is_v_ = !is_v_;
      slot_ = (slot_ + 1) % Tile::kHalves;
    }
    cp_async_commit();
  }

 private:
  static constexpr int kChunks = Tile::kKvRowBytes / 16;
  static constexpr int kCopies = kKvTileTokens * kChunks / Tile::kThreads;

  __device__ __forceinline__ bool in_range(int row) const {
    const int position = tile_ * kKvTileTokens + row;
    return position >= range_.begin && position < range_.end;
  }

  // Looks up rows `lane` and `lane + 32` of the tile; others get them by shuffles. Done a half
  // ahead.
  __device__ __forceinline__ void find_rows(const AttentionArgs& args, const AttentionItem& item) {
    const int first = tile_ * kKvTileTokens;
    if constexpr (Tile::kSource == KvSource::kRows) {
      block_[0] = item.token + first + lane_;
      block_[1] = block_[0] + 32;
      offset_[0] = offset_[1] = 0;
    } else {
      const int first_block = first / args.block_size;
      const int shift = first - first_block * args.block_size;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const unsigned x = static_cast<unsigned>(shift + lane_ + 32 * i);
        const int block = static_cast<int>((x * args.block_size_inverse) >> kInverseShift);
        offset_[i] = static_cast<int>(x) - block * args.block_size;
        block_[i] = in_range(lane_ + 32 * i)
                        ? __ldg(args.block_tables + item.table + first_block + block)
                        : 0;
      }
    }
  }

  __device__ __forceinline__ void copy_half(const AttentionArgs& args, unsigned char* target) {
    const std::byte* head = (is_v_ ? args.v : args.k) + head_ * args.head_bytes;
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    const int first_row = static_cast<int>(threadIdx.x) / kChunks;
    const bool chunk_valid = chunk * 16 < args.row_bytes;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int row = first_row + i * (Tile::kThreads / kChunks);
      const int block = __shfl_sync(kFullMask, row < 32 ? block_[0] : block_[1], row % 32);
      const int offset = __shfl_sync(kFullMask, row < 32 ? offset_[0] : offset_[1], row % 32);
      const bool valid = chunk_valid && in_range(row);
      const int64_t source = block * args.block_stride + offset * args.row_bytes + chunk * 16;
      cp_async_16(target + swizzled<Tile::kKvRowBytes>(row, chunk), head + (valid ? source : 0),
                  valid);
    }
  }

  // K's scales, then V's.
  __device__ __forceinline__ void copy_scales(const AttentionArgs& args, unsigned char* target) {
    const int64_t head = int64_t{head_} * args.block_size * 4;
    for (int i = static_cast<int>(threadIdx.x); i < 2 * kKvTileTokens; i += Tile::kThreads) {
      const int row = i % kKvTileTokens;  // this lane's own, or 32 on
      const bool valid = in_range(row);
      const int64_t source = (row < 32 ? block_[0] : block_[1]) * args.block_stride +
                             (row < 32 ? offset_[0] : offset_[1]) * 4;
      const std::byte* scales = (i < kKvTileTokens ? args.k_scales : args.v_scales) + head;
      cp_async_4(target + i * 4, scales + (valid ? source : 0), valid);
    }
  }

  KvRange range_;
  int tile_;
  int head_;
  int lane_;
  int slot_ = 0;
  bool is_v_ = false;
  int block_[2];
  int offset_[2];
};

}  // namespace pelton::cuda
