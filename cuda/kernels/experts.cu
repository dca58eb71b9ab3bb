#include "cuda/kernels/experts.h"

#include "cuda/kernels/row_access.h"

namespace pelton::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRouteThreads = 128;  // a warp a row

struct Choice {
  float logit;
  int expert;
};

__device__ __forceinline__ bool before(const Choice& a, const Choice& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.expert < b.expert);
}

// The first of all lanes' choices.
__device__ __forceinline__ Choice warp_first(Choice mine) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const Choice other{__shfl_xor_sync(kFullMask, mine.logit, distance),
                       __shfl_xor_sync(kFullMask, mine.expert, distance)};
    if (before(other, mine)) mine = other;
  }
  return mine;
}

// A lane holds the experts lane, lane + 32, ...: kPerLane of them.
template <class T, int kPerLane>
__global__ void __launch_bounds__(kRouteThreads) route_kernel(RouteParams p) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kRouteThreads / 32) + threadIdx.x / 32;
  if (row >= p.rows) return;  // a whole warp
  const T* logits = static_cast<const T*>(p.logits) + row * p.logits_stride;
  const float least = -INFINITY;
  float mine[kPerLane];
  bool open[kPerLane];
  float top = least;
  bool is_nan = false;
#pragma unroll
  for (int j = 0; j < kPerLane; ++j) {
    const int expert = j * 32 + lane;
    open[j] = expert < p.experts;
    mine[j] = open[j] ? Element<T>::to_float(logits[expert]) : least;
    if (mine[j] != mine[j]) {
      is_nan = true;
      mine[j] = least;  // it can be chosen all the same: ids are always experts
    }
    top = mine[j] > top ? mine[j] : top;
  }
  is_nan = __any_sync(kFullMask, is_nan);
  top = warp_first({top, lane}).logit;
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kPerLane; ++j) sum += open[j] ? expf(mine[j] - top) : 0.0F;
  sum = lanes_sum<32>(sum);
  int chosen = 0;
  float score = 0, kept = 0;
  for (int i = 0; i < p.top_k; ++i) {
    Choice best{least, kMaxExperts};
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      const Choice next{mine[j], j * 32 + lane};
      if (open[j] && before(next, best)) best = next;
    }
    best = warp_first(best);
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) open[j] = open[j] && best.expert != j * 32 + lane;
    const float s = p.sigmoid ? 1.0F / (1.0F + expf(-best.logit)) : expf(best.logit - top);
    kept += s;
    if (lane == i) chosen = best.expert, score = s;
  }
  if (lane >= p.top_k) return;
  const float divisor = is_nan ? NAN : p.renormalize ? kept : p.sigmoid ? 1.0F : sum;
  p.expert_ids[row * p.top_k + lane] = chosen;
  p.expert_weights[row * p.top_k + lane] = score / divisor * p.scale;
}

// The block's sum of x; `partial` is shared, [kThreads / 32].
__device__ __forceinline__ int block_count(int x, int* partial) {
  x = __reduce_add_sync(kFullMask, x);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  int sum = 0;
  for (int warp = 0; warp < kThreads / 32; ++warp) sum += partial[warp];
  return sum;
}

