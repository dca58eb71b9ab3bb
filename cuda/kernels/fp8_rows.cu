#include "cuda/kernels/fp8_rows.h"

#include "cuda/kernels/device.h"
#include "cuda/kernels/element.h"
#include "cuda/kernels/primitives.h"
#include "cuda/kernels/weight_layout.h"

namespace pelton::cuda {
namespace {

constexpr int kThreads = 256;
constexpr float kLargestCode = 448.0F;
static_assert(weight_layout(WeightFormat::kF8_128).unit_k == kFp8Group);

__device__ __forceinline__ uint32_t fp8_code(float x) {
  return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
}

// A warp takes a group of a row, a lane four elements of it.
template <class T>
__global__ void __launch_bounds__(kThreads) quantize_fp8_kernel(QuantizeFp8Params p) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  const int groups = p.k / kFp8Group;
  if (warp >= static_cast<int64_t>(p.rows) * groups) return;  // a whole warp
  const int64_t row = warp / groups;
  const int group = static_cast<int>(warp % groups);
  const int64_t at = group * kFp8Group + 4 * lane;
  const uint2 bits = load8(static_cast<const T*>(p.x) + row * p.x_stride + at);
  float x[4];
  unpack2<T>(bits.x, x[0], x[1]);
  unpack2<T>(bits.y, x[2], x[3]);
  float largest = fmaxf(fmaxf(fabsf(x[0]), fabsf(x[1])), fmaxf(fabsf(x[2]), fabsf(x[3])));
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(kFullMask, largest, distance));
  }
  const float scale = largest > 0 ? largest / kLargestCode : 1.0F;
  const float inverse = 1.0F / scale;
  const uint32_t codes = fp8_code(x[0] * inverse) | fp8_code(x[1] * inverse) << 8 |
                         fp8_code(x[2] * inverse) << 16 | fp8_code(x[3] * inverse) << 24;
  *reinterpret_cast<uint32_t*>(p.codes + row * p.k + at) = codes;
  if (lane == 0) p.scales[static_cast<int64_t>(group) * p.rows + row] = scale;
}

// A warp takes a unit of a row tile: 16 rows of 128. In each 16 bytes of a lane lie eight
// neighbours in k of row lane / 4, and between them those of the row 8 below.
__global__ void __launch_bounds__(kThreads) unpack_fp8_kernel(UnpackFp8Params p) {
  constexpr WeightFormat kFormat = WeightFormat::kF8_128;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  const int units = p.k / kFp8Group;
  const int64_t tile = warp / units;
  if (tile * kTileRows >= p.n) return;  // a whole warp
  const int unit = static_cast<int>(warp % units);
  const uint8_t* source = static_cast<const uint8_t*>(p.packed) +
                          tile * row_tile_bytes(kFormat, p.k) +
                          static_cast<int64_t>(unit) * unit_bytes(kFormat);
  const int64_t row = tile * kTileRows + lane / 4;
#pragma unroll
  for (int part = 0; part < 4; ++part) {  // 32 of k
    const uint4 w = load16_streaming(source + (part * 32 + lane) * 16);
    const int64_t k = unit * kFp8Group + 32 * part + 8 * (lane % 4);
    if (row < p.n) {
      store8(p.codes + row * p.k + k,
             make_uint2(__byte_perm(w.x, w.y, 0x6420), __byte_perm(w.z, w.w, 0x6420)));
    }
    if (row + 8 < p.n) {
      store8(p.codes + (row + 8) * p.k + k,
             make_uint2(__byte_perm(w.x, w.y, 0x7531), __byte_perm(w.z, w.w, 0x7531)));
    }
  }
  const int64_t mine = tile * kTileRows + lane;
  if (lane < kTileRows && mine < p.n) {
    const auto* scales = reinterpret_cast<const float*>(source + 2 * chunk_code_bytes(kFormat));
    p.scales[static_cast<int64_t>(unit) * p.n + mine] = scales[lane % 8 * 2 + lane / 8];
  }
}

unsigned blocks_for(int64_t warps) {
  return static_cast<unsigned>((warps + kThreads / 32 - 1) / (kThreads / 32));
}

}  // namespace

cudaError_t quantize_fp8(const QuantizeFp8Params& params, cudaStream_t stream) {
  if (params.rows < 0 || params.k <= 0 || params.k % kFp8Group != 0 || params.x_stride % 4 != 0) {
    return cudaErrorInvalidValue;
  }
  if (params.rows == 0) return cudaSuccess;
  const dim3 grid(blocks_for(static_cast<int64_t>(params.rows) * (params.k / kFp8Group)));
  if (params.type == ElementType::kBF16) {
    return launch(quantize_fp8_kernel<BF16>, grid, dim3(kThreads), 0, stream, params);
  }
  return launch(quantize_fp8_kernel<F16>, grid, dim3(kThreads), 0, stream, params);
}

cudaError_t unpack_fp8(const UnpackFp8Params& params, cudaStream_t stream) {
  if (params.n < 0 || params.k <= 0 || params.k % kFp8Group != 0) return cudaErrorInvalidValue;
  if (params.n == 0) return cudaSuccess;
  const int64_t tiles = (params.n + kTileRows - 1) / kTileRows;
  return launch(unpack_fp8_kernel, dim3(blocks_for(tiles * (params.k / kFp8Group))), dim3(kThreads),
                0, stream, params);
}

}  // namespace pelton::cuda
