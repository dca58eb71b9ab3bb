#include "cuda/kernels/rope_kv.h"

#include "cuda/kernels/row_access.h"

namespace pelton::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kMaxHeadDim = 256;

// Where a head of qkv goes.
struct HeadPlace {
  int64_t row;
  int head;  // of qkv: q heads, k heads, v heads
  bool is_q;
  bool is_v;
  int64_t slot;  // -1: no write to the cache
};

__device__ __forceinline__ HeadPlace place_of(const RopeKvParams& p, int64_t row, int head) {
  HeadPlace place{row, head, head < p.num_q_heads, head >= p.num_q_heads + p.num_kv_heads, -1};
  if (!place.is_q && p.kv.data != nullptr) place.slot = p.slots[row];
  return place;
}
__device__ __forceinline__ const float* norm_weight_of(const RopeKvParams& p,
                                                       const HeadPlace& place) {
  return place.is_q ? p.q_norm : place.is_v ? nullptr : p.k_norm;
}

// Byte offsets in the layer's part of the cache: of the head's row and of its scale.
__device__ __forceinline__ int64_t cache_row(const RopeKvParams& p, const HeadPlace& place) {
  const int block_size = p.kv.shape.block_size;
  const int64_t block = place.slot / block_size;
  const int offset = static_cast<int>(place.slot % block_size);
  const int head = place.head - p.num_q_heads;
  return place.is_v ? p.kv.v_row(block, head - p.num_kv_heads, offset)
                    : p.kv.k_row(block, head, offset);
}
__device__ __forceinline__ int64_t cache_scale(const RopeKvParams& p, const HeadPlace& place) {
  const int block_size = p.kv.shape.block_size;
  const int64_t block = place.slot / block_size;
  const int offset = static_cast<int>(place.slot % block_size);
  const int head = place.head - p.num_q_heads;
  return place.is_v ? p.kv.v_scale(block, head - p.num_kv_heads, offset)
                    : p.kv.k_scale(block, head, offset);
}

// The 8-bit code of x under 1 / scale.
__device__ __forceinline__ uint32_t encode(KvType type, float x, float inverse) {
  const float scaled = x * inverse;
  if (type == KvType::kF8E4M3) {
    return __nv_cvt_float_to_fp8(scaled, __NV_SATFINITE, __NV_E4M3);
  }
  const float rounded = rintf(scaled);
  const int code = static_cast<int>(rounded > 127.0F    ? 127.0F
                                    : rounded < -127.0F ? -127.0F
                                                        : rounded);
  return static_cast<uint32_t>(code) & 0xffu;
}

template <int kLanes>
__device__ __forceinline__ float lanes_max(float x) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(kFullMask, x, distance);
    x = x > other ? x : other;
  }
  return x;
}

// kLanes lanes hold a head, eight elements each; those beyond head_dim hold zeros.
template <int kLanes>
__device__ __forceinline__ void normalize_head(const RopeKvParams& p, const float* weight, int col,
                                               float (&x)[8]) {
  float squares = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) squares += x[i] * x[i];
  squares = lanes_sum<kLanes>(squares);
  if (weight == nullptr || col >= p.head_dim) return;
  const float scale = 1.0F / sqrtf(squares / static_cast<float>(p.head_dim) + p.norm_eps);
  float w[8];
  load_elements<8>(weight + col, w);
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] *= scale * w[i];
}

template <int kLanes>
__device__ __forceinline__ void rotate_halves(const RopeKvParams& p, const float* table, int col,
                                              bool turns, float (&x)[8]) {
  const int half = p.rotary_dim / 2;
  const bool second = col >= half;
  const int partner = (second ? col - half : col + half) / 8 % kLanes;
  float other[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) other[i] = __shfl_sync(kFullMask, x[i], partner, kLanes);
  if (!turns || col >= p.rotary_dim) return;
  float cosine[8], sine[8];
  load_elements<8>(table + (second ? col - half : col), cosine);
  load_elements<8>(table + (second ? col : col + half), sine);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    x[i] = x[i] * cosine[i] + (second ? other[i] : -other[i]) * sine[i];
  }
}

__device__ __forceinline__ void rotate_pairs(const RopeKvParams& p, const float* table, int col,
                                             bool turns, float (&x)[8]) {
  if (!turns || col >= p.rotary_dim) return;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float cosine = table[col / 2 + i], sine = table[p.rotary_dim / 2 + col / 2 + i];
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cosine - b * sine;
    x[2 * i + 1] = b * cosine + a * sine;
  }
}

