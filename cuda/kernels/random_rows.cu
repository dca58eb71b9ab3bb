#include "cuda/kernels/random_rows.h"

#include "cuda/kernels/device.h"
#include "cuda/kernels/element.h"

namespace pelton::cuda {
namespace {

constexpr int kThreads = 128;

// SplitMix64 by index: its state advances by a constant, so that any number can be had at once.
__device__ __forceinline__ uint64_t split_mix(uint64_t state, uint64_t index) {
  uint64_t z = state + (index + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

// What stands at the head (or, of Q6_K, the end) of every block: scales, made on the host.
struct BlockScales {
  uint16_t first = 0, second = 0;
  float wide = 0;
};

struct RandomArgs {
  uint64_t seed;
  float amplitude;
  BlockScales scales;
  int64_t row_begin, blocks_per_row;
  SourceType source;
  uint8_t* rows;
};

__device__ __forceinline__ void store_u16(uint8_t* out, uint32_t value) {
  out[0] = static_cast<uint8_t>(value);
  out[1] = static_cast<uint8_t>(value >> 8);
}

// Six-bit scales of a K-quant's block, min = scale; packed as quantized_blocks.h has them.
__device__ void store_k_scales(uint8_t* out, uint64_t state, uint64_t index) {
  uint8_t scale[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    scale[i] = static_cast<uint8_t>(32 + split_mix(state, index + i) % 32);
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int high = scale[j] | scale[j + 4] >> 4 << 6;
    out[j] = out[j + 4] = static_cast<uint8_t>(high);
    out[j + 8] = static_cast<uint8_t>((scale[j + 4] & 15) | (scale[j + 4] & 15) << 4);
  }
}

template <WeightFormat kFormat>
__device__ void random_block(const RandomArgs& args, uint64_t state, int64_t block, uint8_t* out) {
  constexpr WeightLayout kLayout = weight_layout(kFormat);
  constexpr int kFill = (kLayout.file_bytes + 7) / 8;  // numbers that fill a block
  constexpr bool kSuper = kFormat == WeightFormat::kQ4_K || kFormat == WeightFormat::kQ5_K;
  constexpr int kMore = kSuper ? 8 : kFormat == WeightFormat::kQ6_K ? 16 : 0;
  const uint64_t first = static_cast<uint64_t>(block) * (kFill + kMore);
  for (int i = 0; i < kLayout.file_bytes; ++i) {
    out[i] = static_cast<uint8_t>(split_mix(state, first + i / 8) >> (8 * (i % 8)));
  }
  if constexpr (kFormat == WeightFormat::kQ6_K) {
    for (int j = 0; j < 16; ++j) {
      out[192 + j] = static_cast<uint8_t>(64 + split_mix(state, first + kFill + j) % 64);
    }
    store_u16(out + 208, args.scales.first);
  } else if constexpr (kFormat == WeightFormat::kF8_128) {
    const uint32_t bits = __float_as_uint(args.scales.wide);
    store_u16(out, bits);
    store_u16(out + 2, bits >> 16);
    for (int j = 4; j < kLayout.file_bytes; ++j) {
      if ((out[j] & 0x7F) == 0x7F) out[j] ^= 1;  // NaN
    }
  } else {
    store_u16(out, args.scales.first);
    if (kLayout.has_min) store_u16(out + 2, args.scales.second);
    if constexpr (kSuper) store_k_scales(out + 4, state, first + kFill);
  }
}

__device__ __forceinline__ void random_float(const RandomArgs& args, uint64_t state, int64_t index,
                                             uint8_t* row) {
  const float unit =
      __fmul_rn(static_cast<float>(split_mix(state, static_cast<uint64_t>(index)) >> 40),
                5.9604644775390625e-8F);
  const float value = __fmul_rn(args.amplitude, __fadd_rn(__fmul_rn(2.0F, unit), -1.0F));
  if (args.source == SourceType::kF32) {
    const uint32_t bits = __float_as_uint(value);
    store_u16(row + 4 * index, bits);
    store_u16(row + 4 * index + 2, bits >> 16);
  } else if (args.source == SourceType::kF16) {
    store_u16(row + 2 * index, element_bits(Element<F16>::from_float(value)));
  } else {
    store_u16(row + 2 * index, element_bits(Element<BF16>::from_float(value)));
  }
}

// Grid: (blocks of a row, rows); a thread a block, or a float.
template <WeightFormat kFormat>
__global__ void random_rows_kernel(RandomArgs args) {
  const int64_t block = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (block >= args.blocks_per_row) return;
  const auto row = static_cast<int64_t>(blockIdx.y);
  const uint64_t state = split_mix(args.seed + static_cast<uint64_t>(args.row_begin + row), 0);
  if constexpr (kFormat == WeightFormat::k16Bit) {
    const int64_t row_bytes = args.blocks_per_row * (args.source == SourceType::kF32 ? 4 : 2);
    random_float(args, state, block, args.rows + row * row_bytes);
  } else {
    constexpr int kBytes = weight_layout(kFormat).file_bytes;
    random_block<kFormat>(args, state, block,
                          args.rows + (row * args.blocks_per_row + block) * kBytes);
  }
}

uint16_t half_bits(float x) {
  return static_cast<__half_raw>(__float2half_rn(x)).x;
}

BlockScales block_scales(WeightFormat format, float amplitude) {
  switch (format) {
    case WeightFormat::k16Bit:
      return {};
    case WeightFormat::kQ8_0:
      return {half_bits(amplitude / 128.0F), 0, 0};
    case WeightFormat::kQ4_0:
      return {half_bits(amplitude / 8.0F), 0, 0};
    case WeightFormat::kQ5_0:
      return {half_bits(amplitude / 16.0F), 0, 0};
    case WeightFormat::kQ4_1:
      return {half_bits(2.0F * amplitude / 15.0F), half_bits(-amplitude), 0};
    case WeightFormat::kQ5_1:
      return {half_bits(2.0F * amplitude / 31.0F), half_bits(-amplitude), 0};
    case WeightFormat::kQ4_K:
    case WeightFormat::kQ5_K: {
      const float top = format == WeightFormat::kQ4_K ? 15.0F : 31.0F;
      const float d = amplitude / (63.0F * top / 2.0F);
      return {half_bits(d), half_bits(d * top / 2.0F), 0};
    }
    case WeightFormat::kQ6_K:
      return {half_bits(amplitude / (127.0F * 32.0F)), 0, 0};
    case WeightFormat::kF8_128:
      return {0, 0, amplitude / 448.0F};
    case WeightFormat::kI4_128:
      return {half_bits(amplitude / 8.0F), 8, 0};
  }
  return {};
}

template <WeightFormat kFormat>
cudaError_t launch_random(const RandomArgs& args, int64_t num_rows, cudaStream_t stream) {
  const dim3 grid(ceil_div(args.blocks_per_row, kThreads), static_cast<unsigned>(num_rows));
  return launch(random_rows_kernel<kFormat>, grid, dim3(kThreads), 0, stream, args);
}

cudaError_t launch_any(WeightFormat format, const RandomArgs& args, int64_t num_rows,
                       cudaStream_t stream) {
  switch (format) {
    case WeightFormat::k16Bit:
      return launch_random<WeightFormat::k16Bit>(args, num_rows, stream);
    case WeightFormat::kQ8_0:
      return launch_random<WeightFormat::kQ8_0>(args, num_rows, stream);
    case WeightFormat::kQ4_0:
      return launch_random<WeightFormat::kQ4_0>(args, num_rows, stream);
    case WeightFormat::kQ4_1:
      return launch_random<WeightFormat::kQ4_1>(args, num_rows, stream);
    case WeightFormat::kQ5_0:
      return launch_random<WeightFormat::kQ5_0>(args, num_rows, stream);
    case WeightFormat::kQ5_1:
      return launch_random<WeightFormat::kQ5_1>(args, num_rows, stream);
    case WeightFormat::kQ4_K:
      return launch_random<WeightFormat::kQ4_K>(args, num_rows, stream);
    case WeightFormat::kQ5_K:
      return launch_random<WeightFormat::kQ5_K>(args, num_rows, stream);
    case WeightFormat::kQ6_K:
      return launch_random<WeightFormat::kQ6_K>(args, num_rows, stream);
    case WeightFormat::kF8_128:
      return launch_random<WeightFormat::kF8_128>(args, num_rows, stream);
    case WeightFormat::kI4_128:
      return launch_random<WeightFormat::kI4_128>(args, num_rows, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t random_rows(const RandomRowsParams& p, cudaStream_t stream) {
  constexpr int64_t kMaxGridY = 65535;
  const int64_t row_bytes = p.format == WeightFormat::k16Bit
                                ? p.k * (p.source == SourceType::kF32 ? 4 : 2)
                                : file_row_bytes(p.format, p.k);
  for (int64_t begin = 0; begin < p.num_rows && p.k > 0; begin += kMaxGridY) {
    RandomArgs args;
    args.seed = p.seed;
    args.amplitude = p.amplitude;
    args.scales = block_scales(p.format, p.amplitude);
    args.row_begin = p.row_begin + begin;
    args.blocks_per_row = p.k / weight_layout(p.format).file_block;
    args.source = p.source;
    args.rows = static_cast<uint8_t*>(p.rows) + begin * row_bytes;
    const int64_t count = p.num_rows - begin < kMaxGridY ? p.num_rows - begin : kMaxGridY;
    const cudaError_t error = launch_any(p.format, args, count, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace pelton::cuda
