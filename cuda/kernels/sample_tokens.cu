#include "cuda/kernels/sample_tokens.h"

#include "cuda/kernels/device.h"

namespace pelton::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;

using Sum = unsigned long long;

// sampler_exp() and sampler_weight() of backend/sampler_spec.h, operation for operation.
__device__ __forceinline__ float spec_exp(float z) {
  z = -87.0F > z ? -87.0F : z;
  const float shifted = fmaf(z, 1.44269504088896341F, 12582912.0F);
  const float n = shifted - 12582912.0F;
  const float r = fmaf(n, 2.12194440e-4F, fmaf(n, -0.693359375F, z));
  float p = 1.9875691500e-4F;
  p = fmaf(p, r, 1.3981999507e-3F);
  p = fmaf(p, r, 8.3334519073e-3F);
  p = fmaf(p, r, 4.1665795894e-2F);
  p = fmaf(p, r, 1.6666665459e-1F);
  p = fmaf(p, r, 5.0000001201e-1F);
  p = __fadd_rn(fmaf(__fmul_rn(p, r), r, r), 1.0F);
  const auto exponent = static_cast<int32_t>(__float_as_uint(shifted)) -
                        static_cast<int32_t>(__float_as_uint(12582912.0F));
  return __fmul_rn(p, __uint_as_float(static_cast<uint32_t>(exponent + 127) << 23));
}
__device__ __forceinline__ uint32_t spec_weight(float z) {
  return static_cast<uint32_t>(__float2int_rn(__fmul_rn(spec_exp(z), 1073741824.0F)));
}

// Unsigned integers in the order of the floats; -0 and 0 are equal.
__device__ __forceinline__ uint32_t key_of(float x) {
  const uint32_t bits = __float_as_uint(x == 0 ? 0.0F : x);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

struct Candidate {
  float x;
  int id;
};
__device__ __forceinline__ bool comes_first(const Candidate& a, const Candidate& b) {
  return a.x != b.x ? a.x > b.x : a.id < b.id;
}
__device__ __forceinline__ Candidate no_candidate() {
  return {-INFINITY, 0x7FFFFFFF};
}

// What the threads of a CTA share; every function below is called by all of them.
struct Shared {
  Sum sums[kWarps];
  double doubles[kWarps];
  Candidate best[kWarps];
  Sum histogram[256];
  Sum chosen_above;
  int chosen_bin;
  int found;
};

__device__ Sum sum_over_block(Sum value, Shared& shared) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, offset);
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared.sums[threadIdx.x / 32] = value;
  __syncthreads();
  Sum total = 0;
  for (int w = 0; w < kWarps; ++w) total += shared.sums[w];
  return total;
}

// In a fixed order, so that a row's log probabilities never change.
__device__ double sum_over_block(double value, Shared& shared) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, offset);
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared.doubles[threadIdx.x / 32] = value;
  __syncthreads();
  double total = 0;
  for (int w = 0; w < kWarps; ++w) total += shared.doubles[w];
  return total;
}

__device__ Candidate first_over_block(Candidate best, Shared& shared) {
  for (int offset = 16; offset > 0; offset /= 2) {
    const Candidate other = {__shfl_xor_sync(0xFFFFFFFFU, best.x, offset),
                             __shfl_xor_sync(0xFFFFFFFFU, best.id, offset)};
    if (comes_first(other, best)) best = other;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared.best[threadIdx.x / 32] = best;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) {
    if (comes_first(shared.best[w], best)) best = shared.best[w];
  }
  return best;
}

// The first in descending order of those that `below` comes before (none: of all).
__device__ Candidate first_below(const float* x, int vocab, const Candidate* below,
                                 Shared& shared) {
  Candidate best = no_candidate();
  for (int id = threadIdx.x; id < vocab; id += kThreads) {
    const Candidate c = {x[id], id};
    if (below != nullptr && !comes_first(*below, c)) continue;
    if (comes_first(c, best)) best = c;
  }
  return first_over_block(best, shared);
}

// A prefix of the row in descending order: keys above `key`, and those equal to it up to `last_id`.
struct Cut {
  uint32_t key = 0;
  int last_id = 0x7FFFFFFF;
  __device__ bool keeps(uint32_t k, int id) const { return k > key || (k == key && id <= last_id); }
};

