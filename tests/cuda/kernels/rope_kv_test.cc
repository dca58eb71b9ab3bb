// QK norm, rotary embedding and the KV write against float64, in every type of the cache.
#include "cuda/kernels/rope_kv.h"

#include <cuda_fp8.h>

#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {
namespace {

struct RopeCase {
  ElementType type = ElementType::kBF16;
  KvType kv = KvType::kBF16;
  bool cached = true;
  int q_heads = 3, kv_heads = 2, head_dim = 64;
  int rotary_dim = 64;  // 0: none
  bool interleaved = false;
  bool norm = true;
  int rows = 5;
  int block_size = 16;
  int padding = 0;
};
constexpr int kMaxPositions = 512;
constexpr int kNumBlocks = 6;
constexpr int kNumLayers = 3;
constexpr int kLayer = 1;

int width(const RopeCase& c) {
  return (c.q_heads + 2 * c.kv_heads) * c.head_dim;
}

std::vector<float> make_table(int rotary_dim) {
  std::vector<float> table;
  for (int position = 0; position < kMaxPositions; ++position) {
    for (int side = 0; side < 2; ++side) {
      for (int i = 0; i < rotary_dim / 2; ++i) {
        const double angle = position * std::pow(10000.0, -2.0 * i / rotary_dim);
        table.push_back(static_cast<float>(side == 0 ? std::cos(angle) : std::sin(angle)));
      }
    }
  }
  return table;
}

// Positions and slots of the rows; row 1 has none.
int position_of(int row) {
  return row == 0 ? 0 : (row * 97) % kMaxPositions;
}
int slot_of(const RopeCase& c, int row) {
  return row == 1 ? -1 : (row * 29 + 3) % (kNumBlocks * c.block_size);
}

std::vector<double> expected_row(const RopeCase& c, const std::vector<float>& seen, int row,
                                 const std::vector<float>& table, const std::vector<float>& norms) {
  const float* from = seen.data() + static_cast<size_t>(row) * (width(c) + c.padding);
  std::vector<double> out(from, from + width(c));
  for (int h = 0; h < c.q_heads + c.kv_heads; ++h) {
    double* x = out.data() + static_cast<size_t>(h) * c.head_dim;
    if (c.norm) {
      double squares = 0;
      for (int i = 0; i < c.head_dim; ++i) squares += x[i] * x[i];
      const double scale = 1 / std::sqrt(squares / c.head_dim + 1e-6);
      for (int i = 0; i < c.head_dim; ++i) {
        x[i] *= scale * norms[(h < c.q_heads ? 0 : c.head_dim) + i];
      }
    }
    const int half = c.rotary_dim / 2;
    for (int i = 0; i < half; ++i) {
      const float* at = table.data() + static_cast<size_t>(position_of(row)) * c.rotary_dim;
      double& a = x[c.interleaved ? 2 * i : i];
      double& b = x[c.interleaved ? 2 * i + 1 : i + half];
      const double first = a * at[i] - b * at[half + i];
      b = b * at[i] + a * at[half + i];
      a = first;
    }
  }
  return out;
}

struct Result {
  std::vector<float> qkv;
  std::vector<std::byte> cache;
};

Result run(const RopeCase& c, const std::vector<float>& qkv, const std::vector<float>& table,
           const std::vector<float>& norms) {
  std::vector<int32_t> positions, slots;
  for (int m = 0; m < c.rows; ++m) {
    positions.push_back(position_of(m));
    slots.push_back(slot_of(c, m));
  }
  const KvShape shape{c.kv, c.block_size, c.kv_heads, c.head_dim};
  REQUIRE((shape.valid() || !c.cached));
  const DeviceArray<uint16_t> dqkv(to_elements(c.type, qkv));
  const DeviceArray<float> dtable(table), dnorms(norms);
  const DeviceArray<int32_t> dpositions(positions), dslots(slots);
  const DeviceArray<std::byte> cache(std::vector<std::byte>(
      static_cast<size_t>(shape.layer_bytes() * kNumLayers * kNumBlocks), std::byte{0x5A}));
  RopeKvParams p;
  p.type = c.type;
  p.qkv = dqkv.data();
  p.qkv_stride = width(c) + c.padding;
  p.rows = c.rows;
  p.num_q_heads = c.q_heads;
  p.num_kv_heads = c.kv_heads;
  p.head_dim = c.head_dim;
  if (c.norm) p.q_norm = dnorms.data(), p.k_norm = dnorms.data() + c.head_dim;
  if (c.rotary_dim > 0) p.cos_sin = dtable.data();
  p.rotary_dim = c.rotary_dim;
  p.interleaved = c.interleaved;
  p.positions = dpositions.data();
  p.slots = dslots.data();
  if (c.cached) p.kv = kv_layer_view(shape, cache.data(), kNumLayers, kLayer);
  must(rope_kv(p, nullptr));
  must(cudaDeviceSynchronize());
  return {to_floats(c.type, dqkv.host()), cache.host()};
}

// A head's row as the cache holds it.
std::vector<float> cached_row(const RopeCase& c, const std::byte* row, const std::byte* scale) {
  std::vector<float> out(c.head_dim);
  float factor = 0;
  std::memcpy(&factor, scale, sizeof(factor));
  for (int i = 0; i < c.head_dim; ++i) {
    if (c.kv == KvType::kI8) {
      out[i] = static_cast<float>(static_cast<int8_t>(row[i])) * factor;
    } else if (c.kv == KvType::kF8E4M3) {
      const __half_raw raw =
          __nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(row[i]), __NV_E4M3);
      out[i] = __half2float(raw) * factor;
    } else {
      uint16_t bits = 0;
      std::memcpy(&bits, row + 2 * i, 2);
      out[i] = element_value(c.type, bits);
    }
  }
  return out;
}

