#include "cpu/linear.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace pelton::cpu {
namespace {

// Of the next product's weights, fetched by a worker that waits: what its second-level cache holds
// beside what the work until then reads.
constexpr int64_t kAheadBytes = int64_t{128} << 10;

// k of a panel's weights in float32 at most: 64 rows of it are 32 KiB, which stay in the
// first-level cache while every tile of tokens meets them. A multiple of the formats' blocks, or
// raised to theirs.
constexpr int64_t kPanelK = 128;
// Tokens packed at a time: enough to make dequantisation cheap, few enough to stay in cache.
constexpr int64_t kChunkTokens = 240;

using Four = float __attribute__((vector_size(16)));

// to[k * width + t] = x[t][k]
void interleave(const Tensor& x, int64_t width, float* to) {
  int64_t t = 0;
  for (; t + 4 <= x.rows; t += 4) {
    const float* rows[4];
    for (int i = 0; i < 4; ++i) rows[i] = x.row<const float>(t + i);
    int64_t k = 0;
    for (; k + 4 <= x.cols; k += 4) {  // four by four, transposed
      Four a[4];
      for (int i = 0; i < 4; ++i) std::memcpy(&a[i], rows[i] + k, sizeof(Four));
      const Four low01 = __builtin_shufflevector(a[0], a[1], 0, 4, 1, 5);
      const Four low23 = __builtin_shufflevector(a[2], a[3], 0, 4, 1, 5);
      const Four high01 = __builtin_shufflevector(a[0], a[1], 2, 6, 3, 7);
      const Four high23 = __builtin_shufflevector(a[2], a[3], 2, 6, 3, 7);
      const auto put = [&](int64_t at, Four v) {
        std::memcpy(to + (k + at) * width + t, &v, sizeof(Four));
      };
      put(0, __builtin_shufflevector(low01, low23, 0, 1, 4, 5));
      put(1, __builtin_shufflevector(low01, low23, 2, 3, 6, 7));
      put(2, __builtin_shufflevector(high01, high23, 0, 1, 4, 5));
      put(3, __builtin_shufflevector(high01, high23, 2, 3, 6, 7));
    }
    for (; k < x.cols; ++k) {
      for (int i = 0; i < 4; ++i) to[k * width + t + i] = rows[i][k];
    }
  }
  for (; t < x.rows; ++t) {
    const float* row = x.row<const float>(t);
    for (int64_t k = 0; k < x.cols; ++k) to[k * width + t] = row[k];
  }
}

}  // namespace

Linear::Linear(const KernelTable& kernels, std::span<const DotTable* const> dots, ThreadPool& pool)
    : kernels_(kernels), pool_(pool), plain_(~DTypeSet{0}), panels_(pool.threads()) {
  for (const DotTable* table : dots) {
    dots_.push_back(std::make_unique<DotLinear>(*table, pool));
    plain_ &= ~dots_.back()->formats();
  }
}

void Linear::run(const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& out) {
  job_.clear();
  add(job_, x, w, bias, out);
  pool_.run(job_);
}

void Linear::add(Job& job, const Tensor& x, const PackedMatrix& w, const float* bias,
                 const Tensor& out, RowMaker maker) {
  PELTON_CHECK(x.cols == w.cols() && out.cols == w.rows() && out.rows == x.rows, "linear: shapes");
  PELTON_CHECK(x.dtype == DType::kF32 && out.dtype == DType::kF32, "linear: dtypes");
  for (const auto& dot : dots_) {
    if (!dot->has_rows_of(w)) continue;
    dot->add(job, x, w, bias, out, maker);
    maker = {};  // made by the first
  }
  if (units_of(w, plain_, 1) == 0) return;
  if (x.rows > kMaxGemvTokens) return add_gemm(job, x, w, bias, out, maker);
  add_gemv(job, x, w, bias, out, maker);
}

