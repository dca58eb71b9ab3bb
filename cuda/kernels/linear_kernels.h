// The kernels behind linear.h, for one element type a translation unit (linear_bf16.cu,
// linear_f16.cu). Two kernels, one arithmetic: the narrow one gives each run of k to a warp of its
// own (few rows of x: the weights' bytes are the limit, all warps stream them), the wide one walks
// all runs in one warp and shares x through shared memory. Device side only.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/element.h"
#include "cuda/kernels/linear_rows.h"
#include "cuda/kernels/primitives.h"
#include "cuda/kernels/weight_fragments.h"

namespace pelton::cuda {

inline constexpr int kLinearWarps = 8;
static_assert(kLinearWarps == kLinearRuns, "the narrow kernel gives a run to each warp");
inline constexpr int kLinearThreads = 32 * kLinearWarps;
inline constexpr int kWideStages = 3;

// Run r of kLinearRuns: chunks [begin, end) of k.
struct ChunkRange {
  int begin, end;
};
template <WeightFormat kFormat>
__device__ __forceinline__ ChunkRange chunks_of_run(int k, int run) {
  constexpr int kChunks = weight_layout(kFormat).unit_k / kChunkK;
  const int units = static_cast<int>(units_of(kFormat, k));
  return {units * run / kLinearRuns * kChunks, units * (run + 1) / kLinearRuns * kChunks};
}

// One lane's weights of one chunk, on their way from memory.
template <WeightFormat kFormat>
struct WeightStage {
  static constexpr WeightLayout kLayout = weight_layout(kFormat);
  static constexpr int kUnitChunks = kLayout.unit_k / kChunkK;
  LaneCodes<kLayout.code_bits> codes;
  LaneScales<kFormat> scales;

  __device__ __forceinline__ void load(const uint8_t* row_tile, int chunk, int k, int lane) {
    if constexpr (kFormat == WeightFormat::k16Bit) {
      codes.load_rows(row_tile + chunk * (2 * kChunkK), 2 * row_elements_16(k), lane);
    } else {
      const uint8_t* unit =
          row_tile + static_cast<int64_t>(chunk / kUnitChunks) * unit_bytes(kFormat);
      const int in_unit = chunk % kUnitChunks;
      codes.load(unit + in_unit * chunk_code_bytes(kFormat), lane);
      const uint8_t* unit_scales = unit + kUnitChunks * chunk_code_bytes(kFormat);
      if (in_unit == 0) scales.load_unit(unit_scales, lane);
      scales.load_chunk(unit_scales, in_unit, lane);
    }
  }
  // A unit's own scales come with its first chunk; `unit` keeps them for the others.
  __device__ __forceinline__ void take_unit(LaneScales<kFormat>& unit, int chunk) {
    if constexpr (kUnitChunks > 1) {
      if (chunk % kUnitChunks == 0) unit.d = scales.d;
      scales.d = unit.d;
    }
  }
};

// acc[16 rows, 8 tokens] += 32 of k: w's fragments a[2], x's registers b[4] (two for each step).
template <WeightFormat kFormat, typename T>
__device__ __forceinline__ void multiply_32(float (&acc)[4], const uint32_t (&a)[2][4],
                                            const uint32_t (&b)[4],
                                            const LaneScales<kFormat>& scales, int block32) {
  constexpr WeightLayout kLayout = weight_layout(kFormat);
  const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
  if constexpr (kFormat == WeightFormat::k16Bit) {
    mma_m16n8k16<T>(acc, a[0], b0);
    mma_m16n8k16<T>(acc, a[1], b1);
  } else if constexpr (kLayout.scale_block == 16) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      float sum[4] = {0, 0, 0, 0};
      if (s == 0) {
        mma_m16n8k16<T>(sum, a[0], b0);
      } else {
        mma_m16n8k16<T>(sum, a[1], b1);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        acc[i] = fmaf(scales.scale(i / 2, 2 * block32 + s), sum[i], acc[i]);
      }
    }
  } else {
    float sum[4] = {0, 0, 0, 0};
    mma_m16n8k16<T>(sum, a[0], b0);
    mma_m16n8k16<T>(sum, a[1], b1);
#pragma unroll
    for (int i = 0; i < 4; ++i) acc[i] = fmaf(scales.scale(i / 2, block32), sum[i], acc[i]);
    if constexpr (kLayout.has_min) {
      // A matrix of ones sums x over the block, and leaves it where the mins are wanted.
      const uint32_t one = pack2<T>(1.0F, 1.0F);
      const uint32_t ones[4] = {one, one, one, one};
      float x_sum[4] = {0, 0, 0, 0};
      mma_m16n8k16<T>(x_sum, ones, b0);
      mma_m16n8k16<T>(x_sum, ones, b1);
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[i] = fmaf(scales.min(i / 2, block32), x_sum[i], acc[i]);
    }
  }
}

