#include "cpu/linear.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace pelton::cpu {
namespace {

// Of the next product's weights, fetched by a worker that waits: what its second-level cache holds
// beside what the work until then reads.
constexpr int64_t kAheadBytes = int64_t{128} << 10;

// k of a dequantised panel: 16 rows of it are 64 KiB, at home in the second-level cache.
constexpr int64_t kPanelK = 1024;
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
  const auto work = [&](const Segment& segment, int64_t from, int64_t to) {
    const int64_t last = std::min(to * kUnitGroups, segment.groups());
    for_panels(from * kUnitGroups, last, [&](int64_t group, int64_t group_end) {
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
    });
  };
  for_segments(w, plain_, kUnitGroups, begin, end, work);
}

void Linear::add_gemm(Job& job, const Tensor& x, const PackedMatrix& w, const float* bias,
                      const Tensor& out, const RowMaker& maker) {
  const int64_t width = kernels_.gemm_tokens;
  const int64_t k = w.padded_cols();
  const int64_t chunk = kChunkTokens / width * width;
  float* packed = packed_x_.floats((std::min(chunk, x.rows) + width - 1) / width * width * k);
  for (int64_t first_token = 0; first_token < x.rows; first_token += chunk) {
    const int64_t count = std::min(chunk, x.rows - first_token);
    const int64_t tiles = (count + width - 1) / width;
    const Tensor part_x = x.slice_rows(first_token, count);
    job.add(tiles, std::max<int64_t>(1, 16384 / (k * width)),
            [=](int64_t begin, int64_t end, int worker) {
              for (int64_t tile = begin; tile < end; ++tile) {
                const int64_t first = tile * width;
                const int64_t tokens = std::min(width, count - first);
                for (int64_t t = first; t < first + tokens; ++t) {
                  maker.make(first_token + t, 0, part_x.cols, worker);
                }
                float* to = packed + first * k;
                if (part_x.cols < k || tokens < width) std::fill(to, to + k * width, 0.0F);
                interleave(part_x.slice_rows(first, tokens), width, to);
              }
            });
    // Every unit of rows meets every token tile; few units are split by tokens as well.
    const int64_t units = units_of(w, plain_, kernels_.gemm_groups);
    const int64_t parts =
        std::clamp<int64_t>(4 * pool_.threads() / std::max<int64_t>(units, 1), 1, (tiles + 7) / 8);
    const Tensor rows = out.slice_rows(first_token, count);
    job.add(units * parts, 1, [=, this, &w](int64_t begin, int64_t end, int worker) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t unit = item / parts, part = item % parts;
        for_segments(w, plain_, kernels_.gemm_groups, unit, unit + 1,
                     [&](const Segment& segment, int64_t from, int64_t) {
                       const int64_t group = from * kernels_.gemm_groups;
                       const int groups = static_cast<int>(
                           std::min<int64_t>(kernels_.gemm_groups, segment.groups() - group));
                       gemm_unit({&segment, group, groups}, tiles * part / parts,
                                 tiles * (part + 1) / parts, w, bias, rows, worker);
                     });
      }
    });
  }
}

void Linear::gemm_unit(const GemmUnit& unit, int64_t tile_begin, int64_t tile_end,
                       const PackedMatrix& w, const float* bias, const Tensor& out, int worker) {
  const Segment& segment = *unit.segment;
  const int64_t panel_width = static_cast<int64_t>(kernels_.gemm_groups) * kLanes;
  const int64_t token_width = kernels_.gemm_tokens;
  const int64_t k_total = segment.k_blocks * segment.layout.block;
  const int64_t row = unit.group * kLanes;
  float* panel = panels_[worker].floats(kPanelK * panel_width);
  for (int64_t k = 0; k < k_total; k += kPanelK) {
    const int64_t k_count = std::min(kPanelK, k_total - k);
    for (int g = 0; g < unit.groups; ++g) {
      DequantizeArgs args;
      args.tile_stride = segment.tile_stride(unit.group + g);
      args.tiles =
          segment.group_tiles(unit.group + g) + k / segment.layout.block * args.tile_stride;
      args.k_count = k_count;
      args.panel = panel + g * kLanes;
      args.panel_stride = panel_width;
      kernels_.dequantize[static_cast<int>(segment.dtype)](args);
    }
    const bool last = k + k_count == k_total;
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      GemmArgs args;
      args.panel = panel;
      args.x = packed_x_.floats(0) + (tile * w.padded_cols() + k) * token_width;
      args.k = k_count;
      args.rows = static_cast<int>(std::min(panel_width, segment.rows - row));
      args.tokens = static_cast<int>(std::min(token_width, out.rows - tile * token_width));
      args.first = k == 0;
      args.bias = bias != nullptr && last ? bias + segment.row_begin + row : nullptr;
      args.out = out.row<float>(tile * token_width) + segment.row_begin + row;
      args.out_stride = out.row_stride;
      kernels_.gemm(args);
    }
  }
}

void Linear::read_row(const PackedMatrix& w, int64_t row, int worker, float* out) {
  const Segment& segment = w.segment_of(row);
  const int64_t local = row - segment.row_begin;
  const int64_t k_total = segment.k_blocks * segment.layout.block;
  float* panel = panels_[worker].floats(std::max(kPanelK * 2 * kLanes, k_total * kLanes));
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
