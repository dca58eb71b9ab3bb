// mma, ldmatrix and cp.async against plain loops, through the fragments that kernels use.
#include <cuda_fp8.h>

#include <cmath>
#include <cstring>
#include <random>

#include "cuda/kernels/primitives.h"
#include "tests/cuda/emulator/launch_support.h"

namespace pelton::cuda {
namespace {

// a: [16, 16], b: [16, 8] as bt: [8, 16], d: [16, 8]; by ldmatrix out of shared memory.
template <class Element>
__global__ void multiply16(const Element* a, const Element* bt, float* d) {
  PELTON_SHARED(Element, tile_a, 16 * 16);
  PELTON_SHARED(Element, tile_b, 8 * 16);
  const unsigned lane = threadIdx.x;
  cp_async_16(tile_a + 8 * lane, a + 8 * lane);
  if (lane < 16) cp_async_16(tile_b + 8 * lane, bt + 8 * lane);
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  uint32_t fragment_a[4];
  uint32_t fragment_b[2];
  ldmatrix_x4(fragment_a, tile_a + lane % 16 * 16 + lane / 16 * 8);
  ldmatrix_x2(fragment_b, tile_b + lane % 8 * 16 + lane / 8 % 2 * 8);
  float sum[4] = {1, 1, 1, 1};
  mma_m16n8k16<Element>(sum, fragment_a, fragment_b);
  for (unsigned i = 0; i < 4; ++i) {
    d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
  }
}

// The same with b stored [16, 8] and read transposed.
template <class Element>
__global__ void multiply16_trans(const Element* a, const Element* b, float* d) {
  PELTON_DYNAMIC_SHARED(Element, tile);
  const unsigned lane = threadIdx.x;
  for (unsigned i = lane; i < 256; i += 32) tile[i] = a[i];
  for (unsigned i = lane; i < 128; i += 32) tile[256 + i] = b[i];
  __syncwarp();
  uint32_t fragment_a[4];
  uint32_t fragment_b[2];
  ldmatrix_x4(fragment_a, tile + lane % 16 * 16 + lane / 16 * 8);
  ldmatrix_x2_trans(fragment_b, tile + 256 + lane % 16 * 8);
  float sum[4] = {};
  mma_m16n8k16<Element>(sum, fragment_a, fragment_b);
  for (unsigned i = 0; i < 4; ++i) {
    d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
  }
}

// a: [16, 32], bt: [8, 32] bytes; fragments read straight from memory.
template <class Sum>
__global__ void multiply32(const uint8_t* a, const uint8_t* bt, Sum* d) {
  const unsigned g = threadIdx.x / 4;
  const unsigned t = threadIdx.x % 4;
  const auto word = [](const uint8_t* p) { return *reinterpret_cast<const uint32_t*>(p); };
  const uint32_t fragment_a[4] = {word(a + g * 32 + 4 * t), word(a + (g + 8) * 32 + 4 * t),
                                  word(a + g * 32 + 4 * t + 16),
                                  word(a + (g + 8) * 32 + 4 * t + 16)};
  const uint32_t fragment_b[2] = {word(bt + g * 32 + 4 * t), word(bt + g * 32 + 4 * t + 16)};
  Sum sum[4] = {};
  if constexpr (std::is_same_v<Sum, int32_t>) {
    mma_m16n8k32_s8(sum, fragment_a, fragment_b);
  } else {
    mma_m16n8k32_e4m3(sum, fragment_a, fragment_b);
  }
  for (unsigned i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

// Register j of lane l of matrix j: rows come in by value row * 16 + column.
__global__ void load_matrices(uint32_t* out, bool transposed) {
  PELTON_SHARED(uint16_t, tile, 4 * 64);
  for (unsigned i = threadIdx.x; i < 256; i += 32) tile[i] = static_cast<uint16_t>(i);
  __syncwarp();
  uint32_t d[4];
  if (transposed) {
    ldmatrix_x4_trans(d, tile + threadIdx.x * 8);
  } else {
    ldmatrix_x4(d, tile + threadIdx.x * 8);
  }
  for (unsigned j = 0; j < 4; ++j) out[j * 32 + threadIdx.x] = d[j];
}

// Reads what is there before the wait, with one group left, and after all of them.
__global__ void watch_copies(const uint32_t* in, uint32_t* out) {
  PELTON_SHARED(uint32_t, tile, 3 * 32 * 4);
  const unsigned lane = threadIdx.x;
  for (unsigned stage = 0; stage < 3; ++stage) {
    cp_async_16(tile + (stage * 32 + lane) * 4, in + (stage * 32 + lane) * 4, stage != 2);
    cp_async_commit();
  }
  const auto look = [&](unsigned row) {
    for (unsigned stage = 0; stage < 3; ++stage) {
      out[(row * 3 + stage) * 32 + lane] = tile[(stage * 32 + lane) * 4 + 1];
    }
  };
  look(0);
  cp_async_wait<2>();
  look(1);
  cp_async_wait<0>();
  look(2);
}

template <class Element>
std::vector<Element> random_elements(size_t count, std::vector<float>& values, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<Element> elements(count);
  values.resize(count);
  for (size_t i = 0; i < count; ++i) {
    elements[i] = static_cast<Element>(normal(random));
    values[i] = static_cast<float>(elements[i]);
  }
  return elements;
}

void check_product(const std::vector<float>& a, const std::vector<float>& bt,
                   const std::vector<float>& d, size_t depth, float bias) {
  for (size_t row = 0; row < 16; ++row) {
    for (size_t col = 0; col < 8; ++col) {
      double want = bias;
      for (size_t k = 0; k < depth; ++k) {
        want += static_cast<double>(a[row * depth + k]) * bt[col * depth + k];
      }
      CHECK(d[row * 8 + col] == Approx(want).margin(1e-4));
    }
  }
}

template <class Element>
void check_multiply16() {
  std::vector<float> a_values;
  std::vector<float> bt_values;
  const auto a = random_elements<Element>(256, a_values, 1);
  const auto bt = random_elements<Element>(128, bt_values, 2);
  std::vector<Element> b(128);
  for (size_t k = 0; k < 16; ++k) {
    for (size_t n = 0; n < 8; ++n) b[k * 8 + n] = bt[n * 16 + k];
  }
  const DeviceBuffer<Element> device_a(a);
  const DeviceBuffer<Element> device_bt(bt);
  const DeviceBuffer<Element> device_b(b);
  const DeviceBuffer<float> d(128);
  REQUIRE(run_kernel(multiply16<Element>, 1, 32, 0, device_a.get(), device_bt.get(), d.get()) ==
          cudaSuccess);
  check_product(a_values, bt_values, d.host(), 16, 1);
  REQUIRE(run_kernel(multiply16_trans<Element>, 1, 32, 384 * sizeof(Element), device_a.get(),
                     device_b.get(), d.get()) == cudaSuccess);
  check_product(a_values, bt_values, d.host(), 16, 0);
}

}  // namespace

TEST_CASE("mma m16n8k16 multiplies bf16 matrices") {
  check_multiply16<__nv_bfloat16>();
}
TEST_CASE("mma m16n8k16 multiplies f16 matrices") {
  check_multiply16<__half>();
}

TEST_CASE("mma m16n8k32 multiplies e4m3 matrices") {
  std::vector<float> a_values;
  std::vector<float> bt_values;
  const auto a = random_elements<__nv_fp8_e4m3>(512, a_values, 3);
  const auto bt = random_elements<__nv_fp8_e4m3>(256, bt_values, 4);
  const DeviceBuffer<__nv_fp8_e4m3> device_a(a);
  const DeviceBuffer<__nv_fp8_e4m3> device_bt(bt);
  const DeviceBuffer<float> d(128);
  REQUIRE(run_kernel(multiply32<float>, 1, 32, 0, reinterpret_cast<uint8_t*>(device_a.get()),
                     reinterpret_cast<uint8_t*>(device_bt.get()), d.get()) == cudaSuccess);
  check_product(a_values, bt_values, d.host(), 32, 0);
}

TEST_CASE("mma m16n8k32 multiplies signed bytes exactly") {
  std::mt19937 random(5);
  std::vector<uint8_t> a(512);
  std::vector<uint8_t> bt(256);
  for (auto& byte : a) byte = static_cast<uint8_t>(random());
  for (auto& byte : bt) byte = static_cast<uint8_t>(random());
  const DeviceBuffer<uint8_t> device_a(a);
  const DeviceBuffer<uint8_t> device_bt(bt);
  const DeviceBuffer<int32_t> d(128);
  REQUIRE(run_kernel(multiply32<int32_t>, 1, 32, 0, device_a.get(), device_bt.get(), d.get()) ==
          cudaSuccess);
  const auto got = d.host();
  for (size_t row = 0; row < 16; ++row) {
    for (size_t col = 0; col < 8; ++col) {
      int32_t want = 0;
      for (size_t k = 0; k < 32; ++k) {
        want += static_cast<int8_t>(a[row * 32 + k]) * static_cast<int8_t>(bt[col * 32 + k]);
      }
      CHECK(got[row * 8 + col] == want);
    }
  }
}

TEST_CASE("ldmatrix hands each lane its two elements") {
  for (const bool transposed : {false, true}) {
    const DeviceBuffer<uint32_t> out(128);
    REQUIRE(run_kernel(load_matrices, 1, 32, 0, out.get(), transposed) == cudaSuccess);
    const auto got = out.host();
    for (uint32_t matrix = 0; matrix < 4; ++matrix) {
      for (uint32_t lane = 0; lane < 32; ++lane) {
        const uint32_t r = lane / 4;
        const uint32_t c = lane % 4 * 2;
        const uint32_t low = matrix * 64 + (transposed ? c * 8 + r : r * 8 + c);
        const uint32_t high = matrix * 64 + (transposed ? (c + 1) * 8 + r : r * 8 + c + 1);
        CHECK(got[matrix * 32 + lane] == (low | high << 16));
      }
    }
  }
}

TEST_CASE("cp.async lands at its wait and not before") {
  std::vector<uint32_t> in(3 * 32 * 4);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint32_t>(i) + 1000;
  const DeviceBuffer<uint32_t> device_in(in);
  const DeviceBuffer<uint32_t> out(9 * 32);
  REQUIRE(run_kernel(watch_copies, 1, 32, 0, device_in.get(), out.get()) == cudaSuccess);
  const auto got = out.host();
  for (uint32_t row = 0; row < 3; ++row) {
    const uint32_t landed = row == 0 ? 0 : row == 1 ? 1 : 3;
    for (uint32_t stage = 0; stage < 3; ++stage) {
      for (uint32_t lane = 0; lane < 32; ++lane) {
        const uint32_t arrived = stage == 2 ? 0 : (stage * 32 + lane) * 4 + 1001;
        CHECK(got[(row * 3 + stage) * 32 + lane] == (stage < landed ? arrived : 0xffffffffu));
      }
    }
  }
}

}  // namespace pelton::cuda
