#include "cpu/dot_linear.h"

#include <algorithm>

namespace pelton::cpu {
namespace {

// Longest slice of k: a panel of it, unpacked or not, stays in the first-level cache beside a tile
// of tokens. A multiple of every format's block.
constexpr int64_t kSliceK = 256;
// Tokens packed at a time: they stay in the second-level cache.
constexpr int64_t kChunkTokens = 264;
constexpr int64_t kFetchBytes = 4096;  // of packed activations, at once
constexpr int64_t kPackBlocks = 64;    // of k, packed by one task
constexpr int64_t kTaskFloats = 8192;  // that a task of packing has about

int64_t slice_k(const Segment& segment) {
  const int64_t k = segment.k_blocks * segment.layout.block;
  const int64_t slices = (k + kSliceK - 1) / kSliceK;
  const int64_t unit = std::max(segment.layout.block, kDotBlock);
  return ((k + slices - 1) / slices + unit - 1) / unit * unit;
}

}  // namespace

struct DotLinear::Packed {
  const uint8_t* data;  // [tiles][blocks][tokens of the tile] packed blocks
  int64_t token_bytes;
  int64_t tokens;
  int64_t tiles;

  int64_t first_token(int64_t tile) const { return first_of_tile(tokens, tiles, tile); }
  const uint8_t* at(int64_t tile, int64_t block, int block_bytes) const {
    const int64_t first = first_token(tile);
    return data + first * token_bytes + block * (first_token(tile + 1) - first) * block_bytes;
  }
};

struct DotLinear::Product {
  Packed x;
  const float* bias;
  Tensor out;
};

DotLinear::DotLinear(const DotTable& table, ThreadPool& pool)
    : table_(table), pool_(pool), slices_(pool.threads()) {
  for (int i = 0; i < kNumDTypes; ++i) {
    if (table.formats[i].direct != nullptr) formats_ |= DTypeSet{1} << i;
  }
}

void DotLinear::add(Job& job, const Tensor& x, const PackedMatrix& w, const float* bias,
                    const Tensor& out, const RowMaker& maker) {
  // Chunks as even as can be, of whole tiles.
  const int64_t chunks = (x.rows + kChunkTokens - 1) / kChunkTokens;
  const int64_t unit = table_.tile_tokens;
  const int64_t size = (x.rows + chunks * unit - 1) / (chunks * unit) * unit;
  for (int64_t begin = 0; begin < x.rows; begin += size) {
    const int64_t count = std::min(size, x.rows - begin);
    const Packed packed = add_pack(job, x.slice_rows(begin, count), begin, w.padded_cols(), maker);
    add_product(job, {packed, bias, out.slice_rows(begin, count)}, w);
  }
}

DotLinear::Packed DotLinear::add_pack(Job& job, const Tensor& x, int64_t first_token,
                                      int64_t padded_cols, const RowMaker& maker) {
  const int64_t blocks = (padded_cols + kDotBlock - 1) / kDotBlock;
  Packed p;
  p.token_bytes = blocks * table_.block_bytes;
  p.tokens = x.rows;
  p.tiles = (x.rows + table_.tile_tokens - 1) / table_.tile_tokens;
  auto* data = reinterpret_cast<uint8_t*>(
      packed_x_.floats(x.rows * p.token_bytes / static_cast<int64_t>(sizeof(float))));
  p.data = data;
  const bool cut = maker.call == nullptr || maker.by_columns;
  const int64_t part_blocks = cut ? kPackBlocks : blocks;
  const int64_t parts = (blocks + part_blocks - 1) / part_blocks;
  const int64_t tile_tokens = std::min<int64_t>(x.rows, table_.tile_tokens);
  const int64_t task_floats = tile_tokens * std::min(blocks, part_blocks) * kDotBlock;
  const int64_t grain = std::max<int64_t>(1, kTaskFloats / task_floats);
  job.add(p.tiles * parts, grain, [=, this](int64_t begin, int64_t end, int worker) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t tile = item / parts, first_block = item % parts * part_blocks;
      const int64_t token = p.first_token(tile);
      const int64_t first = first_block * kDotBlock;
      PackArgs args;
      args.x = x.row<const float>(token) + first;
      args.x_stride = x.row_stride;
      args.cols = std::min((first_block + part_blocks) * kDotBlock, x.cols) - first;
      args.blocks = std::min(part_blocks, blocks - first_block);
      args.tokens = static_cast<int>(p.first_token(tile + 1) - token);
      args.out = data + (p.at(tile, first_block, table_.block_bytes) - p.data);
      for (int t = 0; t < args.tokens; ++t) {
        maker.make(first_token + token + t, first, first + args.cols, worker);
      }
      table_.pack(args);
    }
  });
  return p;
}