template <class T, int kLanes>
__device__ __forceinline__ void write_cache(const RopeKvParams& p, const HeadPlace& place, int col,
                                            bool holds, const float (&x)[8]) {
  const KvType type = p.kv.shape.type;
  if (!kv_has_scales(type)) {
    if (holds && place.slot >= 0) {
      store16(p.kv.data + cache_row(p, place) + col * 2, pack8<T>(x));
    }
    return;
  }
  float largest = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float size = fabsf(x[i]);
    largest = largest > size ? largest : size;
  }
  largest = lanes_max<kLanes>(largest);
  if (!holds || place.slot < 0) return;
  const float scale = largest / kv_largest_code(type);
  const float inverse = scale > 0 ? 1.0F / scale : 0.0F;
  uint32_t codes[2] = {};
#pragma unroll
  for (int i = 0; i < 8; ++i) codes[i / 4] |= encode(type, x[i], inverse) << 8 * (i % 4);
  *reinterpret_cast<uint2*>(p.kv.data + cache_row(p, place) + col) = make_uint2(codes[0], codes[1]);
  if (col == 0) *reinterpret_cast<float*>(p.kv.data + cache_scale(p, place)) = scale;
}

// Blocks take kThreads / kLanes heads each, a token's blocks one after the other.
template <class T, int kLanes>
__global__ void __launch_bounds__(kThreads) rope_kv_kernel(RopeKvParams p) {
  constexpr int kHeads = kThreads / kLanes;
  const int heads = p.num_q_heads + 2 * p.num_kv_heads;
  const int blocks = (heads + kHeads - 1) / kHeads;
  const int64_t row = blockIdx.x / blocks;
  const int head =
      static_cast<int>(blockIdx.x % blocks) * kHeads + static_cast<int>(threadIdx.x) / kLanes;
  const int col = static_cast<int>(threadIdx.x) % kLanes * 8;
  const bool holds = head < heads && col < p.head_dim;  // all lanes go on: they meet in shuffles
  const HeadPlace place = place_of(p, row, head < heads ? head : heads - 1);
  T* here = static_cast<T*>(p.qkv) + row * p.qkv_stride +
            static_cast<int64_t>(place.head) * p.head_dim + col;
  float x[8] = {};
  if (holds) load_elements<8>(here, x);
  if (p.q_norm != nullptr || p.k_norm != nullptr) {
    normalize_head<kLanes>(p, norm_weight_of(p, place), col, x);
  }
  if (p.cos_sin != nullptr) {
    const float* table = p.cos_sin + static_cast<int64_t>(p.positions[row]) * p.rotary_dim;
    const bool turns = holds && !place.is_v;
    if (p.interleaved) {
      rotate_pairs(p, table, col, turns, x);
    } else {
      rotate_halves<kLanes>(p, table, col, turns, x);
    }
  }
  const bool stays = place.is_q || (!place.is_v && p.kv.data == nullptr);
  if (holds && stays && (p.cos_sin != nullptr || norm_weight_of(p, place) != nullptr)) {
    store_elements<8>(here, x);
  }
  if (p.kv.data != nullptr) write_cache<T, kLanes>(p, place, col, holds && !place.is_q, x);
}

