// Blocks, warps and their meeting points, through the language that kernels are written in.
#include <algorithm>
#include <bit>
#include <numeric>
#include <thread>

#include "cuda/kernels/primitives.h"
#include "tests/cuda/emulator/launch_support.h"

namespace pelton::cuda {
namespace {

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
    for (unsigned step = 16; step > 0; step /= 2) sum += __shfl_down_sync(kFullMask, sum, step);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
  }
}

__global__ void thread_indices(uint3* out) {
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  __syncthreads();
  out[block * threads + thread] = {threadIdx.x, threadIdx.y, threadIdx.z + 100 * blockIdx.y};
}

// out: [num_results, 32]
__global__ void collectives(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  int row = 0;
  const auto put = [&](int value) { out[32 * row++ + lane] = value; };
  put(__shfl_sync(kFullMask, lane * 10, 5));
  put(__shfl_sync(kFullMask, lane, lane + 1, 8));
  put(__shfl_up_sync(kFullMask, lane, 3));
  put(__shfl_down_sync(kFullMask, lane, 4, 16));
  put(__shfl_xor_sync(kFullMask, lane, 9));
  put(static_cast<int>(__ballot_sync(kFullMask, lane % 3 == 0)));
  put(__any_sync(kFullMask, lane == 31) + 10 * __any_sync(kFullMask, lane > 40));
  put(__all_sync(kFullMask, lane < 32) + 10 * __all_sync(kFullMask, lane < 31));
  put(__reduce_add_sync(kFullMask, lane));
  put(__reduce_max_sync(kFullMask, -lane));
  put(static_cast<int>(__reduce_min_sync(kFullMask, static_cast<unsigned>(lane) + 7)));
  put(static_cast<int>(__match_any_sync(kFullMask, lane % 4)));
  // Half a warp by itself, on either side of a branch.
  if (lane < 16) {
    put(__reduce_add_sync(0x0000ffffu, lane));
  } else {
    put(__reduce_add_sync(0xffff0000u, lane));
  }
}

// Producers fill, consumers drain, through two named barriers a stage.
__global__ void handshake(int* out) {
  PELTON_SHARED(int, slot, 32);
  const bool producer = threadIdx.x < 32;
  for (int stage = 0; stage < 4; ++stage) {
    if (producer) {
      if (stage > 0) named_barrier_sync(2, 64);
      slot[threadIdx.x] = stage * 100 + static_cast<int>(threadIdx.x);
      named_barrier_arrive(1, 64);
    } else {
      named_barrier_sync(1, 64);
      out[stage * 32 + static_cast<int>(threadIdx.x) - 32] = slot[63 - threadIdx.x];
      if (stage < 3) named_barrier_arrive(2, 64);
    }
  }
}

__global__ void count_votes(int* out) {
  const int even = threadIdx.x % 2 == 0;
  const int count = __syncthreads_count(even);
  const int all = __syncthreads_and(even);
  const int any = __syncthreads_or(threadIdx.x == 77);
  if (threadIdx.x == 0) out[0] = count, out[1] = all, out[2] = any;
}

// The last block to finish adds up what all others left.
__global__ void last_block_sums(const int* in, int* partial, unsigned* finished, int* out) {
  PELTON_SHARED(bool, is_last, 1);
  const int sum = __reduce_add_sync(kFullMask, in[blockIdx.x * 32 + threadIdx.x]);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    __threadfence();
    is_last[0] = atomicAdd(finished, 1u) == gridDim.x - 1;
  }
  __syncwarp();
  if (!is_last[0]) return;
  __threadfence();
  int total = 0;
  for (unsigned b = threadIdx.x; b < gridDim.x; b += 32) total += partial[b];
  total = __reduce_add_sync(kFullMask, total);
  if (threadIdx.x == 0) *out = total;
}

__global__ void atomics(float* sum, int* minimum, unsigned* bits, unsigned long long* wide) {
  atomicAdd(sum, 0.5f);
  atomicMin(minimum, -static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x));
  atomicOr(bits, 1u << threadIdx.x % 32);
  atomicAdd(wide, 1ull << 33);
}

}  // namespace

TEST_CASE("Blocks sum through shuffles and shared memory and a barrier in every schedule") {
  constexpr int kBlocks = 50;
  constexpr int kN = 1000;
  std::vector<float> in(kBlocks * kN);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i % 13);
  const DeviceBuffer<float> device_in(in);
  for (const auto& schedule : all_schedules()) {
    const ScheduleScope scope(schedule);
    const DeviceBuffer<float> out(kBlocks);
    REQUIRE(run_kernel(sum_block, kBlocks, 256, 0, device_in.get(), out.get(), kN) == cudaSuccess);
    const std::vector<float> got = out.host();
    for (int b = 0; b < kBlocks; ++b) {
      const auto begin = in.begin() + b * kN;
      CHECK(got[static_cast<size_t>(b)] == std::accumulate(begin, begin + kN, 0.0f));
    }
  }
}

