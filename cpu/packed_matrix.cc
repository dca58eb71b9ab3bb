#include "cpu/packed_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/check.h"
#include "cpu/pack_tiles.h"

namespace pelton::cpu {
namespace {

// k of a group that are packed before the next group's turn: a few lines of each row.
constexpr int kRunK = 512;

// The sources of one segment, read as one.
struct StackedRows {
  std::vector<const RowSource*> sources;

  // The rows [begin, end), in `buffer`. Not in the file's mapping: a copy that stays in the cache
  // costs less than the pages would.
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
      std::byte* base = buffer.data() + static_cast<int64_t>(rows.size()) * row_bytes;
      source->read_rows(from, to, base);
      for (int64_t r = 0; r < to - from; ++r) rows.push_back(base + r * row_bytes);
    }
  }
};

// What a worker keeps from one panel to the next.
struct PackScratch {
  std::vector<std::byte> rows;
  std::vector<const std::byte*> row;
  std::vector<std::byte> no_row;  // zeros: a last group's missing rows
  std::vector<std::byte> tails;   // [kPanelRows] k-blocks of rows that end within one
};

// `count` k-blocks of a panel's rows, the first of them `offset` bytes into each row.
void pack_run(const Segment& segment, const std::vector<const std::byte*>& row, int64_t offset,
              int64_t count, uint8_t* tiles) {
  const int64_t groups = static_cast<int64_t>(row.size()) / kLanes;
  for (int64_t g = 0; g < groups; ++g) {
    std::array<const std::byte*, kLanes> rows;
    for (int lane = 0; lane < kLanes; ++lane) rows[lane] = row[g * kLanes + lane] + offset;
    PackTilesArgs args;
    args.rows = rows.data();
    args.row_step = tile_file_bytes(segment.dtype);
    args.count = count;
    args.tile = tiles + g * segment.layout.bytes;
    args.tile_stride = groups * segment.layout.bytes;
    pack_tiles_of(segment.dtype)(args);
  }
}

void pack_panel(const Segment& segment, const StackedRows& source, int64_t cols, int64_t panel,
                PackScratch& scratch, uint8_t* tiles) {
  const int groups = segment.panel_groups(panel);
  const int64_t row_bytes = dtype_bytes(segment.dtype, cols);
  source.fetch(panel * kPanelRows, std::min(segment.rows, (panel + 1) * kPanelRows), scratch.rows,
               scratch.row);
  if (scratch.row.size() % kLanes != 0) {
    scratch.no_row.resize(row_bytes);
    scratch.row.resize(groups * kLanes, scratch.no_row.data());
  }
  const int64_t step = tile_file_bytes(segment.dtype);
  const int64_t stride = int64_t{groups} * segment.layout.bytes;
  const int64_t whole = cols / segment.layout.block;
  const int64_t run = std::max(1, kRunK / segment.layout.block);
  for (int64_t k = 0; k < whole; k += run) {
    pack_run(segment, scratch.row, k * step, std::min(run, whole - k), tiles + k * stride);
  }
  if (whole == segment.k_blocks) return;
  scratch.tails.assign(scratch.row.size() * step, std::byte{0});
  std::byte* tail = scratch.tails.data();
  for (const std::byte*& row : scratch.row) {
    std::memcpy(tail, row + whole * step, row_bytes - whole * step);
    row = tail;
    tail += step;
  }
  pack_run(segment, scratch.row, 0, 1, tiles + whole * stride);
}

}  // namespace

StatusOr<std::unique_ptr<PackedMatrix>> PackedMatrix::pack(
    std::span<const RowSource* const> sources, Arena& arena, ThreadPool& pool) {
  auto matrix = std::make_unique<PackedMatrix>();
  PELTON_CHECK(!sources.empty(), "a matrix of nothing");
  matrix->cols_ = sources[0]->cols();
  std::vector<PackScratch> scratch(pool.threads());
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
    const int64_t grain = 4;
    const int64_t panels = (segment.groups() + kPanelGroups - 1) / kPanelGroups;
    const int64_t panel_bytes = kPanelGroups * segment.k_blocks * segment.layout.bytes;
    pool.run(panels, grain, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t panel = begin; panel < end; ++panel) {
        pack_panel(segment, stack, matrix->cols_, panel, scratch[worker],
                   piece.data + panel * panel_bytes);
      }
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
