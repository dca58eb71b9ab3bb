#include "cpu/packed_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "backend/quantized_blocks.h"
#include "core/check.h"

namespace pelton::cpu {
namespace {

template <typename T>
void put_lane(uint8_t* lanes, int lane, T value) {
  std::memcpy(lanes + lane * sizeof(T), &value, sizeof(T));
}

void pack_scales(DType dtype, const TileLayout& layout, const std::byte* block, int lane,
                 uint8_t* tile) {
  if (dtype == DType::kQ6_K) {
    BlockQ6_K b;
    std::memcpy(&b, block, sizeof(b));
    put_lane(tile + layout.d, lane, b.d);
    for (int i = 0; i < 16; ++i) put_lane(tile + layout.scales + i * kLanes, lane, b.scales[i]);
    return;
  }
  uint16_t halves[2];  // every other format begins with d and, where it has one, the min
  std::memcpy(halves, block, sizeof(halves));
  put_lane(tile + layout.d, lane, halves[0]);
  if (layout.min >= 0) put_lane(tile + layout.min, lane, halves[1]);
  if (layout.scales >= 0) {
    for (int i = 0; i < layout.block / layout.sub_block; ++i) {
      const SubScale sub = sub_scale(reinterpret_cast<const uint8_t*>(block) + sizeof(halves), i);
      put_lane(tile + layout.scales + i * kLanes, lane, sub.scale);
      put_lane(tile + layout.mins + i * kLanes, lane, sub.min);
    }
  }
}

// Four codes at a time: a byte each.
uint32_t quad_of(const uint8_t* codes) {
  uint32_t quad;
  std::memcpy(&quad, codes, sizeof(quad));
  return quad;
}

void pack_codes(const TileLayout& layout, const uint8_t* codes, int lane, uint8_t* tile) {
  if (layout.code_bits == 8) {
    for (int k = 0; k < layout.block; k += 4) {
      put_lane(tile + layout.codes + k * kLanes, lane, quad_of(codes + k) ^ 0x80808080U);
    }
    return;
  }
  constexpr uint32_t kNibbles = 0x0F0F0F0FU;
  for (int k = 0; k < layout.block; k += 8) {
    const uint32_t word = (quad_of(codes + k) & kNibbles) | (quad_of(codes + k + 4) & kNibbles)
                                                                << 4;
    put_lane(tile + layout.codes + k / 8 * 4 * kLanes, lane, word);
  }
  if (layout.high_bits == 0) return;
  const int per_word = 32 / layout.high_bits;
  for (int k = 0; k < layout.block; k += per_word) {
    uint32_t word = 0;
    for (int j = 0; j < per_word; ++j) {
      word |= static_cast<uint32_t>(codes[k + j] >> 4)
              << (8 * (j % 4) + layout.high_bits * (j / 4));
    }
    put_lane(tile + layout.high + k / per_word * 4 * kLanes, lane, word);
  }
}

// One row's values [k_block * block, ..) into its lane.
void pack_lane(DType dtype, const TileLayout& layout, const std::byte* row, int64_t cols,
               int64_t k_block, int lane, uint8_t* tile) {
  if (is_quantized(dtype)) {
    const std::byte* block = row + k_block * dtype_info(dtype).block_bytes;
    uint8_t codes[256];
    unpack_codes(dtype, block, codes);
    pack_scales(dtype, layout, block, lane, tile);
    pack_codes(layout, codes, lane, tile);
    return;
  }
  const int bytes = layout.code_bits / 8;
  const int run = dtype == DType::kBF16 ? 2 : 1;  // consecutive k of a lane
  const int64_t first = k_block * layout.block;
  if (run == 2 && first + layout.block <= cols) {
    for (int j = 0; j < layout.block; j += 2) {
      std::memcpy(tile + layout.codes + (j * kLanes + lane * 2) * bytes, row + (first + j) * bytes,
                  2 * 2);
    }
    return;
  }
  for (int j = 0; j < layout.block; ++j) {
    const int64_t k = first + j;
    if (k >= cols) break;
    const int at = (j / run * kLanes + lane) * run + j % run;
    std::memcpy(tile + layout.codes + at * bytes, row + k * bytes, bytes);
  }
}

// The sources of one segment, read as one.
struct StackedRows {
  std::vector<const RowSource*> sources;