// Any shape: a warp a head, which it holds in shared memory.
template <class T>
__global__ void __launch_bounds__(kThreads) rope_kv_any_kernel(RopeKvParams p) {
  constexpr int kWarps = kThreads / 32;
  PELTON_SHARED(float, all_heads, kWarps* kMaxHeadDim);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int heads = p.num_q_heads + 2 * p.num_kv_heads;
  const int blocks = (heads + kWarps - 1) / kWarps;
  const int64_t row = blockIdx.x / blocks;
  const int head = static_cast<int>(blockIdx.x % blocks) * kWarps + warp;
  if (head >= heads) return;  // a whole warp: the block has no barrier
  const HeadPlace place = place_of(p, row, head);
  float* x = all_heads + warp * kMaxHeadDim;
  T* here = static_cast<T*>(p.qkv) + row * p.qkv_stride + static_cast<int64_t>(head) * p.head_dim;
  const float* weight = norm_weight_of(p, place);
  float squares = 0;
  for (int i = lane; i < p.head_dim; i += 32) {
    x[i] = Element<T>::to_float(here[i]);
    squares += x[i] * x[i];
  }
  squares = lanes_sum<32>(squares);
  if (weight != nullptr) {
    const float scale = 1.0F / sqrtf(squares / static_cast<float>(p.head_dim) + p.norm_eps);
    for (int i = lane; i < p.head_dim; i += 32) x[i] *= scale * weight[i];
  }
  __syncwarp();
  if (p.cos_sin != nullptr && !place.is_v) {
    const float* table = p.cos_sin + static_cast<int64_t>(p.positions[row]) * p.rotary_dim;
    const int half = p.rotary_dim / 2;
    for (int i = lane; i < half; i += 32) {
      float& first = x[p.interleaved ? 2 * i : i];
      float& second = x[p.interleaved ? 2 * i + 1 : i + half];
      const float a = first, b = second;
      first = a * table[i] - b * table[half + i];
      second = b * table[i] + a * table[half + i];
    }
  }
  __syncwarp();
  const bool stays = place.is_q || (!place.is_v && p.kv.data == nullptr);
  for (int i = lane; stays && i < p.head_dim; i += 32) here[i] = Element<T>::from_float(x[i]);
  if (place.is_q || place.slot < 0) return;
  const KvType type = p.kv.shape.type;
  std::byte* target = p.kv.data + cache_row(p, place);
  if (!kv_has_scales(type)) {
    for (int i = lane; i < p.head_dim; i += 32) {
      reinterpret_cast<T*>(target)[i] = Element<T>::from_float(x[i]);
    }
    return;
  }
  float largest = 0;
  for (int i = lane; i < p.head_dim; i += 32) {
    largest = largest > fabsf(x[i]) ? largest : fabsf(x[i]);
  }
  largest = lanes_max<32>(largest);
  const float scale = largest / kv_largest_code(type);
  const float inverse = scale > 0 ? 1.0F / scale : 0.0F;
  for (int i = lane; i < p.head_dim; i += 32) {
    reinterpret_cast<uint8_t*>(target)[i] = static_cast<uint8_t>(encode(type, x[i], inverse));
  }
  if (lane == 0) *reinterpret_cast<float*>(p.kv.data + cache_scale(p, place)) = scale;
}

bool takes_vectors(const RopeKvParams& p) {
  const bool table = p.cos_sin == nullptr ||
                     (aligned16(p.cos_sin) && p.rotary_dim % (p.interleaved ? 8 : 16) == 0);
  return table && p.head_dim % 8 == 0 && p.qkv_stride % 8 == 0 &&
         aligned16(p.qkv, p.q_norm, p.k_norm) && aligned16(p.kv.data);
}

template <class T>
cudaError_t dispatch(const RopeKvParams& p, cudaStream_t stream) {
  const auto go = [&](void (*kernel)(RopeKvParams), int lanes) {
    const int heads_a_block = kThreads / lanes;
    const unsigned blocks = ceil_div(p.num_q_heads + 2 * p.num_kv_heads, heads_a_block);
    return launch(kernel, dim3(blocks * p.rows), dim3(kThreads), 0, stream, p);
  };
  if (!takes_vectors(p)) return go(rope_kv_any_kernel<T>, 32);
  if (p.head_dim <= 8) return go(rope_kv_kernel<T, 1>, 1);
  if (p.head_dim <= 16) return go(rope_kv_kernel<T, 2>, 2);
  if (p.head_dim <= 32) return go(rope_kv_kernel<T, 4>, 4);
  if (p.head_dim <= 64) return go(rope_kv_kernel<T, 8>, 8);
  if (p.head_dim <= 128) return go(rope_kv_kernel<T, 16>, 16);
  return go(rope_kv_kernel<T, 32>, 32);
}

}  // namespace

cudaError_t rope_kv(const RopeKvParams& p, cudaStream_t stream) {
  if (p.rows == 0) return cudaSuccess;
  const bool cached = p.kv.data != nullptr;
  const KvType own = p.type == ElementType::kBF16 ? KvType::kBF16 : KvType::kF16;
  if (p.rows < 0 || p.num_q_heads < 0 || p.num_kv_heads < 0 || p.head_dim < 1 ||
      p.head_dim > kMaxHeadDim || p.num_q_heads + 2 * p.num_kv_heads < 1 ||
      p.rotary_dim > p.head_dim || p.rotary_dim % 2 != 0 ||
      (cached &&
       (p.kv.shape.num_kv_heads != p.num_kv_heads || p.kv.shape.head_dim != p.head_dim ||
        p.slots == nullptr || (!kv_has_scales(p.kv.shape.type) && p.kv.shape.type != own)))) {
    return cudaErrorInvalidValue;
  }
  return p.type == ElementType::kBF16 ? dispatch<__nv_bfloat16>(p, stream)
                                      : dispatch<__half>(p, stream);
}

}  // namespace pelton::cuda
