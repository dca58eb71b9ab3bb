#include "cpu/dot_linear.h"

#include <algorithm>

namespace pelton::cpu {
namespace {

// Longest slice of k: unpacked or not, 32 rows of it and a tile of tokens stay in the first-level
// cache. A multiple of every format's block.
constexpr int64_t kSliceK = 512;
// Tokens packed at a time: they stay in the second-level cache.
constexpr int64_t kChunkTokens = 240;
constexpr int kDirectUnitGroups = 2;  // half a panel
constexpr int64_t kPackBlocks = 64;   // of k, packed by one task

int64_t slice_k(const Segment& segment) {
  const int64_t k = segment.k_blocks * segment.layout.block;
  const int64_t slices = (k + kSliceK - 1) / kSliceK;
  const int64_t unit = std::max(segment.layout.block, kDotBlock);
  return ((k + slices - 1) / slices + unit - 1) / unit * unit;
}

// A share of the lines of [begin, end).
void prefetch_share(const uint8_t* begin, int64_t bytes, int64_t share, int64_t shares) {
  const int64_t lines = (bytes + 63) / 64;
  for (int64_t line = lines * share / shares; line < lines * (share + 1) / shares; ++line) {
    __builtin_prefetch(begin + 64 * line, 0, 3);
  }
}

}  // namespace

struct DotLinear::Packed {
  const uint8_t* data;  // [tiles][blocks][width] blocks
  int width;
  int64_t blocks;
  int64_t tile_bytes;
  int64_t tokens;
  int64_t tiles;
};

DotLinear::DotLinear(const DotTable& table, ThreadPool& pool)
    : table_(table), pool_(pool), slices_(pool.threads()) {
  for (int i = 0; i < kNumDTypes; ++i) {
    if (table.formats[i].direct != nullptr) formats_ |= DTypeSet{1} << i;
  }
}

void DotLinear::run(const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& out) {
  if (units_of(w, formats_, 1) == 0) return;
  if (x.rows <= table_.direct_tokens) return run_direct(x, w, bias, out);
  for (int64_t begin = 0; begin < x.rows; begin += kChunkTokens) {
    const int64_t count = std::min(kChunkTokens, x.rows - begin);
    run_product(x.slice_rows(begin, count), w, bias, out.slice_rows(begin, count));
  }
}

DotLinear::Packed DotLinear::pack(const Tensor& x, int64_t padded_cols, int width) {
  Packed p;
  p.width = width;
  p.blocks = (padded_cols + kDotBlock - 1) / kDotBlock;
  p.tile_bytes = p.blocks * width * table_.block_bytes;
  p.tokens = x.rows;
  p.tiles = (x.rows + width - 1) / width;
  auto* data = reinterpret_cast<uint8_t*>(
      packed_x_.floats(p.tiles * p.tile_bytes / static_cast<int64_t>(sizeof(float))));
  p.data = data;
  const int64_t parts = (p.blocks + kPackBlocks - 1) / kPackBlocks;
  const int64_t task_floats = width * std::min(p.blocks, kPackBlocks) * kDotBlock;
  const int64_t grain = std::max<int64_t>(1, 8192 / task_floats);
  pool_.run(p.tiles * parts, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t tile = item / parts, first_block = item % parts * kPackBlocks;
      const int64_t token = tile * width;
      PackArgs args;
      args.x = x.row<const float>(token) + first_block * kDotBlock;
      args.x_stride = x.row_stride;
      args.cols =
          std::min((first_block + kPackBlocks) * kDotBlock, x.cols) - first_block * kDotBlock;
      args.blocks = std::min(kPackBlocks, p.blocks - first_block);
      args.tokens = static_cast<int>(std::min<int64_t>(width, x.rows - token));
      args.width = width;
      args.out = data + tile * p.tile_bytes + first_block * width * table_.block_bytes;
      table_.pack(args);
    }
  });
  return p;
}

