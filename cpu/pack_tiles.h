// Rows of a file rearranged into tiles (kernels/tiles.h), sixteen at a time: words of four rows are
// transposed in registers and their bits moved there. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "cpu/kernels/tiles.h"

namespace pelton::cpu {

struct PackTilesArgs {
  const std::byte* const* rows = nullptr;  // [16], each at its first k-block
  int64_t row_step = 0;                    // bytes from a k-block to the next, as tile_file_bytes()
  int64_t count = 0;                       // k-blocks
  uint8_t* tile = nullptr;                 // of the first
  int64_t tile_stride = 0;                 // bytes from a k-block's tile to the next
};

// Bytes of a row that one k-block takes from the file.
int64_t tile_file_bytes(DType dtype);
// Null where tile_layout() knows no such format.
void (*pack_tiles_of(DType dtype))(const PackTilesArgs&);

}  // namespace pelton::cpu