// The first id, ascending, at which the running sum of amount(id) exceeds `target`; vocab if none.
// Each warp has a run of ids of its own.
template <typename Amount>
__device__ int first_exceeding(int vocab, Sum target, Amount amount, Shared& shared) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int run = (vocab + kThreads - 1) / kThreads * 32;
  const int begin = min(vocab, warp * run), end = min(vocab, begin + run);
  Sum mine = 0;
  for (int id = begin + lane; id < end; id += 32) mine += amount(id);
  for (int offset = 16; offset > 0; offset /= 2) {
    mine += __shfl_xor_sync(0xFFFFFFFFU, mine, offset);
  }
  __syncthreads();
  if (lane == 0) shared.sums[warp] = mine;
  if (threadIdx.x == 0) shared.found = vocab;
  __syncthreads();
  Sum before = 0;
  for (int w = 0; w < warp; ++w) before += shared.sums[w];
  if (before <= target && before + mine > target) {
    for (int id0 = begin; id0 < end; id0 += 32) {
      const int id = id0 + lane;
      Sum running = id < end ? amount(id) : 0;
      for (int offset = 1; offset < 32; offset *= 2) {
        const Sum other = __shfl_up_sync(0xFFFFFFFFU, running, offset);
        if (lane >= offset) running += other;
      }
      const unsigned over = __ballot_sync(0xFFFFFFFFU, before + running > target);
      if (over != 0) {
        if (lane == 0) shared.found = id0 + __ffs(over) - 1;
        break;
      }
      before += __shfl_sync(0xFFFFFFFFU, running, 31);
    }
  }
  __syncthreads();
  return shared.found;
}

// The smallest prefix in descending order whose amounts reach `target` (at least 1); everything
// where it is not reached. Equal keys have equal amounts. Radix selection, eight bits a pass.
template <typename Key, typename Amount>
__device__ Cut smallest_prefix(int vocab, Sum target, Key key, Amount amount, Shared& shared) {
  uint32_t prefix = 0;
  Sum above = 0;  // amounts of keys beyond the prefix's range
  for (int shift = 24; shift >= 0; shift -= 8) {
    __syncthreads();
    for (int bin = threadIdx.x; bin < 256; bin += kThreads) shared.histogram[bin] = 0;
    __syncthreads();
    for (int id = threadIdx.x; id < vocab; id += kThreads) {
      const uint32_t k = key(id);
      if (shift < 24 && k >> (shift + 8) != prefix >> (shift + 8)) continue;
      const Sum a = amount(id);
      if (a != 0) atomicAdd(&shared.histogram[k >> shift & 255U], a);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      shared.chosen_bin = -1;
      Sum sum = above;
      for (int bin = 255; bin >= 0; --bin) {
        if (sum + shared.histogram[bin] >= target) {
          shared.chosen_bin = bin;
          break;
        }
        sum += shared.histogram[bin];
      }
      shared.chosen_above = sum;
    }
    __syncthreads();
    if (shared.chosen_bin < 0) return {};
    prefix |= static_cast<uint32_t>(shared.chosen_bin) << shift;
    above = shared.chosen_above;
  }
  Cut cut;
  cut.key = prefix;
  const auto tied = [&](int id) { return key(id) == prefix ? amount(id) : Sum{0}; };
  cut.last_id = first_exceeding(vocab, target - above - 1, tied, shared);
  return cut;
}

__device__ __forceinline__ Sum threshold(float fraction, Sum of) {
  return static_cast<Sum>(ceil(static_cast<double>(fraction) * static_cast<double>(of)));
}

// One row with temperature: x [vocab] divided, `top` its largest.
__device__ int draw(const float* x, int vocab, float top, const SampleTask& row, Shared& shared) {
  const auto key = [&](int id) { return key_of(x[id]); };
  const auto weight = [&](int id) -> Sum { return spec_weight(x[id] - top); };
  Cut top_k;
  if (row.top_k > 0 && row.top_k < vocab) {
    const auto one = [](int) -> Sum { return 1; };
    top_k = smallest_prefix(vocab, row.top_k, key, one, shared);
  }
  const auto in_top_k = [&](int id) -> Sum { return top_k.keeps(key(id), id) ? weight(id) : 0; };
  const auto total_of = [&](const auto& amount) {
    Sum mine = 0;
    for (int id = threadIdx.x; id < vocab; id += kThreads) mine += amount(id);
    return sum_over_block(mine, shared);
  };
  const Sum least = max(1U, row.min_weight);
  const auto in_min_p = [&](int id) -> Sum {
    const Sum w = in_top_k(id);
    return w >= least ? w : 0;
  };
  Cut top_p;
  if (row.top_p < 1.0F) {
    const Sum target = max(Sum{1}, threshold(row.top_p, total_of(in_top_k)));
    top_p = smallest_prefix(vocab, target, key, in_min_p, shared);
  }
  const auto kept = [&](int id) -> Sum { return top_p.keeps(key(id), id) ? in_min_p(id) : 0; };
  const Sum total = total_of(kept);
  const auto target =
      static_cast<Sum>(static_cast<double>(row.uniform) * static_cast<double>(total));
  return first_exceeding(vocab, target, kept, shared);
}