// acc[tokens / 8] += one chunk. `load_b(b, j, block32)` gives x's registers of tokens 8j .. 8j + 7.
template <WeightFormat kFormat, typename T, int kColumns, typename LoadB>
__device__ __forceinline__ void multiply_chunk(float (&acc)[kColumns][4],
                                               const WeightStage<kFormat>& stage, LoadB load_b) {
#pragma unroll
  for (int block = 0; block < 2; ++block) {
    uint32_t a[2][4];
    stage.codes.template fragment<T, kFormat>(2 * block, a[0]);
    stage.codes.template fragment<T, kFormat>(2 * block + 1, a[1]);
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      uint32_t b[4];
      load_b(b, j, block);
      multiply_32<kFormat, T>(acc[j], a, b, stage.scales, block);
    }
  }
}

template <WeightFormat kFormat>
constexpr int narrow_depth() {
  return weight_layout(kFormat).code_bits == 16 ? 2 : 4;
}

// Grid: (ceil(m / kTokens), row tiles, groups). Each warp: one run of one row tile, kTokens tokens.
// For 8 tokens one matrix alone: the registers that groups take would cost it a block an SM.
template <WeightFormat kFormat, typename T, int kTokens>
__global__ void __launch_bounds__(kLinearThreads, 2)
    linear_narrow_kernel(LinearArgs args, LinearGroups groups) {
  constexpr int kDepth = narrow_depth<kFormat>();
  constexpr bool kBlocks16 = weight_layout(kFormat).scale_block == 16;
  PELTON_SHARED(float, sums, kLinearRuns* kTokens* kSumStride);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int g = lane / 4, t = lane % 4;
  const int token0 = blockIdx.x * kTokens;
  const uint8_t* weights = args.weights;
  if constexpr (kTokens > 8) {
    weights = enter_group<T>(args, groups);
    if (token0 >= args.m) return;  // of a group of fewer rows
  }
  const uint8_t* row_tile =
      weights + static_cast<int64_t>(blockIdx.y) * row_tile_bytes(kFormat, args.k);
  const ChunkRange range = chunks_of_run<kFormat>(args.k, warp);

  float acc[kTokens / 8][4] = {};
  WeightStage<kFormat> stages[kDepth];
  LaneScales<kFormat> unit = {};
#pragma unroll
  for (int i = 0; i < kDepth; ++i) {
    if (range.begin + i < range.end) stages[i].load(row_tile, range.begin + i, args.k, lane);
  }
  for (int first = range.begin; first < range.end; first += kDepth) {
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      const int chunk = first + i;
      if (chunk >= range.end) break;
      WeightStage<kFormat>& stage = stages[i];
      stage.take_unit(unit, chunk);
      multiply_chunk<kFormat, T>(acc, stage, [&](uint32_t(&b)[4], int j, int block) {
        const int token = token0 + 8 * j + g, k = chunk * kChunkK + 32 * block;
        if constexpr (kBlocks16) {
          load_x<T, 2>(args, token, k + 4 * t, b, 0);
          load_x<T, 2>(args, token, k + 16 + 4 * t, b, 2);
        } else {
          load_x<T, 4>(args, token, k + 8 * t, b, 0);
        }
      });
      if (chunk + kDepth < range.end) stage.load(row_tile, chunk + kDepth, args.k, lane);
    }
  }
#pragma unroll
  for (int j = 0; j < kTokens / 8; ++j) {
    put_fragment(sums + (warp * kTokens + 8 * j) * kSumStride, acc[j], lane);
  }
  __syncthreads();
  for (int j = warp; j < kTokens / 8; j += kLinearWarps) {
    float4 total = make_float4(0, 0, 0, 0);
    for (int run = 0; run < kLinearRuns; ++run) {
      const float4 part = take_rows(sums + (run * kTokens + 8 * j) * kSumStride, lane);
      total.x += part.x, total.y += part.y, total.z += part.z, total.w += part.w;
    }
    store_4<T>(args, token0 + 8 * j + taken_token(lane), blockIdx.y * kTileRows + lane % 4 * 4,
               total);
  }
}

// Bytes from a token to the next of a stage of x: such that the eight (or sixteen) lanes of one
// phase of a load reach 32 banks.
template <WeightFormat kFormat>
constexpr int wide_x_stride() {
  return weight_layout(kFormat).scale_block == 16 ? 160 : 192;
}
template <WeightFormat kFormat, int kTokens>
constexpr int wide_shared_bytes() {
  return kWideStages * kTokens * wide_x_stride<kFormat>();
}