void Linear::add_ahead(Job& job, const PackedMatrix* w) const {
  if (w == nullptr) return;
  DTypeSet formats = plain_;  // those that come first in a job
  for (const auto& dot : dots_) {
    if (!dot->has_rows_of(*w)) continue;
    formats = dot->formats();
    break;
  }
  const int64_t units = units_of(*w, formats, kUnitGroups);
  for (int worker = 0; worker < pool_.threads(); ++worker) {
    const int64_t begin = pool_.share_begin(units, pool_.even_grain(units), worker);
    Ahead ahead;
    for_segments(*w, formats, kUnitGroups, begin, begin + 1,
                 [&](const Segment& segment, int64_t unit, int64_t) {
                   ahead.begin = segment.group_tiles(unit * kUnitGroups);
                   const int64_t bytes = segment.tiles_end() - ahead.begin;
                   ahead.lines = static_cast<int>(std::min(bytes, kAheadBytes) / 64);
                 });
    job.add_ahead(ahead);
  }
}

void Linear::add_gemv(Job& job, const Tensor& x, const PackedMatrix& w, const float* bias,
                      const Tensor& out, const RowMaker& maker) {
  Tensor padded = x;
  const bool pads = w.padded_cols() != w.cols();
  if (pads) {
    padded.cols = padded.row_stride = w.padded_cols();
    padded.data = padded_x_.floats(x.rows * padded.cols);
  }
  if (pads || maker.call != nullptr) {
    job.add(x.rows, 2, [=](int64_t begin, int64_t end, int worker) {
      for (int64_t m = begin; m < end; ++m) {
        maker.make(m, 0, x.cols, worker);
        if (!pads) continue;
        float* row = padded.row<float>(m);
        std::copy_n(x.row<float>(m), x.cols, row);
        std::fill(row + x.cols, row + padded.cols, 0.0F);
      }
    });
  }
  const int64_t units = units_of(w, plain_, kUnitGroups);
  job.add(units, pool_.even_grain(units), [=, this, &w](int64_t begin, int64_t end, int) {
    gemv_units(padded, w, bias, out, begin, end);
  });
}

void Linear::gemv_units(const Tensor& x, const PackedMatrix& w, const float* bias,
                        const Tensor& out, int64_t begin, int64_t end) const {
  const auto work = [&](const Segment& segment, int64_t group, int64_t group_end) {
    const int64_t row = group * kLanes;
    GemvArgs args;
    args.tiles = segment.group_tiles(group);
    args.tile_stride = segment.tile_stride(group);
    args.k = segment.k_blocks * segment.layout.block;
    args.rows = static_cast<int>(std::min(group_end * kLanes, segment.rows) - row);
    args.x = x.row<float>(0);
    args.x_stride = x.row_stride;
    args.tokens = static_cast<int>(x.rows);
    args.bias = bias != nullptr ? bias + segment.row_begin + row : nullptr;
    args.out = out.row<float>(0) + segment.row_begin + row;
    args.out_stride = out.row_stride;
    kernels_.gemv[static_cast<int>(segment.dtype)](args);
  };
  for_panels(w, plain_, begin, end, work);
}

void Linear::add_gemm(Job& job, const Tensor& x, const PackedMatrix& w, const float* bias,
                      const Tensor& out, const RowMaker& maker) {
  const int64_t width = kernels_.gemm_tokens;
  const int64_t k = w.padded_cols();
  float* packed = packed_x_.floats(std::min(kChunkTokens, x.rows) * k);
  for (int64_t first_token = 0; first_token < x.rows; first_token += kChunkTokens) {
    const int64_t count = std::min(kChunkTokens, x.rows - first_token);
    const int64_t tiles = (count + width - 1) / width;
    const Tensor part_x = x.slice_rows(first_token, count);
    job.add(tiles, std::max<int64_t>(1, 16384 / (k * width)),
            [=](int64_t begin, int64_t end, int worker) {
              for (int64_t tile = begin; tile < end; ++tile) {
                const int64_t first = first_of_tile(count, tiles, tile);
                const int64_t tokens = first_of_tile(count, tiles, tile + 1) - first;
                for (int64_t t = first; t < first + tokens; ++t) {
                  maker.make(first_token + t, 0, part_x.cols, worker);
                }
                float* to = packed + first * k;
                if (part_x.cols < k) std::fill(to, to + k * tokens, 0.0F);
                interleave(part_x.slice_rows(first, tokens), tokens, to);
              }
            });
    // Every unit of rows meets every token tile; few units are split by tokens as well.
    const int64_t units = units_of(w, plain_, kUnitGroups);
    const int64_t parts = std::clamp<int64_t>(2 * pool_.threads() / units, 1, (tiles + 7) / 8);
    const Product product = {packed, bias, out.slice_rows(first_token, count), tiles};
    job.add(units * parts, pool_.even_grain(units * parts),
            [=, this, &w](int64_t begin, int64_t end, int worker) {
              for_parts(units, begin, end, [&](int64_t part, int64_t first, int64_t last) {
                gemm_units(product, w, {first, last},
                           {tiles * part / parts, tiles * (part + 1) / parts}, worker);
              });
            });
  }
}