  // Pointers to the rows [begin, end), which lie in the file or in `buffer`.
  void fetch(int64_t begin, int64_t end, std::vector<std::byte>& buffer,
             std::vector<const std::byte*>& rows) const {
    const int64_t row_bytes = dtype_bytes(sources[0]->dtype(), sources[0]->cols());
    buffer.resize((end - begin) * row_bytes);
    rows.clear();
    int64_t first = 0;  // of the source, in the stack
    for (const RowSource* source : sources) {
      const int64_t from = std::max(begin, first) - first;
      const int64_t to = std::min(end, first + source->rows()) - first;
      first += source->rows();
      if (from >= to) continue;
      const auto* base = static_cast<const std::byte*>(source->mapped());
      if (base != nullptr) {
        base += from * row_bytes;
      } else {
        std::byte* into = buffer.data() + static_cast<int64_t>(rows.size()) * row_bytes;
        source->read_rows(from, to, into);
        base = into;
      }
      for (int64_t r = 0; r < to - from; ++r) rows.push_back(base + r * row_bytes);
    }
  }
};

void pack_panels(const Segment& segment, const StackedRows& source, int64_t cols, uint8_t* tiles,
                 int64_t begin, int64_t end) {
  std::vector<std::byte> buffer;
  std::vector<const std::byte*> rows;
  for (int64_t panel = begin; panel < end; ++panel) {
    const int groups = segment.panel_groups(panel);
    source.fetch(panel * kPanelRows, std::min(segment.rows, (panel + 1) * kPanelRows), buffer,
                 rows);
    uint8_t* tile = tiles + panel * kPanelGroups * segment.k_blocks * segment.layout.bytes;
    for (int64_t kb = 0; kb < segment.k_blocks; ++kb) {
      for (int g = 0; g < groups; ++g, tile += segment.layout.bytes) {
        for (int lane = 0; lane < kLanes; ++lane) {
          const size_t row = g * kLanes + lane;
          if (row >= rows.size()) break;  // fresh memory is zero
          pack_lane(segment.dtype, segment.layout, rows[row], cols, kb, lane, tile);
        }
      }
    }
  }
}

}  // namespace

StatusOr<std::unique_ptr<PackedMatrix>> PackedMatrix::pack(
    std::span<const RowSource* const> sources, Arena& arena, ThreadPool& pool) {
  auto matrix = std::make_unique<PackedMatrix>();
  PELTON_CHECK(!sources.empty(), "a matrix of nothing");
  matrix->cols_ = sources[0]->cols();
  for (size_t i = 0; i < sources.size();) {
    StackedRows stack;
    Segment segment;
    segment.dtype = sources[i]->dtype();
    segment.layout = tile_layout(segment.dtype);
    if (segment.layout.block == 0) {
      return absl::UnimplementedError(
          fmt::format("the cpu backend has no {} weights", dtype_info(segment.dtype).name));
    }
    segment.row_begin = matrix->rows_;
    for (; i < sources.size() && sources[i]->dtype() == segment.dtype; ++i) {
      PELTON_CHECK(sources[i]->cols() == matrix->cols_, "stacked sources differ in cols");
      segment.rows += sources[i]->rows();
      stack.sources.push_back(sources[i]);
    }
    segment.k_blocks = (matrix->cols_ + segment.layout.block - 1) / segment.layout.block;
    const int64_t bytes = segment.groups() * segment.k_blocks * segment.layout.bytes;
    PELTON_ASSIGN_OR_RETURN(Piece piece, arena.allocate(bytes));
    segment.tiles = piece.data;
    matrix->pieces_.push_back(piece);
    const int64_t panels = (segment.groups() + kPanelGroups - 1) / kPanelGroups;
    pool.run(panels, 4, [&](int64_t begin, int64_t end, int) {
      pack_panels(segment, stack, matrix->cols_, piece.data, begin, end);
    });
    matrix->rows_ += segment.rows;
    matrix->bytes_ += bytes;
    matrix->padded_cols_ = std::max(matrix->padded_cols_, segment.k_blocks * segment.layout.block);
    matrix->segments_.push_back(segment);
  }
  for (const RowSource* source : sources) source->release();
  return matrix;
}

const Segment& PackedMatrix::segment_of(int64_t row) const {
  for (const Segment& segment : segments_) {
    if (row < segment.row_begin + segment.rows) return segment;
  }
  PELTON_CHECK(false, "row beyond the matrix");
}

}  // namespace pelton::cpu
