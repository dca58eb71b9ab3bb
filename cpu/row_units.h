// How a product's work is dealt out: the rows of a packed matrix in units of a few groups, counted
// over its segments of certain formats, and tokens in tiles. Pure functions.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/packed_matrix.h"

namespace pelton::cpu {

// Makes columns [begin, end) of row m of a product's x just before they are first read; no call: x
// is there already. Columns are a whole row's, or multiples of 32 where `by_columns`.
struct RowMaker {
  void (*call)(const void* context, int64_t m, int64_t begin, int64_t end, int worker) = nullptr;
  const void* context = nullptr;  // outlives the job
  bool by_columns = false;

  void make(int64_t m, int64_t begin, int64_t end, int worker) const {
    if (call != nullptr) call(context, m, begin, end, worker);
  }
};

inline constexpr int kUnitGroups = 2;  // rows are dealt out by half panels

// Where a tile of tokens begins: tiles as even as can be, so that one token more or less costs what
// it takes.
inline int64_t first_of_tile(int64_t tokens, int64_t tiles, int64_t tile) {
  return tokens * tile / tiles;
}

// fn(part, first_unit, last_unit) for the items [begin, end) of parts of `units` each.
template <typename Fn>
void for_parts(int64_t units, int64_t begin, int64_t end, Fn fn) {
  for (int64_t part = begin / units; part * units < end; ++part) {
    fn(part, std::max(begin, part * units) - part * units,
       std::min(end, (part + 1) * units) - part * units);
  }
}

// Bit i: the DType of that value.
using DTypeSet = uint64_t;
static_assert(kNumDTypes <= 64);
constexpr DTypeSet dtype_bit(DType dtype) {
  return DTypeSet{1} << static_cast<int>(dtype);
}

inline int64_t units_of(const Segment& segment, int per_unit) {
  return (segment.groups() + per_unit - 1) / per_unit;
}
inline int64_t units_of(const PackedMatrix& w, DTypeSet formats, int per_unit) {
  int64_t units = 0;
  for (const Segment& segment : w.segments()) {
    if ((formats & dtype_bit(segment.dtype)) != 0) units += units_of(segment, per_unit);
  }
  return units;
}

// fn(segment, first_unit, last_unit) for the parts of [begin, end) in each segment.
template <typename Fn>
void for_segments(const PackedMatrix& w, DTypeSet formats, int per_unit, int64_t begin, int64_t end,
                  Fn fn) {
  int64_t first = 0;
  for (const Segment& segment : w.segments()) {
    if ((formats & dtype_bit(segment.dtype)) == 0) continue;
    const int64_t units = units_of(segment, per_unit);
    const int64_t from = std::max(begin, first) - first;
    const int64_t to = std::min(end, first + units) - first;
    first += units;
    if (from < to) fn(segment, from, to);
  }
}

// fn(segment, first_group, last_group) for the runs of units [begin, end) that lie in one panel.
template <typename Fn>
void for_panels(const PackedMatrix& w, DTypeSet formats, int64_t begin, int64_t end, Fn fn) {
  for_segments(w, formats, kUnitGroups, begin, end,
               [&](const Segment& segment, int64_t from, int64_t to) {
                 const int64_t last = std::min(to * kUnitGroups, segment.groups());
                 for (int64_t group = from * kUnitGroups; group < last;) {
                   const int64_t next = std::min((group / kPanelGroups + 1) * kPanelGroups, last);
                   fn(segment, group, next);
                   group = next;
                 }
               });
}

}  // namespace pelton::cpu