void DotLinear::run_direct(const Tensor& x, const PackedMatrix& w, const float* bias,
                           const Tensor& out) {
  const int width = x.rows == 3 ? 4 : static_cast<int>(x.rows);
  const Packed packed = pack(x, w.padded_cols(), width);
  pool_.run_even(units_of(w, formats_, kDirectUnitGroups), [&](int64_t begin, int64_t end, int) {
    for_segments(
        w, formats_, kDirectUnitGroups, begin, end,
        [&](const Segment& segment, int64_t from, int64_t to) {
          const int64_t last = std::min(to * kDirectUnitGroups, segment.groups());
          for_panels(from * kDirectUnitGroups, last, [&](int64_t group, int64_t group_end) {
            const int64_t row = group * kLanes;
            DotArgs args;
            args.weights = segment.group_tiles(group);
            args.weight_stride = segment.tile_stride(group);
            args.k = segment.k_blocks * segment.layout.block;
            args.rows = static_cast<int>(std::min(group_end * kLanes, segment.rows) - row);
            args.x = packed.data;
            args.width = width;
            args.tokens = static_cast<int>(x.rows);
            args.bias = bias != nullptr ? bias + segment.row_begin + row : nullptr;
            args.out = out.row<float>(0) + segment.row_begin + row;
            args.out_stride = out.row_stride;
            table_.formats[static_cast<int>(segment.dtype)].direct(args);
          });
        });
  });
}

void DotLinear::run_product(const Tensor& x, const PackedMatrix& w, const float* bias,
                            const Tensor& out) {
  const Packed packed = pack(x, w.padded_cols(), table_.product_tokens);
  const int per_unit = table_.product_groups;
  // Every unit of rows meets every tile of tokens; few units are split by tokens as well.
  const int64_t units = units_of(w, formats_, per_unit);
  const int64_t parts = std::clamp<int64_t>(4 * pool_.threads() / units, 1, (packed.tiles + 7) / 8);
  pool_.run(units * parts, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t unit = item / parts, part = item % parts;
      for_segments(w, formats_, per_unit, unit, unit + 1,
                   [&](const Segment& segment, int64_t from, int64_t) {
                     const int64_t group = from * per_unit;
                     const int groups =
                         static_cast<int>(std::min<int64_t>(per_unit, segment.groups() - group));
                     product_unit({&segment, group, groups}, packed, packed.tiles * part / parts,
                                  packed.tiles * (part + 1) / parts, bias, out, worker);
                   });
    }
  });
}

void DotLinear::product_unit(const Unit& unit, const Packed& x, int64_t tile_begin,
                             int64_t tile_end, const float* bias, const Tensor& out, int worker) {
  const Segment& segment = *unit.segment;
  const DotFormat& format = table_.formats[static_cast<int>(segment.dtype)];
  const int64_t k_total = segment.k_blocks * segment.layout.block;
  const int64_t step = slice_k(segment);
  const int64_t row = unit.group * kLanes;
  const int64_t tile_stride = segment.tile_stride(unit.group);
  const uint8_t* tiles = segment.group_tiles(unit.group);
  const int64_t unpacked_stride = static_cast<int64_t>(unit.groups) * kUnpackedBytes;
  auto* unpacked = reinterpret_cast<uint8_t*>(slices_[worker].floats(
      format.unpack == nullptr ? 0 : table_.product_groups * kUnpackedBytes * kSliceK / kDotBlock));
  for (int64_t k = 0; k < k_total; k += step) {
    DotArgs args;
    args.k = std::min(step, k_total - k);
    args.weights = tiles + k / segment.layout.block * tile_stride;
    args.weight_stride = tile_stride;
    const uint8_t* next = args.weights + args.k / segment.layout.block * tile_stride;
    const int64_t slice_bytes = args.k / segment.layout.block * tile_stride;
    if (format.unpack != nullptr) {
      for (int g = 0; g < unit.groups; ++g) {
        format.unpack({args.weights + g * segment.layout.bytes, tile_stride, args.k,
                       unpacked + g * kUnpackedBytes, unpacked_stride});
      }
      args.weights = unpacked;
      args.weight_stride = unpacked_stride;
    }
    args.rows = static_cast<int>(std::min<int64_t>(unit.groups * kLanes, segment.rows - row));
    args.width = x.width;
    args.first = k == 0;
    const bool last = k + args.k == k_total;
    args.bias = bias != nullptr && last ? bias + segment.row_begin + row : nullptr;
    args.out_stride = out.row_stride;
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      prefetch_share(next, slice_bytes, tile - tile_begin, tile_end - tile_begin);
      const int64_t token = tile * x.width;
      args.x = x.data + tile * x.tile_bytes + k / kDotBlock * x.width * table_.block_bytes;
      args.tokens = static_cast<int>(std::min<int64_t>(x.width, x.tokens - token));
      args.out = out.row<float>(token) + segment.row_begin + row;
      format.product(args);
    }
  }
}

}  // namespace pelton::cpu
