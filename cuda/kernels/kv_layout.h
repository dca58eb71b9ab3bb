// Where a token's K and V lie in the paged cache. Plain arithmetic, for host and device alike.
//
// The cache of a KV group is [num_blocks] of blocks; a block is [num_layers] of layer parts, so
// that copying a block or moving it to the host is one run of bytes. A layer part is
//   K        [num_kv_heads, block_size, head_dim]
//   V        [num_kv_heads, block_size, head_dim]
//   K scales [num_kv_heads, block_size] f32    (kF8E4M3 and kI8 alone)
//   V scales [num_kv_heads, block_size] f32
// One head's rows in a block lie back to back: attention reads runs of block_size * row bytes.
// 8-bit rows hold round(x / scale) with scale = max|x| / 448 (e4m3) or / 127 (int8) over the row of
// one token and head; a row of zeros has scale 0 and zeros.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pelton::cuda {

enum class KvType : uint8_t { kBF16, kF16, kF8E4M3, kI8 };

constexpr bool kv_has_scales(KvType type) {
  return type == KvType::kF8E4M3 || type == KvType::kI8;
}
constexpr float kv_largest_code(KvType type) {
  return type == KvType::kF8E4M3 ? 448.0F : 127.0F;
}

// What the layers of a group have in common.
struct KvShape {
  KvType type = KvType::kBF16;
  int block_size = 0;
  int num_kv_heads = 0;
  int head_dim = 0;

  constexpr int64_t row_bytes() const {
    return static_cast<int64_t>(head_dim) * (kv_has_scales(type) ? 1 : 2);
  }
  constexpr int64_t head_bytes() const { return row_bytes() * block_size; }
  constexpr int64_t v_offset() const { return head_bytes() * num_kv_heads; }
  constexpr int64_t k_scales_offset() const { return 2 * v_offset(); }
  constexpr int64_t scales_bytes() const {  // of K, and as many of V
    return kv_has_scales(type) ? static_cast<int64_t>(num_kv_heads) * block_size * 4 : 0;
  }
  constexpr int64_t layer_bytes() const { return 2 * (v_offset() + scales_bytes()); }

  // Rows are read 16 bytes at a time: they and every layer part must start at a multiple of 16.
  constexpr bool valid() const {
    return block_size > 0 && num_kv_heads > 0 && head_dim > 0 && head_dim <= 256 &&
           row_bytes() % 16 == 0 && layer_bytes() % 16 == 0;
  }
};

// One layer's part of the cache.
struct KvView {
  KvShape shape;
  std::byte* data = nullptr;  // the layer's part of block 0, 16-byte aligned
  int64_t block_stride = 0;   // bytes from a block to the next: layer_bytes() * num_layers

  // Byte offsets from `data`.
  constexpr int64_t k_row(int64_t block, int head, int offset) const {
    return block * block_stride + head * shape.head_bytes() + offset * shape.row_bytes();
  }
  constexpr int64_t v_row(int64_t block, int head, int offset) const {
    return k_row(block, head, offset) + shape.v_offset();
  }
  constexpr int64_t k_scale(int64_t block, int head, int offset) const {
    return block * block_stride + shape.k_scales_offset() +
           (static_cast<int64_t>(head) * shape.block_size + offset) * 4;
  }
  constexpr int64_t v_scale(int64_t block, int head, int offset) const {
    return k_scale(block, head, offset) + shape.scales_bytes();
  }
};

constexpr KvView kv_layer_view(const KvShape& shape, std::byte* cache, int num_layers, int layer) {
  return {shape, cache + layer * shape.layer_bytes(), shape.layer_bytes() * num_layers};
}

}  // namespace pelton::cuda