// Copies a row's logits to x with bans and mask applied; true where it holds a NaN or +inf.
__device__ bool prepare_row(const SampleParams& p, const SampleTask& row, const float* logits,
                            float* x, Shared& shared) {
  const uint32_t* mask =
      row.mask < 0 ? nullptr : p.masks + static_cast<int64_t>(row.mask) * ((p.vocab + 31) / 32);
  Sum bad = 0;
  for (int id = threadIdx.x; id < p.vocab; id += kThreads) {
    const float value = logits[id];
    if (!(value < INFINITY)) ++bad;
    const bool allowed = mask == nullptr || (mask[id / 32] >> (id % 32) & 1U) != 0;
    x[id] = allowed ? value : -INFINITY;
  }
  const bool any = sum_over_block(bad, shared) != 0;
  for (int i = row.banned_begin + threadIdx.x; i < row.banned_end; i += kThreads) {
    x[p.banned[i]] = -INFINITY;
  }
  __syncthreads();
  return any;
}

// Greedy, and every id is allowed: one pass over the logits as they are. -1 where one of them is a
// NaN or +inf, or none is finite.
__device__ int likeliest(const SampleParams& p, const float* logits, Shared& shared) {
  Sum bad = 0;
  Candidate best = no_candidate();
  for (int id = threadIdx.x; id < p.vocab; id += kThreads) {
    const Candidate c = {logits[id], id};
    if (!(c.x < INFINITY)) ++bad;
    if (comes_first(c, best)) best = c;
  }
  if (sum_over_block(bad, shared) != 0) return -1;
  best = first_over_block(best, shared);
  return best.x == -INFINITY ? -1 : best.id;
}
__device__ __forceinline__ bool takes_likeliest(const SampleTask& row) {
  return row.temperature == 0.0F && row.forced_token < 0 && row.mask < 0 &&
         row.banned_begin == row.banned_end;
}

// The token of a row whose logits are well; -1 where nothing finite is left.
__device__ int choose(const SampleParams& p, const SampleTask& row, float* x, Shared& shared) {
  if (row.forced_token >= 0) return row.forced_token;
  const Candidate best = first_below(x, p.vocab, nullptr, shared);
  if (best.x == -INFINITY) return -1;
  const float top = __fdiv_rn(best.x, row.temperature);
  if (row.temperature == 0.0F || !(fabsf(top) < INFINITY)) return best.id;
  for (int id = threadIdx.x; id < p.vocab; id += kThreads) {
    x[id] = __fdiv_rn(x[id], row.temperature);
  }
  __syncthreads();
  return draw(x, p.vocab, top, row, shared);
}

// Log probabilities of the raw logits: the token's, its rank, and those of the likeliest.
__device__ void score(const SampleParams& p, const SampleTask& row, const float* logits,
                      SampleResult& result, Shared& shared) {
  Candidate best = first_below(logits, p.vocab, nullptr, shared);
  const float max = best.x;
  const Candidate chosen = {logits[result.token], result.token};
  double exp_sum = 0;
  Sum before = 0;
  for (int id = threadIdx.x; id < p.vocab; id += kThreads) {
    exp_sum += exp(static_cast<double>(logits[id] - max));
    if (comes_first({logits[id], id}, chosen)) ++before;
  }
  const double log_sum = log(sum_over_block(exp_sum, shared));
  result.rank = static_cast<int>(sum_over_block(before, shared)) + 1;
  const auto logprob = [&](float x) {
    return static_cast<float>(static_cast<double>(x) - max - log_sum);
  };
  result.logprob = logprob(chosen.x);
  const int64_t at = static_cast<int64_t>(blockIdx.x) * p.max_top;
  for (int i = 0; i < row.logprobs && i < p.vocab; ++i) {
    if (i > 0) best = first_below(logits, p.vocab, &best, shared);
    if (threadIdx.x == 0) {
      p.top[at + i] = {best.id, logprob(best.x)};
    }
  }
}

__global__ void __launch_bounds__(kThreads, 2) sample_tokens_kernel(SampleParams p) {
  PELTON_SHARED(Shared, shared_array, 1);
  Shared& shared = shared_array[0];
  const SampleTask row = p.tasks[blockIdx.x];
  const float* logits = p.logits + row.logit_row * p.logits_stride;
  float* x = static_cast<float*>(p.workspace) + static_cast<int64_t>(blockIdx.x) * p.vocab;
  SampleResult result;
  const int token = takes_likeliest(row)                     ? likeliest(p, logits, shared)
                    : prepare_row(p, row, logits, x, shared) ? -1
                                                             : choose(p, row, x, shared);
  if (token < 0) {
    result.nan = 1;
  } else {
    result.token = token;
    if (row.logprobs >= 0) score(p, row, logits, result, shared);
  }
  if (threadIdx.x == 0) {
    p.results[blockIdx.x] = result;
    p.tokens[blockIdx.x] = result.token;
  }
}

}  // namespace

int64_t sample_workspace_bytes(int num_tasks, int vocab) {
  return static_cast<int64_t>(num_tasks) * vocab * static_cast<int64_t>(sizeof(float));
}

cudaError_t sample_tokens(const SampleParams& params, cudaStream_t stream) {
  if (params.num_tasks == 0) return cudaSuccess;
  return launch(sample_tokens_kernel, dim3(params.num_tasks), dim3(kThreads), 0, stream, params);
}

}  // namespace pelton::cuda