double largest(const std::vector<double>& x) {
  double most = 0;
  for (double v : x) most = std::max(most, std::fabs(v));
  return most;
}

void check_cached_head(const RopeCase& c, const std::byte* row, const std::byte* scale,
                       const std::vector<double>& expected) {
  const std::vector<float> actual = cached_row(c, row, scale);
  if (c.kv == KvType::kI8) {
    check_close(actual, expected, 0, largest(expected) / 127 * 0.505 + 1e-6);
  } else if (c.kv == KvType::kF8E4M3) {  // 3 bits of mantissa; below 2^-6 of 448 steps of 2^-9
    check_close(actual, expected, 1.0 / 16 + 1e-4, largest(expected) / 448 / 1024 + 1e-6);
  } else {
    check_close(actual, expected, element_tolerance(c.type), 2e-6);
  }
}

void check_rope(const RopeCase& c) {
  INFO("type " << static_cast<int>(c.type) << " kv " << static_cast<int>(c.kv) << " cached "
               << c.cached << " head_dim " << c.head_dim << " rotary " << c.rotary_dim
               << " interleaved " << c.interleaved << " norm " << c.norm << " padding "
               << c.padding);
  const std::vector<float> qkv =
      random_values(static_cast<size_t>(c.rows) * (width(c) + c.padding), 4);
  const std::vector<float> seen = as_elements(c.type, qkv), table = make_table(c.rotary_dim);
  const std::vector<float> norms = random_values(2 * static_cast<size_t>(c.head_dim), 5);
  const Result result = run(c, qkv, table, norms);
  const KvShape shape{c.kv, c.block_size, c.kv_heads, c.head_dim};
  const KvView view = kv_layer_view(shape, nullptr, kNumLayers, kLayer);
  const std::byte* layer = result.cache.data() + kLayer * shape.layer_bytes();
  std::vector<double> expected(seen.begin(), seen.end());  // of qkv afterwards
  std::vector<bool> written(result.cache.size());
  const auto mark = [&](int64_t offset, int64_t bytes) {
    std::fill_n(written.begin() + kLayer * shape.layer_bytes() + offset, bytes, true);
  };
  for (int m = 0; m < c.rows; ++m) {
    const std::vector<double> row = expected_row(c, seen, m, table, norms);
    const int in_place = (c.q_heads + (c.cached ? 0 : c.kv_heads)) * c.head_dim;
    std::copy_n(row.begin(), in_place,
                expected.begin() + static_cast<int64_t>(m) * (width(c) + c.padding));
    const int slot = slot_of(c, m);
    if (!c.cached || slot < 0) continue;
    for (int h = 0; h < 2 * c.kv_heads; ++h) {
      const int block = slot / c.block_size, offset = slot % c.block_size;
      const bool is_v = h >= c.kv_heads;
      const int head = is_v ? h - c.kv_heads : h;
      const int64_t at = is_v ? view.v_row(block, head, offset) : view.k_row(block, head, offset);
      const int64_t scale = !kv_has_scales(c.kv) ? at
                            : is_v               ? view.v_scale(block, head, offset)
                                                 : view.k_scale(block, head, offset);
      const auto begin = row.begin() + static_cast<int64_t>(c.q_heads + h) * c.head_dim;
      check_cached_head(c, layer + at, layer + scale, {begin, begin + c.head_dim});
      mark(at, shape.row_bytes());
      if (kv_has_scales(c.kv)) mark(scale, 4);
    }
  }
  check_close(result.qkv, expected, element_tolerance(c.type), 2e-5);
  size_t strayed = 0;
  for (size_t i = 0; i < written.size(); ++i) {
    if (!written[i] && result.cache[i] != std::byte{0x5A}) ++strayed;
  }
  CHECK(strayed == 0);
}

}  // namespace