// A block an expert: counts what stands before it, then takes its entries in order.
__global__ void __launch_bounds__(kThreads) group_by_expert_kernel(GroupByExpertParams p) {
  PELTON_SHARED(int, below_partial, kThreads / 32);
  PELTON_SHARED(int, own_partial, kThreads / 32);
  PELTON_SHARED(int, warp_count, kThreads / 32);
  const int expert = static_cast<int>(blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x);
  int below = 0, own = 0;
  for (int i = thread; i < p.entries; i += kThreads) {
    below += p.expert_ids[i] < expert ? 1 : 0;
    own += p.expert_ids[i] == expert ? 1 : 0;
  }
  int next = block_count(below, below_partial);
  own = block_count(own, own_partial);
  if (thread == 0) {
    p.starts[expert] = next;
    if (expert == p.experts - 1) p.starts[p.experts] = next + own;
  }
  for (int base = 0; base < p.entries; base += kThreads) {
    const int i = base + thread;
    const bool is_own = i < p.entries && p.expert_ids[i] == expert;
    const unsigned owners = __ballot_sync(kFullMask, is_own);
    if (thread % 32 == 0) warp_count[thread / 32] = __popc(owners);
    __syncthreads();
    int place = next, all = 0;
    for (int warp = 0; warp < kThreads / 32; ++warp) {
      if (warp < thread / 32) place += warp_count[warp];
      all += warp_count[warp];
    }
    if (is_own) {
      place += __popc(owners & ((1u << thread % 32) - 1));
      p.place[i] = place;
      p.token_of[place] = i / p.top_k;
    }
    next += all;
    __syncthreads();
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) combine_experts_kernel(CombineExpertsParams p) {
  const int64_t row = blockIdx.x;
  const int32_t* ids = p.expert_ids + row * p.top_k;
  for (int col = static_cast<int>(threadIdx.x) * kWidth; col < p.cols; col += kThreads * kWidth) {
    float sum[kWidth] = {};
    int last = -1;
    for (int i = 0; i < p.top_k; ++i) {
      int at = 0, expert = kMaxExperts;  // the lowest id above `last`
      for (int j = 0; j < p.top_k; ++j) {
        if (ids[j] > last && ids[j] < expert) at = j, expert = ids[j];
      }
      last = expert;
      const float weight = p.expert_weights[row * p.top_k + at];
      float x[kWidth];
      load_elements<kWidth>(
          static_cast<const T*>(p.x) + p.place[row * p.top_k + at] * p.x_stride + col, x);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) sum[k] += weight * x[k];
    }
    store_elements<kWidth>(static_cast<T*>(p.out) + row * p.out_stride + col, sum);
  }
}

template <class T>
cudaError_t route_of_type(const RouteParams& p, cudaStream_t stream) {
  void (*kernel)(RouteParams) = p.experts <= 32    ? route_kernel<T, 1>
                                : p.experts <= 128 ? route_kernel<T, 4>
                                : p.experts <= 256 ? route_kernel<T, 8>
                                                   : route_kernel<T, 32>;
  return launch(kernel, dim3(ceil_div(p.rows, kRouteThreads / 32)), dim3(kRouteThreads), 0, stream,
                p);
}

template <class T>
cudaError_t combine_of_type(const CombineExpertsParams& p, cudaStream_t stream) {
  const bool wide =
      p.cols % 8 == 0 && p.x_stride % 8 == 0 && p.out_stride % 8 == 0 && aligned16(p.x, p.out);
  return launch(wide ? combine_experts_kernel<T, 8> : combine_experts_kernel<T, 1>, dim3(p.rows),
                dim3(kThreads), 0, stream, p);
}

}  // namespace

cudaError_t route(const RouteParams& p, cudaStream_t stream) {
  if (p.rows == 0) return cudaSuccess;
  if (p.rows < 0 || p.experts < 1 || p.experts > kMaxExperts || p.top_k < 1 ||
      p.top_k > p.experts || p.top_k > kMaxExpertsPerToken) {
    return cudaErrorInvalidValue;
  }
  if (p.is_float32) return route_of_type<float>(p, stream);
  return p.type == ElementType::kBF16 ? route_of_type<__nv_bfloat16>(p, stream)
                                      : route_of_type<__half>(p, stream);
}

cudaError_t group_by_expert(const GroupByExpertParams& p, cudaStream_t stream) {
  if (p.entries < 0 || p.experts < 1 || p.experts > kMaxExperts || p.top_k < 1) {
    return cudaErrorInvalidValue;
  }
  return launch(group_by_expert_kernel, dim3(p.experts), dim3(kThreads), 0, stream, p);
}

cudaError_t combine_experts(const CombineExpertsParams& p, cudaStream_t stream) {
  if (p.rows < 0 || p.cols < 0 || p.top_k < 0 || p.top_k > kMaxExpertsPerToken) {
    return cudaErrorInvalidValue;
  }
  if (p.rows == 0 || p.cols == 0) return cudaSuccess;
  return p.type == ElementType::kBF16 ? combine_of_type<__nv_bfloat16>(p, stream)
                                      : combine_of_type<__half>(p, stream);
}

}  // namespace pelton::cuda
