// Blocks, warps and their meeting points, through the language that kernels are written in.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "cuda/emulator/fault.h"
#include "cuda/emulator/settings.h"
#include "cuda/kernels/device.h"
#include "cuda/kernels/primitives.h"
#include "tests/support/catch.h"

namespace pelton::cuda {
namespace {

using emulator::Order;
using emulator::Schedule;
using emulator::ScheduleScope;

__global__ void sum_block(const float* in, float* out, int n) {
  PELTON_SHARED(float, partial, 32);
  float sum = 0;
  for (unsigned i = threadIdx.x; i < static_cast<unsigned>(n); i += blockDim.x) {
    sum += in[blockIdx.x * static_cast<unsigned>(n) + i];
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kFullMask, sum, step);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0;
    for (int step = 16; step > 0; step /= 2)
      sum += __shfl_down_sync(kFullMask, sum, static_cast<unsigned>(step));
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
  }
}

std::vector<Schedule> all_schedules() {
  std::vector<Schedule> schedules = {{Order::kForward, 0, 0}, {Order::kReverse, 0, 0}};
  for (uint64_t seed = 1; seed <= 5; ++seed) schedules.push_back({Order::kRandom, seed, 0});
  return schedules;
}

}  // namespace

TEST_CASE("Blocks sum through shuffles, shared memory and a barrier in every schedule") {
  constexpr int kBlocks = 50;
  constexpr int kN = 1000;
  std::vector<float> in(kBlocks * kN);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i % 13);
  for (const Schedule& schedule : all_schedules()) {
    const ScheduleScope scope(schedule);
    std::vector<float> out(kBlocks, -1);
    REQUIRE(launch(sum_block, kBlocks, 256, 0, nullptr, in.data(), out.data(), kN) == cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    for (int b = 0; b < kBlocks; ++b) {
      float want = 0;
      for (int i = 0; i < kN; ++i) want += in[static_cast<size_t>(b * kN + i)];
      CHECK(out[static_cast<size_t>(b)] == want);
    }
  }
}

}  // namespace pelton::cuda