TEST_CASE("Every thread of every block runs once with its own indices") {
  const dim3 grid(3, 2, 2);
  const dim3 block(5, 4, 3);
  const DeviceBuffer<uint3> out(12 * 60);
  REQUIRE(run_kernel(thread_indices, grid, block, 0, out.get()) == cudaSuccess);
  const auto got = out.host();
  for (unsigned i = 0; i < got.size(); ++i) {
    const unsigned thread = i % 60;
    CHECK(got[i].x == thread % 5);
    CHECK(got[i].y == thread / 5 % 4);
    CHECK(got[i].z == thread / 20 + 100 * (i / 60 / 3 % 2));
  }
}

TEST_CASE("Warp collectives give what the CUDA guide says") {
  for (const auto& schedule : all_schedules()) {
    const ScheduleScope scope(schedule);
    const DeviceBuffer<int> out(13 * 32);
    REQUIRE(run_kernel(collectives, 1, 32, 0, out.get()) == cudaSuccess);
    const auto got = out.host();
    for (int lane = 0; lane < 32; ++lane) {
      const auto row = [&](int r) { return got[static_cast<size_t>(32 * r + lane)]; };
      CHECK(row(0) == 50);
      CHECK(row(1) == lane / 8 * 8 + (lane + 1) % 8);
      CHECK(row(2) == (lane >= 3 ? lane - 3 : lane));
      CHECK(row(3) == (lane % 16 + 4 < 16 ? lane + 4 : lane));
      CHECK(row(4) == (lane ^ 9));
      CHECK(static_cast<unsigned>(row(5)) == 0x49249249u);
      CHECK(row(6) == 1);
      CHECK(row(7) == 1);
      CHECK(row(8) == 496);
      CHECK(row(9) == 0);
      CHECK(row(10) == 7);
      CHECK(static_cast<unsigned>(row(11)) == 0x11111111u << lane % 4);
      CHECK(row(12) == (lane < 16 ? 120 : 376));
    }
  }
}

TEST_CASE("Named barriers hand slots from producers to consumers") {
  for (const auto& schedule : all_schedules()) {
    const ScheduleScope scope(schedule);
    const DeviceBuffer<int> out(4 * 32);
    REQUIRE(run_kernel(handshake, 1, 64, 0, out.get()) == cudaSuccess);
    const auto got = out.host();
    for (int i = 0; i < 128; ++i) CHECK(got[static_cast<size_t>(i)] == i / 32 * 100 + 31 - i % 32);
  }
}

TEST_CASE("Barriers that vote count over the whole block") {
  const DeviceBuffer<int> out(3);
  REQUIRE(run_kernel(count_votes, 1, 100, 0, out.get()) == cudaSuccess);
  CHECK(out.host() == std::vector<int>{50, 0, 1});
}

TEST_CASE("The last block to count itself sees what all others wrote") {
  constexpr unsigned kBlocks = 300;
  std::vector<int> in(kBlocks * 32);
  std::iota(in.begin(), in.end(), 0);
  const DeviceBuffer<int> device_in(in);
  for (const auto& schedule : all_schedules()) {
    const ScheduleScope scope(schedule);
    const DeviceBuffer<int> partial(kBlocks);
    const DeviceBuffer<unsigned> finished(std::vector<unsigned>{0});
    const DeviceBuffer<int> out(1);
    REQUIRE(run_kernel(last_block_sums, kBlocks, 32, 0, device_in.get(), partial.get(),
                       finished.get(), out.get()) == cudaSuccess);
    CHECK(out.host()[0] == std::accumulate(in.begin(), in.end(), 0));
  }
}

TEST_CASE("Atomics of many blocks lose nothing") {
  const DeviceBuffer<float> sum(std::vector<float>{0});
  const DeviceBuffer<int> minimum(std::vector<int>{5});
  const DeviceBuffer<unsigned> bits(std::vector<unsigned>{0});
  const DeviceBuffer<unsigned long long> wide(std::vector<unsigned long long>{1});
  REQUIRE(run_kernel(atomics, 64, 128, 0, sum.get(), minimum.get(), bits.get(), wide.get()) ==
          cudaSuccess);
  CHECK(sum.host()[0] == 4096.0f);
  CHECK(minimum.host()[0] == -8191);
  CHECK(bits.host()[0] == 0xffffffffu);
  CHECK(wide.host()[0] == (8192ull << 33) + 1);
}

TEST_CASE("Host threads that come and go may all run blocks") {
  const DeviceBuffer<int> out(3);
  for (int i = 0; i < 600; ++i) {
    cudaError_t error = cudaErrorUnknown;
    std::thread([&] { error = run_kernel(count_votes, 1, 100, 0, out.get()); }).join();
    REQUIRE(error == cudaSuccess);
  }
}

}  // namespace pelton::cuda
