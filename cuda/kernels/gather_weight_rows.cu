#include "cuda/kernels/gather_weight_rows.h"

#include "cuda/kernels/device.h"
#include "cuda/kernels/element.h"
#include "cuda/kernels/weight_fragments.h"

namespace pelton::cuda {
namespace {

constexpr int kThreads = 128;

// Where element k of a row stands in its chunk: the inverse of chunk_k().
struct Place {
  int lane, step, p, h;
};
template <WeightFormat kFormat>
__device__ __forceinline__ Place place_of(int row, int k) {
  const int in_chunk = k % kChunkK, g = row % 8, half = row % kTileRows / 8;
  if constexpr (weight_layout(kFormat).scale_block == 16) {
    const int r = in_chunk % 16;
    return {4 * g + r / 4, in_chunk / 16, r % 4 / 2 * 2 + half, r % 2};
  } else {
    const int r = in_chunk % 32;
    return {4 * g + r / 8, in_chunk / 32 * 2 + r % 8 / 4, r % 4 / 2 * 2 + half, r % 2};
  }
}

__device__ __forceinline__ uint32_t load_u16(const uint8_t* p) {
  return p[0] | static_cast<uint32_t>(p[1]) << 8;
}

// The bits of the code at a place of a chunk.
template <WeightFormat kFormat>
__device__ __forceinline__ uint32_t stored_code(const uint8_t* chunk, const Place& at) {
  constexpr int kBits = weight_layout(kFormat).code_bits;
  const int lane = at.lane, step = at.step, p = at.p, h = at.h;
  if constexpr (kBits == 8) {
    return chunk[(step / 2 * 32 + lane) * 16 + step % 2 * 8 + p / 2 * 4 + h * 2 + p % 2];
  }
  const uint32_t nibbles = load_u16(chunk + lane * 16 + step * 4 + h * 2);
  uint32_t code = nibbles >> (4 * p) & 15U;
  if constexpr (kBits == 5) {
    const uint32_t bits = load_u16(chunk + 512 + lane * 4 + h * 2);
    code |= (bits >> (4 * step + p) & 1U) << 4;
  } else if constexpr (kBits == 6) {
    const uint32_t bits = load_u16(chunk + 512 + lane * 8 + step / 2 * 4 + h * 2);
    code |= (bits >> (2 * (4 * (step % 2) + p)) & 3U) << 4;
  }
  return code;
}

template <WeightFormat kFormat, typename T>
__device__ __forceinline__ float weight_value(const uint8_t* packed, int row, int k, int row_k) {
  if constexpr (kFormat == WeightFormat::k16Bit) {
    return Element<T>::to_float(
        reinterpret_cast<const T*>(packed)[row * row_elements_16(row_k) + k]);
  } else {
    constexpr WeightLayout kLayout = weight_layout(kFormat);
    constexpr int kUnitChunks = kLayout.unit_k / kChunkK;
    const uint8_t* unit = packed + row / kTileRows * row_tile_bytes(kFormat, row_k) +
                          static_cast<int64_t>(k / kLayout.unit_k) * unit_bytes(kFormat);
    const int chunk = k % kLayout.unit_k / kChunkK;
    const Place at = place_of<kFormat>(row, k);
    const uint32_t code = stored_code<kFormat>(unit + chunk * chunk_code_bytes(kFormat), at);
    const uint8_t* all_scales = unit + kUnitChunks * chunk_code_bytes(kFormat);
    LaneScales<kFormat> scales;
    scales.load_unit(all_scales, at.lane);
    scales.load_chunk(all_scales, chunk, at.lane);
    const int half = row % kTileRows / 8, block = k % kChunkK / kLayout.scale_block;
    float q = static_cast<float>(static_cast<int>(code) - code_offset(kFormat));
    if constexpr (kFormat == WeightFormat::kF8_128) q = low_half(e4m3_codes<F16>(code));
    return fmaf(scales.scale(half, block), q, scales.min(half, block));
  }
}

struct Table {
  WeightFormat format;
  const uint8_t* packed;
};

template <typename T>
__device__ float any_weight_value(const Table& table, int row, int k, int row_k) {
  switch (table.format) {
#define PELTON_FORMAT(format) \
  case WeightFormat::format:  \
    return weight_value<WeightFormat::format, T>(table.packed, row, k, row_k);
    PELTON_FORMAT(k16Bit)
    PELTON_FORMAT(kQ8_0)
    PELTON_FORMAT(kQ4_0)
    PELTON_FORMAT(kQ4_1)
    PELTON_FORMAT(kQ5_0)
    PELTON_FORMAT(kQ5_1)
    PELTON_FORMAT(kQ4_K)
    PELTON_FORMAT(kQ5_K)
    PELTON_FORMAT(kQ6_K)
    PELTON_FORMAT(kF8_128)
    PELTON_FORMAT(kI4_128)
#undef PELTON_FORMAT
  }
  return 0;
}

struct GatherArgs {
  Table table, add;
  const int32_t* rows;
  const int32_t* add_rows;
  int k;
  float scale;
  void* out;
  int64_t out_stride;
};

// A CTA a row.
template <typename T>
__global__ void gather_weight_rows_kernel(GatherArgs args) {
  const int row = args.rows[blockIdx.x];
  const int add_row = args.add.packed != nullptr ? args.add_rows[blockIdx.x] : 0;
  T* out = static_cast<T*>(args.out) + blockIdx.x * args.out_stride;
  for (int k = threadIdx.x; k < args.k; k += kThreads) {
    float value = any_weight_value<T>(args.table, row, k, args.k);
    if (args.add.packed != nullptr) value += any_weight_value<T>(args.add, add_row, k, args.k);
    out[k] = Element<T>::from_float(value * args.scale);
  }
}

}  // namespace

cudaError_t gather_weight_rows(const GatherWeightRowsParams& p, cudaStream_t stream) {
  if (p.count == 0 || p.k == 0) return cudaSuccess;
  const GatherArgs args = {{p.table.format, static_cast<const uint8_t*>(p.table.weights)},
                           {p.add.format, static_cast<const uint8_t*>(p.add.weights)},
                           p.rows,
                           p.add_rows,
                           p.k,
                           p.scale,
                           p.out,
                           p.out_stride};
  const auto kernel = p.type == ElementType::kBF16 ? gather_weight_rows_kernel<BF16>
                                                   : gather_weight_rows_kernel<F16>;
  return launch(kernel, dim3(p.count), dim3(kThreads), 0, stream, args);
}

}  // namespace pelton::cuda