TEST_CASE("rotated and normed heads agree with float64 in q and in the cache") {
  for (ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    for (KvType kv : {type == ElementType::kBF16 ? KvType::kBF16 : KvType::kF16, KvType::kF8E4M3,
                      KvType::kI8}) {
      for (int head_dim : {64, 128, 256}) {
        for (bool interleaved : {false, true}) {
          RopeCase c;
          c.type = type;
          c.kv = kv;
          c.head_dim = c.rotary_dim = head_dim;
          c.interleaved = interleaved;
          c.norm = interleaved;
          check_rope(c);
        }
      }
    }
  }
}

TEST_CASE("odd head sizes and partial rotary agree with float64") {
  struct Shape {
    int head_dim, rotary_dim, padding;
  };
  for (Shape shape : {Shape{8, 8, 0}, Shape{16, 16, 0}, Shape{32, 32, 0}, Shape{80, 32, 0},
                      Shape{96, 96, 0}, Shape{64, 20, 0}, Shape{112, 0, 0}, Shape{128, 64, 8},
                      Shape{64, 64, 3}, Shape{240, 120, 1}}) {
    for (bool norm : {false, true}) {
      for (KvType kv : {KvType::kBF16, KvType::kI8}) {
        RopeCase c;
        c.kv = kv;
        c.head_dim = shape.head_dim;
        c.rotary_dim = shape.rotary_dim;
        c.padding = shape.padding;
        c.norm = norm;
        if (kv == KvType::kI8 && shape.head_dim % 16 != 0) continue;  // no such cache
        check_rope(c);
      }
    }
  }
}

TEST_CASE("without a cache k is rotated in place") {
  for (int head_dim : {64, 20}) {
    RopeCase c;
    c.cached = false;
    c.head_dim = c.rotary_dim = head_dim;
    c.kv_heads = head_dim == 20 ? 4 : 2;
    check_rope(c);
  }
}

TEST_CASE("every block size of the cache is written where it should be") {
  for (int block_size : {16, 32, 48, 128, 256}) {
    RopeCase c;
    c.block_size = block_size;
    c.rows = 9;
    c.kv = block_size == 48 ? KvType::kF8E4M3 : KvType::kBF16;
    check_rope(c);
  }
}

TEST_CASE("a row of zeros has scale 0 and zeros") {
  for (KvType kv : {KvType::kF8E4M3, KvType::kI8}) {
    RopeCase c;
    c.kv = kv;
    c.rows = 1;
    c.norm = false;
    const Result result = run(c, std::vector<float>(width(c)), make_table(64),
                              std::vector<float>(2 * static_cast<size_t>(c.head_dim), 1.0F));
    const KvShape shape{c.kv, c.block_size, c.kv_heads, c.head_dim};
    const KvView view = kv_layer_view(shape, nullptr, kNumLayers, kLayer);
    const std::byte* layer = result.cache.data() + kLayer * shape.layer_bytes();
    const int slot = slot_of(c, 0);
    const std::vector<float> row = cached_row(c, layer + view.k_row(slot / 16, 0, slot % 16),
                                              layer + view.k_scale(slot / 16, 0, slot % 16));
    CHECK(row == std::vector<float>(64));
  }
}

TEST_CASE("rope_kv refuses shapes that do not fit together") {
  RopeKvParams p;
  CHECK(rope_kv(p, nullptr) == cudaSuccess);
  p.rows = 1;
  CHECK(rope_kv(p, nullptr) == cudaErrorInvalidValue);
  p.num_q_heads = 1;
  p.head_dim = 257;
  CHECK(rope_kv(p, nullptr) == cudaErrorInvalidValue);
  p.head_dim = 64;
  p.rotary_dim = 66;
  CHECK(rope_kv(p, nullptr) == cudaErrorInvalidValue);
}

}  // namespace pelton::cuda::test
