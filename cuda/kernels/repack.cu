#include "cuda/kernels/repack.h"

#include "cuda/kernels/device.h"
#include "cuda/kernels/element.h"
#include "cuda/kernels/weight_fragments.h"

namespace pelton::cuda {
namespace {

constexpr int kThreads = 256;

struct RepackArgs {
  const uint8_t* rows;
  uint8_t* packed;  // of the first row tile to write
  int64_t num_rows, k;
  SourceType source;
};

__device__ __forceinline__ uint32_t load_u16(const uint8_t* p) {
  return p[0] | static_cast<uint32_t>(p[1]) << 8;
}

// The unsigned code of element i (0 .. 255) of a K-quant's super-block, its low bits and high bits
// as backend/quantized_blocks.h lays them out.
__device__ __forceinline__ uint32_t k45_code(const uint8_t* qs, const uint8_t* qh, int i) {
  const uint32_t byte = qs[i / 64 * 32 + i % 32];
  uint32_t code = i % 64 < 32 ? byte & 15 : byte >> 4;
  if (qh != nullptr) code |= (qh[i % 32] >> (i / 32) & 1U) << 4;
  return code;
}
__device__ __forceinline__ uint32_t k6_code(const uint8_t* block, int i) {
  const int half = i / 128, quarter = i % 128 / 32, l = i % 32;
  const uint32_t low = block[64 * half + 32 * (quarter % 2) + l];
  const uint32_t high = block[128 + 32 * half + l];
  return (quarter < 2 ? low & 15 : low >> 4) | (high >> (2 * quarter) & 3U) << 4;
}

// The code of element k of a row, as it is stored: signed bytes + 128.
template <WeightFormat kFormat>
__device__ __forceinline__ uint32_t file_code(const uint8_t* row, int64_t k) {
  constexpr WeightLayout kLayout = weight_layout(kFormat);
  const uint8_t* block = row + k / kLayout.file_block * kLayout.file_bytes;
  const int i = static_cast<int>(k % kLayout.file_block);
  if constexpr (kFormat == WeightFormat::kQ8_0) {
    return block[2 + i] ^ 0x80U;
  } else if constexpr (kFormat == WeightFormat::kQ4_K) {
    return k45_code(block + 16, nullptr, i);
  } else if constexpr (kFormat == WeightFormat::kQ5_K) {
    return k45_code(block + 48, block + 16, i);
  } else if constexpr (kFormat == WeightFormat::kQ6_K) {
    return k6_code(block, i);
  } else if constexpr (kFormat == WeightFormat::kF8_128) {
    return block[4 + i];
  } else if constexpr (kFormat == WeightFormat::kI4_128) {
    return i < 64 ? block[4 + i] & 15U : block[4 + i - 64] >> 4;
  } else {
    constexpr int kScales = kLayout.has_min ? 4 : 2;
    constexpr bool kFifth = kLayout.code_bits == 5;
    const uint32_t byte = block[kScales + (kFifth ? 4 : 0) + i % 16];
    uint32_t code = i < 16 ? byte & 15 : byte >> 4;
    if (kFifth) code |= (block[kScales + i / 8] >> (i % 8) & 1U) << 4;
    return code;
  }
}

// One element of a row of floats, as bits of T.
template <typename T>
__device__ __forceinline__ uint32_t file_element(const uint8_t* row, SourceType source, int64_t k) {
  float value;
  if (source == SourceType::kF32) {
    const uint8_t* p = row + 4 * k;
    value = __uint_as_float(load_u16(p) | load_u16(p + 2) << 16);
  } else if (source == SourceType::kF16) {
    value = Element<F16>::bits_to_float(load_u16(row + 2 * k));
  } else {
    value = Element<BF16>::bits_to_float(load_u16(row + 2 * k));
  }
  return element_bits(Element<T>::from_float(value));
}

// The rows that a CTA turns into one unit of one row tile.
struct UnitRows {
  const RepackArgs& args;
  int64_t row0, k0;
  int64_t row_bytes;

