// mma and ldmatrix with the fragment layouts of the PTX ISA ("Matrix fragments for mma.m16n8k16",
// "... mma.m16n8k32", "ldmatrix"); products are exact, sums in float by ascending k.
#include <cuda_fp8.h>
#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>

#include "cuda/emulator/block_runner.h"
#include "cuda/emulator/lane_language.h"
#include "cuda/emulator/tracer.h"

namespace pelton::cuda::emulator {
namespace {

template <class Sum>
struct Mma {
  Sum* d;
  const uint32_t* a;
  const uint32_t* b;
};

float from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

float from_f16(uint16_t bits) {
  __half_raw raw;
  raw.x = bits;
  return __half2float(__half(raw));
}

float from_e4m3(uint8_t bits) {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values{};
    for (int i = 0; i < 256; ++i) {
      __nv_fp8_e4m3 value;
      value.__x = static_cast<__nv_fp8_storage_t>(i);
      values[static_cast<size_t>(i)] = static_cast<float>(value);
    }
    return values;
  }();
  return table[bits];
}

// Elements of K: per register, `Per` neighbours along k (two 16-bit, four 8-bit). A is 16 x K, B is
// K x 8, D is 16 x 8.
template <int K, int Per, class Sum, class Read>
void multiply(void* const* arguments, Read read) {
  Sum a[16][K];
  Sum b[K][8];
  Sum d[16][8];
  const auto at = [&](unsigned lane) -> const Mma<Sum>& {
    return *static_cast<const Mma<Sum>*>(arguments[lane]);
  };
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const unsigned g = lane / 4;
    const unsigned t = lane % 4;
    const Mma<Sum>& mine = at(lane);
    for (unsigned e = 0; e < Per; ++e) {
      const unsigned k = Per * t + e;
      a[g][k] = read(mine.a[0], e);
      a[g + 8][k] = read(mine.a[1], e);
      a[g][k + K / 2] = read(mine.a[2], e);
      a[g + 8][k + K / 2] = read(mine.a[3], e);
      b[k][g] = read(mine.b[0], e);
      b[k + K / 2][g] = read(mine.b[1], e);
    }
    d[g][2 * t] = mine.d[0];
    d[g][2 * t + 1] = mine.d[1];
    d[g + 8][2 * t] = mine.d[2];
    d[g + 8][2 * t + 1] = mine.d[3];
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < K; ++k) {
      const Sum factor = a[row][k];
      for (int col = 0; col < 8; ++col) d[row][col] += factor * b[k][col];
    }
  }
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const unsigned g = lane / 4;
    const unsigned t = lane % 4;
    Sum* out = at(lane).d;
    out[0] = d[g][2 * t];
    out[1] = d[g][2 * t + 1];
    out[2] = d[g + 8][2 * t];
    out[3] = d[g + 8][2 * t + 1];
  }
}

uint16_t half_of(uint32_t word, unsigned element) {
  return static_cast<uint16_t>(word >> (16 * element));
}
uint8_t byte_of(uint32_t word, unsigned element) {
  return static_cast<uint8_t>(word >> (8 * element));
}

void compute_bf16(void* const* arguments, uint32_t) {
  multiply<16, 2, float>(arguments,
                         [](uint32_t word, unsigned e) { return from_bf16(half_of(word, e)); });
}
void compute_f16(void* const* arguments, uint32_t) {
  multiply<16, 2, float>(arguments,
                         [](uint32_t word, unsigned e) { return from_f16(half_of(word, e)); });
}
void compute_s8(void* const* arguments, uint32_t) {
  multiply<32, 4, int32_t>(arguments, [](uint32_t word, unsigned e) {
    return static_cast<int32_t>(static_cast<int8_t>(byte_of(word, e)));
  });
}
void compute_e4m3(void* const* arguments, uint32_t) {
  multiply<32, 4, float>(arguments,
                         [](uint32_t word, unsigned e) { return from_e4m3(byte_of(word, e)); });
}

template <class Sum>
void mma(const char* name, Sum* d, const uint32_t* a, const uint32_t* b,
         BlockRunner::Compute compute, Site site) {
  Mma<Sum> mine{d, a, b};
  BlockRunner& runner = BlockRunner::current();
  if (Tracer* tracer = Tracer::active(); tracer != nullptr && lane_id() == 0) tracer->count_mma();
  runner.meet(0xffffffffu, name, true, &mine, compute, site);
}

struct LoadMatrix {
  uint32_t* d;
  const void* row;
};

template <int Matrices, bool Transposed>
void compute_ldmatrix(void* const* arguments, uint32_t) {
  const auto at = [&](unsigned lane) -> const LoadMatrix& {
    return *static_cast<const LoadMatrix*>(arguments[lane]);
  };
  for (unsigned m = 0; m < Matrices; ++m) {
    uint16_t element[8][8];
    for (unsigned row = 0; row < 8; ++row) std::memcpy(element[row], at(8 * m + row).row, 16);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const unsigned r = lane / 4;
      const unsigned c = 2 * (lane % 4);
      const uint32_t low = Transposed ? element[c][r] : element[r][c];
      const uint32_t high = Transposed ? element[c + 1][r] : element[r][c + 1];
      at(lane).d[m] = low | high << 16;
    }
  }
}

}  // namespace

void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, Site site) {
  mma("mma.m16n8k16.bf16", d, a, b, &compute_bf16, site);
}
void mma_m16n8k16_f16(float* d, const uint32_t* a, const uint32_t* b, Site site) {
  mma("mma.m16n8k16.f16", d, a, b, &compute_f16, site);
}
void mma_m16n8k32_s8(int32_t* d, const uint32_t* a, const uint32_t* b, Site site) {
  mma("mma.m16n8k32.s8", d, a, b, &compute_s8, site);
}
void mma_m16n8k32_e4m3(float* d, const uint32_t* a, const uint32_t* b, Site site) {
  mma("mma.m16n8k32.e4m3", d, a, b, &compute_e4m3, site);
}

void ldmatrix(uint32_t* d, int matrices, bool transposed, const void* row, Site site) {
  static constexpr BlockRunner::Compute kCompute[2][3] = {
      {&compute_ldmatrix<1, false>, &compute_ldmatrix<2, false>, &compute_ldmatrix<4, false>},
      {&compute_ldmatrix<1, true>, &compute_ldmatrix<2, true>, &compute_ldmatrix<4, true>}};
  static constexpr const char* kNames[2][3] = {
      {"ldmatrix.x1", "ldmatrix.x2", "ldmatrix.x4"},
      {"ldmatrix.x1.trans", "ldmatrix.x2.trans", "ldmatrix.x4.trans"}};
  const int which = matrices == 1 ? 0 : matrices == 2 ? 1 : 2;
  LoadMatrix mine{d, row};
  if (lane_id() < static_cast<unsigned>(8 * matrices)) {
    check_aligned(row, 16, site);
    if (Tracer* tracer = Tracer::active()) {
      tracer->access(reinterpret_cast<uintptr_t>(row), 16, AccessKind::kMatrixRead,
                     __builtin_return_address(0));
      if (lane_id() == 0) tracer->count_ldmatrix();
    }
  }
  BlockRunner::current().meet(0xffffffffu, kNames[transposed][which], true, &mine,
                              kCompute[transposed][which], site);
}

}  // namespace pelton::cuda::emulator