void Linear::gemm_units(const Product& product, const PackedMatrix& w, Range units, Range tiles,
                        int worker) {
  for_panels(w, plain_, units.begin, units.end,
             [&](const Segment& segment, int64_t group, int64_t group_end) {
               gemm_groups(product, w, {&segment, group, group_end}, tiles, worker);
             });
}

void Linear::gemm_groups(const Product& product, const PackedMatrix& w, const Groups& groups,
                         Range tiles, int worker) {
  const Segment& segment = *groups.segment;
  const TileLayout& layout = segment.layout;
  const int64_t per_call = kernels_.gemm_groups, width = per_call * kLanes;
  const int64_t calls = (groups.end - groups.begin + per_call - 1) / per_call;
  const int64_t step = std::max<int64_t>(kPanelK, layout.block);
  const int64_t k_total = segment.k_blocks * layout.block;
  const int64_t tile_stride = segment.tile_stride(groups.begin);
  float* panel = panels_[worker].floats(calls * step * width);  // [calls][step][width]
  for (int64_t k = 0; k < k_total; k += step) {
    const int64_t slice = std::min(step, k_total - k);
    const int64_t slice_bytes = slice / layout.block * tile_stride;
    const uint8_t* weights = segment.group_tiles(groups.begin) + k / layout.block * tile_stride;
    for (int64_t g = 0; g < groups.end - groups.begin; ++g) {
      kernels_.dequantize[static_cast<int>(segment.dtype)](
          {weights + g * layout.bytes, tile_stride, slice,
           panel + g / per_call * step * width + g % per_call * kLanes, width});
    }
    GemmArgs args;
    args.k = slice;
    args.first = k == 0;
    args.out_stride = product.out.row_stride;
    // The next slice follows in memory, as does the next panel: each call fetches a share of it.
    const int64_t octets = calls * (tiles.end - tiles.begin) * (slice / 8);
    args.prefetch_lines = static_cast<int>((slice_bytes / 64 + octets - 1) / octets);
    args.prefetch = weights + slice_bytes;
    for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
      const int64_t token = first_of_tile(product.out.rows, product.tiles, tile);
      const int64_t tokens = first_of_tile(product.out.rows, product.tiles, tile + 1) - token;
      args.x = product.x + token * w.padded_cols() + k * tokens;
      args.tokens = static_cast<int>(tokens);
      for (int64_t call = 0; call < calls; ++call) {
        const int64_t row = groups.begin * kLanes + call * width;
        const int64_t out_row = segment.row_begin + row;
        const bool biased = product.bias != nullptr && k + slice == k_total;
        args.panel = panel + call * step * width;
        args.rows =
            static_cast<int>(std::min({width, groups.end * kLanes - row, segment.rows - row}));
        args.bias = biased ? product.bias + out_row : nullptr;
        args.out = product.out.row<float>(token) + out_row;
        kernels_.gemm(args);
        args.prefetch += slice / 8 * 64 * args.prefetch_lines;
      }
    }
  }
}

void Linear::read_row(const PackedMatrix& w, int64_t row, int worker, float* out) {
  const Segment& segment = w.segment_of(row);
  const int64_t local = row - segment.row_begin;
  const int64_t k_total = segment.k_blocks * segment.layout.block;
  float* panel = panels_[worker].floats(k_total * kLanes);
  DequantizeArgs args;
  args.tile_stride = segment.tile_stride(local / kLanes);
  args.tiles = segment.group_tiles(local / kLanes);
  args.k_count = k_total;
  args.panel = panel;
  args.panel_stride = kLanes;
  kernels_.dequantize[static_cast<int>(segment.dtype)](args);
  for (int64_t k = 0; k < w.cols(); ++k) out[k] = panel[k * kLanes + local % kLanes];
}

}  // namespace pelton::cpu
