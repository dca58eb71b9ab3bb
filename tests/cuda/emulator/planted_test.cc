// Defects that show in a plain run, each planted once and found. Those that only a traced run shows
// are in traced_test.cc.
#include <stdexcept>

#include "cuda/kernels/primitives.h"
#include "tests/cuda/emulator/launch_support.h"

namespace pelton::cuda {
namespace {

using Catch::Matchers::Contains;

const std::string kBranchPlace = "planted_test.cc:" + std::to_string(__LINE__ + 2);
__global__ void barrier_in_a_branch(int* out) {
  if (threadIdx.x < 40) __syncthreads();
  out[threadIdx.x] = 1;
}

const std::string kFirstPlace = "planted_test.cc:" + std::to_string(__LINE__ + 4);
const std::string kSecondPlace = "planted_test.cc:" + std::to_string(__LINE__ + 5);
__global__ void barriers_at_two_places(int* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

__global__ void mask_with_absent_lanes(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(kFullMask, 1, 0);
}

__global__ void shuffle_from_outside_the_mask(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}

__global__ void different_collectives(int* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __any_sync(kFullMask, 1);
  } else {
    __syncwarp();
  }
}

__global__ void wait_for_nobody(int* out) {
  if (threadIdx.x < 32) named_barrier_sync(3, 64);
  out[threadIdx.x] = 1;
}

__global__ void misaligned_vector(const float* in, float* out) {
  const uint4 value = load16(in + threadIdx.x + 1);
  out[threadIdx.x] = __uint_as_float(value.x);
}

__global__ void misaligned_copy(const float* in) {
  PELTON_SHARED(float, tile, 256);
  cp_async_16(tile + threadIdx.x, in + 4 * threadIdx.x);
}

__global__ void write_past_the_page(int* out) {
  out[(1 << 20) + threadIdx.x] = 1;
}

__global__ void read_one(const int* in, int* out) {
  out[threadIdx.x] = in[threadIdx.x];
}

__global__ void too_many_arrays(float* out) {
  PELTON_SHARED(float, first, 8000);
  PELTON_SHARED(float, second, 8000);
  first[threadIdx.x] = second[threadIdx.x] = 1;
  out[threadIdx.x] = first[threadIdx.x];
}

__global__ void uses_dynamic(float* out) {
  PELTON_DYNAMIC_SHARED(float, values);
  values[threadIdx.x] = 1;
  out[threadIdx.x] = values[threadIdx.x];
}

__device__ int deep(int depth, int* out) {
  volatile char local[512];
  local[0] = static_cast<char>(depth);
  if (depth == 0) return local[0];
  return deep(depth - 1, out) + local[0] + out[0];
}
__global__ void endless_stack(int* out) {
  out[threadIdx.x] = deep(1 << 20, out);
}

__global__ void throws(int*) {
  throw std::runtime_error("out of cheese");
}
__global__ void traps(int*) {
  if (threadIdx.x == 7) __trap();
}

class Quiet {
 public:
  Quiet() {
    emulator::set_faults_quiet(true);
    emulator::reset();
    emulator::clear_fault();
  }
  ~Quiet() {
    emulator::set_faults_quiet(false);
    emulator::clear_fault();
    emulator::reset();
  }
};

// Runs with one buffer of 64 ints in every schedule; each time the fault must say all of `parts`.
void expect_fault(void (*kernel)(int*), cudaError_t error, const std::vector<std::string>& parts) {
  const Quiet quiet;
  for (const auto& schedule : all_schedules()) {
    const emulator::ScheduleScope scope(schedule);
    const DeviceBuffer<int> out(std::vector<int>(64));
    CHECK(run_kernel(kernel, 2, 64, 0, out.get()) == error);
    CHECK(cudaDeviceSynchronize() == error);  // it stays
    const std::string message = take_fault();
    for (const std::string& part : parts) CHECK_THAT(message, Contains(part));
  }
}

}  // namespace

TEST_CASE("A barrier that some threads never reach is reported with who waits where") {
  expect_fault(barrier_in_a_branch, cudaErrorLaunchTimeout,
               {"divergent barrier", "barrier_in_a_branch", "40 threads waiting in __syncthreads",
                kBranchPlace, "0-39", "24 threads ended"});
}

TEST_CASE("One barrier at two places is reported") {
  expect_fault(barriers_at_two_places, cudaErrorLaunchFailure,
               {"divergent barrier", kFirstPlace, kSecondPlace});
}

TEST_CASE("A mask that names lanes which are not there is reported") {
  expect_fault(mask_with_absent_lanes, cudaErrorLaunchFailure, {"wrong mask", "__shfl_sync"});
}

TEST_CASE("A shuffle from a lane outside the mask is reported") {
  expect_fault(shuffle_from_outside_the_mask, cudaErrorLaunchFailure,
               {"wrong mask", "reads lane 20"});
}

TEST_CASE("Lanes that meet in different collectives are reported") {
  expect_fault(different_collectives, cudaErrorLaunchFailure, {"divergent warp"});
}

TEST_CASE("A deadlock names the barrier that is never full") {
  expect_fault(wait_for_nobody, cudaErrorLaunchTimeout,
               {"32 threads waiting in named barrier", "planted_test.cc"});
}

TEST_CASE("An exception in a kernel becomes a sticky error that names kernel and thread") {
  expect_fault(throws, cudaErrorLaunchFailure, {"exception: out of cheese", "throws", "thread ("});
}

TEST_CASE("A trap names its thread") {
  expect_fault(traps, cudaErrorLaunchFailure, {"trap", "thread (7, 0, 0)"});
}

TEST_CASE("An access far out of bounds is a sticky error") {
  expect_fault(write_past_the_page, cudaErrorIllegalAddress,
               {"illegal address", "write_past_the_page", "not allocated"});
}

TEST_CASE("A stack that is used up is a fault of the launch") {
  expect_fault(endless_stack, cudaErrorLaunchFailure, {"stack overflow", "endless_stack"});
}

TEST_CASE("Misaligned 16-byte accesses are reported") {
  const Quiet quiet;
  const DeviceBuffer<float> in(std::vector<float>(256));
  const DeviceBuffer<float> out(64);
  CHECK(run_kernel(misaligned_vector, 1, 32, 0, in.get(), out.get()) == cudaErrorMisalignedAddress);
  CHECK_THAT(take_fault(), Contains("misaligned access: 16 bytes"));
  const DeviceBuffer<float> again(std::vector<float>(256));
  CHECK(run_kernel(misaligned_copy, 1, 32, 0, again.get()) == cudaErrorMisalignedAddress);
  CHECK_THAT(take_fault(), Contains("misaligned access: 16 bytes"));
}

TEST_CASE("Memory that was freed cannot be read") {
  const Quiet quiet;
  const DeviceBuffer<int> out(64);
  int* freed = nullptr;
  REQUIRE(cudaMalloc(reinterpret_cast<void**>(&freed), 256) == cudaSuccess);
  REQUIRE(cudaFree(freed) == cudaSuccess);
  CHECK(run_kernel(read_one, 1, 64, 0, freed, out.get()) == cudaErrorIllegalAddress);
  CHECK_THAT(take_fault(), Contains("illegal address"));
}

TEST_CASE("A pointer to host memory is an illegal address and one to pinned memory is not") {
  const Quiet quiet;
  const std::vector<int> host(64, 3);
  const DeviceBuffer<int> out(64);
  int* pinned = nullptr;
  REQUIRE(cudaMallocHost(reinterpret_cast<void**>(&pinned), 256) == cudaSuccess);
  std::fill_n(pinned, 64, 5);
  REQUIRE(run_kernel(read_one, 1, 64, 0, pinned, out.get()) == cudaSuccess);
  CHECK(out.host()[63] == 5);
  if (!emulator::kFindsHostPointers) return;
  CHECK(launch(read_one, 1, 64, 0, nullptr, host.data(), out.get()) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK_THAT(take_fault(), Contains("host memory: an argument of pelton::cuda::read_one"));
}

TEST_CASE("More static shared memory than there is is reported") {
  const Quiet quiet;
  const DeviceBuffer<float> out(64);
  CHECK(run_kernel(too_many_arrays, 1, 32, 0, out.get()) == cudaErrorInvalidValue);
  CHECK_THAT(take_fault(), Contains("too much shared memory: 64000 bytes of arrays"));
}

TEST_CASE("More dynamic shared memory than asked for or than the card has fails the launch alone") {
  const Quiet quiet;
  emulator::reset(emulator::card_named("sm_86"));
  const DeviceBuffer<float> out(64);
  CHECK(run_kernel(uses_dynamic, 1, 32, 48 << 10, out.get()) == cudaSuccess);
  CHECK(run_kernel(uses_dynamic, 1, 32, 50 << 10, out.get()) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(allow_shared(uses_dynamic, 99 << 10) == cudaSuccess);
  CHECK(run_kernel(uses_dynamic, 1, 32, 99 << 10, out.get()) == cudaSuccess);
  CHECK(allow_shared(uses_dynamic, 100 << 10) == cudaErrorInvalidValue);
  emulator::reset(emulator::card_named("sm_90"));
}

TEST_CASE("A launch with too many threads or an empty grid fails alone") {
  const Quiet quiet;
  const DeviceBuffer<float> out(2048);
  CHECK(run_kernel(uses_dynamic, 1, 1025, 16 << 10, out.get()) == cudaErrorInvalidConfiguration);
  CHECK(run_kernel(uses_dynamic, dim3(0, 1, 1), 32, 16 << 10, out.get()) ==
        cudaErrorInvalidConfiguration);
  CHECK(run_kernel(uses_dynamic, 1, 1024, 16 << 10, out.get()) == cudaSuccess);
}

}  // namespace pelton::cuda