// One chunk of x for kTokens tokens into shared memory; zero beyond m and k.
template <WeightFormat kFormat, typename T, int kTokens>
__device__ __forceinline__ void stage_x(const LinearArgs& args, int token0, int chunk,
                                        uint8_t* stage) {
  constexpr int kPieces = kChunkK * 2 / 16;
  for (int i = threadIdx.x; i < kTokens * kPieces; i += kLinearThreads) {
    const int token = token0 + i / kPieces, k = chunk * kChunkK + i % kPieces * 8;
    uint8_t* to = stage + i / kPieces * wide_x_stride<kFormat>() + i % kPieces * 16;
    const bool inside = token < args.m && k < args.k;
    const T* from = static_cast<const T*>(args.x) + (inside ? token * args.x_stride + k : 0);
    if (args.x_vectors && (!inside || k + 8 <= args.k)) {
      cp_async_16(to, from, inside);
    } else {
      uint32_t b[4];
      load_x<T, 4>(args, token, k, b, 0);
      store16(to, make_uint4(b[0], b[1], b[2], b[3]));
    }
  }
  cp_async_commit();
}

// Grid: (ceil(m / kTokens), ceil(row tiles / 8), groups). Each warp: one row tile, kTokens tokens,
// all of k.
template <WeightFormat kFormat, typename T, int kTokens>
__global__ void __launch_bounds__(kLinearThreads)
    linear_wide_kernel(LinearArgs args, LinearGroups groups) {
  constexpr bool kBlocks16 = weight_layout(kFormat).scale_block == 16;
  constexpr int kStageBytes = kTokens * wide_x_stride<kFormat>();
  PELTON_DYNAMIC_SHARED(uint8_t, shared);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int g = lane / 4, t = lane % 4;
  const int token0 = blockIdx.x * kTokens;
  const uint8_t* weights = enter_group<T>(args, groups);
  if (token0 >= args.m) return;  // of a group of fewer rows
  const int tile = blockIdx.y * kLinearWarps + warp;
  const bool active = tile * kTileRows < args.n;
  const uint8_t* row_tile =
      weights + static_cast<int64_t>(active ? tile : 0) * row_tile_bytes(kFormat, args.k);
  const int chunks = chunks_of_run<kFormat>(args.k, kLinearRuns - 1).end;

  float acc[kTokens / 8][4] = {}, total[kTokens / 8][4] = {};
  WeightStage<kFormat> stages[2];
  LaneScales<kFormat> unit = {};
  for (int s = 0; s < kWideStages - 1; ++s) {
    if (s < chunks) {
      stage_x<kFormat, T, kTokens>(args, token0, s, shared + s * kStageBytes);
    } else {
      cp_async_commit();
    }
  }
  if (active && chunks > 0) stages[0].load(row_tile, 0, args.k, lane);
  int run = 0, run_end = chunks_of_run<kFormat>(args.k, 0).end;
  for (int first = 0; first < chunks; first += 2) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int chunk = first + i;
      if (chunk >= chunks) break;
      if (active && chunk + 1 < chunks) stages[1 - i].load(row_tile, chunk + 1, args.k, lane);
      cp_async_wait<kWideStages - 2>();
      __syncthreads();
      const int ahead = chunk + kWideStages - 1;
      if (ahead < chunks) {
        stage_x<kFormat, T, kTokens>(args, token0, ahead,
                                     shared + ahead % kWideStages * kStageBytes);
      } else {
        cp_async_commit();
      }
      if (!active) continue;
      while (chunk == run_end) {
#pragma unroll
        for (int j = 0; j < kTokens / 8; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) total[j][e] += acc[j][e], acc[j][e] = 0;
        }
        run_end = chunks_of_run<kFormat>(args.k, ++run).end;
      }
      stages[i].take_unit(unit, chunk);
      const uint8_t* x = shared + chunk % kWideStages * kStageBytes;
      multiply_chunk<kFormat, T>(acc, stages[i], [&](uint32_t(&b)[4], int j, int block) {
        const uint8_t* row = x + (8 * j + g) * wide_x_stride<kFormat>() + block * 64;
        if constexpr (kBlocks16) {
          const uint2 low = load8(row + 8 * t), high = load8(row + 32 + 8 * t);
          b[0] = low.x, b[1] = low.y, b[2] = high.x, b[3] = high.y;
        } else {
          const uint4 v = load16(row + 16 * t);
          b[0] = v.x, b[1] = v.y, b[2] = v.z, b[3] = v.w;
        }
      });
    }
  }
  cp_async_wait<0>();
  __syncthreads();
  if (!active) return;
  auto* sums = reinterpret_cast<float*>(shared) + warp * 8 * kSumStride;
#pragma unroll
  for (int j = 0; j < kTokens / 8; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) total[j][e] += acc[j][e];
    put_fragment(sums, total[j], lane);
    __syncwarp();
    const float4 rows = take_rows(sums, lane);
    __syncwarp();
    store_4<T>(args, token0 + 8 * j + taken_token(lane), tile * kTileRows + lane % 4 * 4, rows);
  }
}

cudaError_t launch_linear_bf16(WeightFormat format, const LinearArgs& args,
                               const LinearGroups& groups, cudaStream_t stream);
cudaError_t launch_linear_f16(WeightFormat format, const LinearArgs& args,
                              const LinearGroups& groups, cudaStream_t stream);

}  // namespace pelton::cuda