  __device__ bool inside(int row, int64_t k) const {
    return row0 + row < args.num_rows && k < args.k;
  }
  __device__ const uint8_t* row(int r) const { return args.rows + (row0 + r) * row_bytes; }
};

// The code that register p, half h of a lane's step holds; 0 as padding.
template <WeightFormat kFormat>
__device__ __forceinline__ uint32_t fragment_part(const UnitRows& unit, int chunk, int lane,
                                                  int step, int p, int h) {
  const int row = lane / 4 + 8 * (p % 2);
  const int64_t k = unit.k0 + chunk * kChunkK +
                    chunk_k(weight_layout(kFormat).scale_block, step, lane % 4, p / 2, h);
  if (!unit.inside(row, k)) return 0;
  return file_code<kFormat>(unit.row(row), k);
}

// Word w of a chunk's codes, as weight_layout.h orders them.
template <WeightFormat kFormat>
__device__ __forceinline__ uint32_t code_word(const UnitRows& unit, int chunk, int w) {
  constexpr int kBits = weight_layout(kFormat).code_bits;
  const auto part = [&](int lane, int step, int p, int h) {
    return fragment_part<kFormat>(unit, chunk, lane, step, p, h);
  };
  uint32_t word = 0;
  if constexpr (kBits == 8) {
    const int lane = w / 4 % 32, step = w / 128 * 2 + w % 4 / 2, p = w % 2 * 2;
    for (int i = 0; i < 4; ++i) word |= part(lane, step, p + i % 2, i / 2) << (8 * i);
    return word;
  } else {
    if (w < 128) {
      const int lane = w / 4, step = w % 4;
      for (int i = 0; i < 8; ++i) {
        word |= (part(lane, step, i % 4, i / 4) & 15U) << (4 * (i % 4) + 16 * (i / 4));
      }
    } else if constexpr (kBits == 5) {
      const int lane = w - 128;
      for (int i = 0; i < 32; ++i) {
        word |= (part(lane, i % 16 / 4, i % 4, i / 16) >> 4 & 1U) << i;
      }
    } else if constexpr (kBits == 6) {
      const int lane = (w - 128) / 2, step0 = w % 2 * 2;
      for (int i = 0; i < 16; ++i) {
        const int at = i % 8, h = i / 8;
        word |= (part(lane, step0 + at / 4, at % 4, h) >> 4 & 3U) << (2 * at + 16 * h);
      }
    }
    return word;
  }
}

// Byte b of a unit's scales, as weight_layout.h orders them.
template <WeightFormat kFormat>
__device__ __forceinline__ uint8_t scale_byte(const UnitRows& unit, int b) {
  constexpr WeightLayout kLayout = weight_layout(kFormat);
  constexpr bool kSuper = kLayout.unit_k == 256;
  if constexpr (kLayout.unit_k == 128) {
    const int row = b / 8 + 8 * (b / 4 % 2);
    if (!unit.inside(row, unit.k0)) return 0;
    return unit.row(row)[unit.k0 / 128 * kLayout.file_bytes + b % 4];
  } else if constexpr (!kSuper) {
    // [row % 8][row / 8][block 2][d or d, m] f16
    constexpr int kBytes = kLayout.has_min ? 4 : 2;
    const int row = b / (4 * kBytes) + 8 * (b / (2 * kBytes) % 2), block = b / kBytes % 2;
    const int64_t k = unit.k0 + 32 * block;
    if (!unit.inside(row, k)) return 0;
    return unit.row(row)[k / 32 * kLayout.file_bytes + b % kBytes];
  } else {
    const bool sub = b < 256;
    const int dm_bytes = kFormat == WeightFormat::kQ6_K ? 2 : 4;
    const int at = sub ? b % 64 : b - 256;
    const int bytes = sub ? 4 : dm_bytes;  // of one row
    const int row = at / (2 * bytes) + 8 * (at / bytes % 2);
    if (!unit.inside(row, unit.k0)) return 0;
    const uint8_t* block = unit.row(row) + unit.k0 / 256 * kLayout.file_bytes;
    if constexpr (kFormat == WeightFormat::kQ6_K) {
      return sub ? block[192 + b / 64 * 4 + at % 4] : block[208 + at % 2];
    } else {
      if (!sub) return block[at % 4];
      const int i = b / 64 * 2 + at % 4 / 2;  // of the eight blocks of 32
      const uint8_t* s = block + 4;           // 6-bit scales and mins
      const bool min = at % 2 == 1;
      if (i < 4) return s[i + (min ? 4 : 0)] & 63;
      const uint32_t low = min ? s[i + 4] >> 4 : s[i + 4] & 15;
      return static_cast<uint8_t>(low | static_cast<uint32_t>(s[min ? i : i - 4] >> 6) << 4);
    }
  }
}

// Grid: (units along k, row tiles); a CTA writes one unit.
template <WeightFormat kFormat>
__global__ void repack_kernel(RepackArgs args) {
  constexpr int kChunks = weight_layout(kFormat).unit_k / kChunkK;
  constexpr int kChunkWords = chunk_code_bytes(kFormat) / 4;
  const UnitRows unit = {args, static_cast<int64_t>(blockIdx.y) * kTileRows,
                         static_cast<int64_t>(blockIdx.x) * weight_layout(kFormat).unit_k,
                         file_row_bytes(kFormat, args.k)};
  uint8_t* out = args.packed + blockIdx.y * row_tile_bytes(kFormat, args.k) +
                 static_cast<int64_t>(blockIdx.x) * unit_bytes(kFormat);
  auto* words = reinterpret_cast<uint32_t*>(out);
  for (int w = threadIdx.x; w < kChunks * kChunkWords; w += kThreads) {
    words[w] = code_word<kFormat>(unit, w / kChunkWords, w % kChunkWords);
  }
  uint8_t* scales = out + 4 * kChunks * kChunkWords;
  for (int b = threadIdx.x; b < weight_layout(kFormat).scale_bytes; b += kThreads) {
    scales[b] = scale_byte<kFormat>(unit, b);
  }
}

// Rows of floats as elements, padded. Grid: (padded k / 512, padded rows); a thread two elements.
template <typename T>
__global__ void convert_rows_kernel(RepackArgs args) {
  const int64_t row = blockIdx.y,
                k = 2 * (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x);
  const int64_t padded = row_elements_16(args.k);
  if (k >= padded) return;
  const uint8_t* from = args.rows + row * args.k * (args.source == SourceType::kF32 ? 4 : 2);
  uint32_t word = 0;
  for (int h = 0; h < 2; ++h) {
    if (row < args.num_rows && k + h < args.k) {
      word |= file_element<T>(from, args.source, k + h) << (16 * h);
    }
  }
  reinterpret_cast<uint32_t*>(args.packed)[(row * padded + k) / 2] = word;
}

RepackArgs repack_args(const RepackParams& p) {
  RepackArgs args;
  args.rows = static_cast<const uint8_t*>(p.rows);
  args.packed =
      static_cast<uint8_t*>(p.packed) + p.row_begin / kTileRows * row_tile_bytes(p.format, p.k);
  args.num_rows = p.num_rows;
  args.k = p.k;
  args.source = p.source;
  return args;
}

template <WeightFormat kFormat>
cudaError_t launch_repack(const RepackParams& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(units_of(kFormat, p.k)),
                  static_cast<unsigned>((p.num_rows + kTileRows - 1) / kTileRows));
  return launch(repack_kernel<kFormat>, grid, dim3(kThreads), 0, stream, repack_args(p));
}

cudaError_t convert_rows(const RepackParams& p, cudaStream_t stream) {
  constexpr int kMaxGridY = 65520;  // rows of one launch, whole tiles
  const auto kernel =
      p.type == ElementType::kBF16 ? convert_rows_kernel<BF16> : convert_rows_kernel<F16>;
  const int64_t row_bytes = p.k * (p.source == SourceType::kF32 ? 4 : 2);
  for (int64_t begin = 0; begin < p.num_rows; begin += kMaxGridY) {
    RepackParams part = p;
    part.rows = static_cast<const uint8_t*>(p.rows) + begin * row_bytes;
    part.row_begin = p.row_begin + begin;
    part.num_rows = p.num_rows - begin < kMaxGridY ? p.num_rows - begin : kMaxGridY;
    const int64_t padded_rows = (part.num_rows + kTileRows - 1) / kTileRows * kTileRows;
    const dim3 grid(ceil_div(row_elements_16(p.k), 2 * kThreads),
                    static_cast<unsigned>(padded_rows));
    const cudaError_t error = launch(kernel, grid, dim3(kThreads), 0, stream, repack_args(part));
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t repack(const RepackParams& p, cudaStream_t stream) {
  if (p.num_rows == 0 || p.k == 0) return cudaSuccess;
  if (p.row_begin % kTileRows != 0 || (p.num_rows + kTileRows - 1) / kTileRows > 65535) {
    return cudaErrorInvalidValue;
  }
  switch (p.format) {
    case WeightFormat::k16Bit:
      return convert_rows(p, stream);
    case WeightFormat::kQ8_0:
      return launch_repack<WeightFormat::kQ8_0>(p, stream);
    case WeightFormat::kQ4_0:
      return launch_repack<WeightFormat::kQ4_0>(p, stream);
    case WeightFormat::kQ4_1:
      return launch_repack<WeightFormat::kQ4_1>(p, stream);
    case WeightFormat::kQ5_0:
      return launch_repack<WeightFormat::kQ5_0>(p, stream);
    case WeightFormat::kQ5_1:
      return launch_repack<WeightFormat::kQ5_1>(p, stream);
    case WeightFormat::kQ4_K:
      return launch_repack<WeightFormat::kQ4_K>(p, stream);
    case WeightFormat::kQ5_K:
      return launch_repack<WeightFormat::kQ5_K>(p, stream);
    case WeightFormat::kQ6_K:
      return launch_repack<WeightFormat::kQ6_K>(p, stream);
    case WeightFormat::kF8_128:
      return launch_repack<WeightFormat::kF8_128>(p, stream);
    case WeightFormat::kI4_128:
      return launch_repack<WeightFormat::kI4_128>(p, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace pelton::cuda