void DotLinear::add_product(Job& job, const Product& product, const PackedMatrix& w) {
  const int64_t tiles = product.x.tiles;
  const int64_t units = units_of(w, formats_, kUnitGroups);
  // Where there are few rows to deal out, tokens are as well.
  const int64_t parts = std::clamp<int64_t>(2 * pool_.threads() / units, 1, (tiles + 7) / 8);
  const auto work = [=, this, &w](int64_t begin, int64_t end, int worker) {
    fetch(product.x.data, std::min(product.x.tokens * product.x.token_bytes, kFetchBytes));
    for_parts(units, begin, end, [&](int64_t part, int64_t first, int64_t last) {
      for_panels(w, formats_, first, last,
                 [&](const Segment& segment, int64_t group, int64_t group_end) {
                   run_groups(product, segment, group, group_end, tiles * part / parts,
                              tiles * (part + 1) / parts, worker);
                 });
    });
  };
  job.add(units * parts, pool_.even_grain(units * parts), work);
}

void DotLinear::run_groups(const Product& product, const Segment& segment, int64_t group,
                           int64_t group_end, int64_t tile_begin, int64_t tile_end, int worker) {
  const Packed& x = product.x;
  const DotFormat& format = table_.formats[static_cast<int>(segment.dtype)];
  const int64_t k_total = segment.k_blocks * segment.layout.block;
  const int64_t step = slice_k(segment);
  const int unpacked_bytes = format.unpacked_bytes;
  const int64_t tile_stride = segment.tile_stride(group);
  const int groups = static_cast<int>(group_end - group);
  const int64_t calls = (tile_end - tile_begin) * ((groups + kDotGroups - 1) / kDotGroups);
  const bool unpacks = format.unpack != nullptr && tile_end - tile_begin >= table_.unpack_tiles;
  auto* unpacked = reinterpret_cast<uint8_t*>(
      slices_[worker].floats(unpacks ? kPanelGroups * unpacked_bytes * (step / kDotBlock) / 4 : 0));
  for (int64_t k = 0; k < k_total; k += step) {
    const int64_t slice = std::min(step, k_total - k);
    const int64_t slice_bytes = slice / segment.layout.block * tile_stride;
    const uint8_t* weights = segment.group_tiles(group) + k / segment.layout.block * tile_stride;
    DotArgs args;
    args.k = slice;
    args.first = k == 0;
    args.out_stride = product.out.row_stride;
    args.weight_stride = unpacks ? groups * unpacked_bytes : tile_stride;
    if (unpacks) {
      for (int g = 0; g < groups; ++g) {
        format.unpack({weights + g * segment.layout.bytes, tile_stride, slice,
                       unpacked + g * unpacked_bytes, args.weight_stride});
      }
    }
    // The next slice follows in memory, as does the next panel: each call fetches a share of it.
    const int64_t blocks = (slice + kDotBlock - 1) / kDotBlock;
    args.prefetch_lines =
        static_cast<int>((slice_bytes / 64 + calls * blocks - 1) / (calls * blocks));
    args.prefetch = weights + slice_bytes;
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      const int64_t token = x.first_token(tile);
      args.x = x.at(tile, k / kDotBlock, table_.block_bytes);
      args.tokens = static_cast<int>(x.first_token(tile + 1) - token);
      for (int g = 0; g < groups; g += kDotGroups) {
        const int64_t row = (group + g) * kLanes;
        args.weights = unpacks ? unpacked + g * unpacked_bytes : weights + g * segment.layout.bytes;
        args.rows = static_cast<int>(
            std::min<int64_t>(std::min(groups - g, kDotGroups) * kLanes, segment.rows - row));
        args.out = product.out.row<float>(token) + segment.row_begin + row;
        const bool biased = product.bias != nullptr && k + slice == k_total;
        args.bias = biased ? product.bias + segment.row_begin + row : nullptr;
        (unpacks ? format.product : format.direct)(args);
        args.prefetch += 64 * args.prefetch_lines * blocks;
      }
    }
  }
}

}  // namespace pelton::cpu
