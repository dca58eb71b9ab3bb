// Products by cuBLASLt (emulated): right, measured once and remembered, its errors told.
#include "cuda/library_gemm.h"

#include <cuda_fp8.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cuda/emulator/emulator.h"
#include "tests/cuda/backend/cuda_fixture.h"
#include "tests/cuda/kernels/device_array.h"
#include "tests/cuda/kernels/linear_support.h"
#include "tests/model/decoder_driver.h"
#include "tests/model/tiny_models.h"
#include "tests/support/temp_dir.h"

namespace pelton::cuda::test {

namespace {

constexpr int kN = 48, kK = 96, kMaxM = 40;

struct Fixture {
  pelton::test::CudaCard card;
  Stream stream = *make_stream();
  std::shared_ptr<DeviceArena> arena = *DeviceArena::take(int64_t{128} << 20, true);
  std::vector<float> w = as_elements(ElementType::kBF16, random_values(kN* kK, 1, 0.2F));
  DeviceArray<uint16_t> weights{padded()};

  std::vector<uint16_t> padded() const {
    std::vector<float> rows(static_cast<size_t>(kN) * row_elements_16(kK), 0.0F);
    for (int n = 0; n < kN; ++n) {
      std::copy_n(w.begin() + n * kK, kK, rows.begin() + n * row_elements_16(kK));
    }
    return to_elements(ElementType::kBF16, rows);
  }
  std::unique_ptr<LibraryGemm> gemm(const std::string& cache = "") const {
    auto gemm =
        *LibraryGemm::make(**open_cublaslt(), ElementType::kBF16, stream.get(), cache, "card");
    gemm->set_own_handicap(1e6F);
    return gemm;
  }
  Status tune(LibraryGemm& gemm) const {
    PELTON_RETURN_IF_ERROR(gemm.tune({kN, kK, false}, weights.data(), kMaxM, arena));
    return gemm.reserve(arena);
  }
};

struct Product {
  std::vector<float> x, out;
  bool by_library = false;
};
// `skipped`: elements before x and out, which then begin at a multiple of so many.
Product multiply(const Fixture& fixture, LibraryGemm& gemm, int m, int skipped = 0) {
  Product product;
  product.x = as_elements(ElementType::kBF16, random_values(static_cast<size_t>(m) * kK, 2));
  std::vector<uint16_t> elements = to_elements(ElementType::kBF16, product.x);
  elements.insert(elements.begin(), static_cast<size_t>(skipped), 0);
  const DeviceArray<uint16_t> x(elements);
  const DeviceArray<uint16_t> out(static_cast<size_t>(skipped + m * kN));
  LinearParams p;
  p.weights = fixture.weights.data();
  p.x = x.data() + skipped;
  p.x_stride = kK;
  p.out = out.data() + skipped;
  p.out_stride = kN;
  p.m = m;
  p.n = kN;
  p.k = kK;
  const StatusOr<bool> done = gemm.run(p);
  REQUIRE(done.ok());
  product.by_library = *done;
  must(cudaDeviceSynchronize());
  if (product.by_library) product.out = to_floats(ElementType::kBF16, out.host());
  if (product.by_library) product.out.erase(product.out.begin(), product.out.begin() + skipped);
  return product;
}

// A row as quantize_fp8() has it: e4m3 with a scale for each 128.
std::vector<double> fp8_rounded(const std::vector<float>& row) {
  std::vector<double> out;
  for (size_t begin = 0; begin < row.size(); begin += 128) {
    float largest = 0;
    for (size_t i = begin; i < begin + 128; ++i) largest = std::max(largest, std::fabs(row[i]));
    const float scale = largest / 448.0F, inverse = 1.0F / scale;
    for (size_t i = begin; i < begin + 128; ++i) {
      const __nv_fp8_storage_t code =
          __nv_cvt_float_to_fp8(row[i] * inverse, __NV_SATFINITE, __NV_E4M3);
      out.push_back(
          static_cast<double>(__half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3)))) *
          static_cast<double>(scale));
    }
  }
  return out;
}

int64_t calls_of_tuning(const Fixture& fixture, LibraryGemm& gemm) {
  const int64_t before = emulator::calls();
  REQUIRE(fixture.tune(gemm).ok());
  return emulator::calls() - before;
}

// A model's logits with its own products, then with the library's.
std::vector<std::vector<float>> logits_of_own_and_library(std::string_view config,
                                                          const std::vector<TokenId>& tokens,
                                                          const LoadOptions& load) {
  std::vector<std::vector<float>> logits;
  for (const bool batch_invariant : {true, false}) {
    const pelton::test::CudaCard card;
    CudaOptions options = pelton::test::CudaCard::default_options();
    options.batch_invariant = batch_invariant;
    options.own_product_handicap = 1e6F;
    const auto backend = card.backend(options);
    StatusOr<LoadedModel> model = pelton::load_tiny(config, *backend, load);
    INFO(model.status().ToString());
    REQUIRE(model.ok());
    logits.push_back(pelton::DecoderDriver(*model, *backend).run(tokens, 40));
  }
  return logits;
}

}  // namespace

TEST_CASE("cuBLASLt's products equal float64 for each size of batch") {
  const Fixture fixture;
  const std::unique_ptr<LibraryGemm> gemm = fixture.gemm();
  REQUIRE(fixture.tune(*gemm).ok());
  REQUIRE(gemm->chosen() > 0);
  for (const int m : {9, 16, 17, 40}) {
    const Product product = multiply(fixture, *gemm, m);
    REQUIRE(product.by_library);
    std::vector<double> expected;
    for (int r = 0; r < m; ++r) {
      for (int n = 0; n < kN; ++n) {
        double sum = 0;
        for (int k = 0; k < kK; ++k) {
          sum += static_cast<double>(product.x[static_cast<size_t>(r * kK + k)]) *
                 fixture.w[static_cast<size_t>(n * kK + k)];
        }
        expected.push_back(sum);
      }
    }
    check_close(product.out, expected, element_tolerance(ElementType::kBF16), 1e-4);
  }
}

TEST_CASE("Few rows and shapes that were not tuned stay with the own kernels") {
  const Fixture fixture;
  const std::unique_ptr<LibraryGemm> gemm = fixture.gemm();
  CHECK_FALSE(multiply(fixture, *gemm, 16).by_library);
  REQUIRE(fixture.tune(*gemm).ok());
  CHECK_FALSE(multiply(fixture, *gemm, 8).by_library);
  CHECK_FALSE(multiply(fixture, *gemm, 100).by_library);  // beyond the largest batch
}

TEST_CASE("Rows that begin at 16 bytes go to the library and others do not") {
  const Fixture fixture;
  const std::unique_ptr<LibraryGemm> gemm = fixture.gemm();
  REQUIRE(fixture.tune(*gemm).ok());
  const Product whole = multiply(fixture, *gemm, 16);
  for (const int skipped : {8, 16, 24}) {
    const Product shifted = multiply(fixture, *gemm, 16, skipped);
    CHECK(shifted.by_library);
    CHECK(shifted.out == whole.out);
  }
  CHECK_FALSE(multiply(fixture, *gemm, 16, 4).by_library);
}

TEST_CASE("What the library offers and then refuses is left to the own kernels") {
  const Fixture fixture;
  const std::unique_ptr<LibraryGemm> gemm = fixture.gemm();
  REQUIRE(fixture.tune(*gemm).ok());
  emulator::refuse_product(17);
  CHECK_FALSE(multiply(fixture, *gemm, 17).by_library);
  CHECK(multiply(fixture, *gemm, 18).by_library);
  emulator::refuse_product(0);
  CHECK_FALSE(multiply(fixture, *gemm, 17).by_library);  // it is not asked again
}

TEST_CASE("Choices are measured once and read from the file by the next run") {
  const Fixture fixture;
  const TempDir folder;
  const std::string file = (folder.path() / "choices" / "gemm.txt").string();
  const std::unique_ptr<LibraryGemm> first = fixture.gemm(file);
  REQUIRE(calls_of_tuning(fixture, *first) > 20);
  first->save();
  const std::unique_ptr<LibraryGemm> second = fixture.gemm(file);
  CHECK(second->chosen() == first->chosen());
  CHECK(calls_of_tuning(fixture, *second) <= 2);  // memory for the workspace

  std::ofstream(file, std::ios::app) << "48 96 nonsense\n";
  CHECK(fixture.gemm(file)->chosen() == 0);
  std::ofstream(file) << "of another version\n";
  CHECK(fixture.gemm(file)->chosen() == 0);
}

TEST_CASE(
    "Each call that fails while products are timed is told or passed over and leaks nothing") {
  int failures = 0;
  for (int64_t n = 1;; n += 4) {
    const Fixture fixture;
    emulator::fail_call(n, cudaErrorUnknown);
    auto gemm =
        LibraryGemm::make(**open_cublaslt(), ElementType::kBF16, fixture.stream.get(), "", "card");
    Status status = gemm.status();
    if (gemm.ok()) status = fixture.tune(**gemm);
    const bool planted = !emulator::failed_call().empty();
    emulator::fail_call(0, cudaSuccess);
    if (!planted) break;
    failures += !status.ok();
    if (status.ok()) multiply(fixture, **gemm, 16);
  }
  CHECK(failures > 10);
}

TEST_CASE(
    "A model whose products go to the library gives the own kernels' logits within its type") {
  const pelton::TinyConfig config = pelton::tiny_configs().front();
  const std::vector<TokenId> tokens = pelton::random_tokens(40, 200, 3);
  const auto logits = logits_of_own_and_library(config.json, tokens, pelton::tiny_options());
  CHECK(logits[0] != logits[1]);  // another order of sums: it was the library
  CHECK(pelton::relative_error(logits[1], logits[0], 200) < 6e-2);
}

TEST_CASE("fp8 products by cuBLASLt equal float64 over the rounded operands") {
  const Fixture fixture;
  constexpr int kWide = 384;
  const PackedWeights w({WeightFormat::kF8_128, DType::kF8_128}, ElementType::kBF16, kN, kWide, 5);
  const LibraryGemm::Shape shape = {kN, kWide, false, true};
  const std::unique_ptr<LibraryGemm> gemm = fixture.gemm();
  REQUIRE(gemm->tune(shape, w.packed.data(), kMaxM, fixture.arena).ok());
  REQUIRE(gemm->reserve(fixture.arena).ok());
  REQUIRE(gemm->chosen() == 3);           // up to 16, 32, 64 rows
  for (const int m : {15, 16, 32, 37}) {  // 37: the last five are the own kernels'
    const std::vector<float> x =
        as_elements(ElementType::kBF16, random_values(static_cast<size_t>(m) * kWide, 2));
    const DeviceArray<uint16_t> on_card(to_elements(ElementType::kBF16, x));
    const DeviceArray<uint16_t> out(static_cast<size_t>(m) * kN);
    LinearParams p;
    p.format = WeightFormat::kF8_128;
    p.weights = w.packed.data();
    p.x = on_card.data();
    p.x_stride = p.k = kWide;
    p.out = out.data();
    p.out_stride = p.n = kN;
    p.m = m;
    const StatusOr<bool> done = gemm->run(p);
    REQUIRE(done.ok());
    CHECK(*done == (m >= 16));
    if (!*done) continue;
    must(cudaDeviceSynchronize());
    std::vector<double> expected;
    for (int r = 0; r < m; ++r) {
      const std::vector<float> row(x.begin() + r * kWide, x.begin() + (r + 1) * kWide);
      const std::vector<double> rounded =
          r < m / 16 * 16 ? fp8_rounded(row) : std::vector<double>(row.begin(), row.end());
      for (int n = 0; n < kN; ++n) {
        double sum = 0;
        for (int k = 0; k < kWide; ++k) {
          sum += rounded[static_cast<size_t>(k)] * w.values[static_cast<size_t>(n * kWide + k)];
        }
        expected.push_back(sum);
      }
    }
    check_close(to_floats(ElementType::kBF16, out.host()), expected,
                element_tolerance(ElementType::kBF16), 1e-3);
  }
}

TEST_CASE("fp8 products are tried where the library has them and nowhere else") {
  std::vector<int64_t> calls;
  for (const char* name : {"sm_80", "sm_90"}) {
    emulator::reset(emulator::card_named(name));
    const Stream stream = *make_stream();
    const auto arena = *DeviceArena::take(int64_t{64} << 20, true);
    const PackedWeights w({WeightFormat::kF8_128, DType::kF8_128}, ElementType::kBF16, kN, 128, 5);
    const auto gemm =
        *LibraryGemm::make(**open_cublaslt(), ElementType::kBF16, stream.get(), "", "card");
    const int64_t before = emulator::calls();
    REQUIRE(gemm->tune({kN, 128, false, true}, w.packed.data(), kMaxM, arena).ok());
    calls.push_back(emulator::calls() - before);
    if (calls.size() == 1) CHECK(gemm->chosen() == 0);
  }
  CHECK(calls[1] > calls[0] + 3 * 2 * 4);  // three sizes, two candidates, four runs each
  emulator::reset(emulator::card_named("sm_90"));
}

TEST_CASE("A model of fp8 weights through the library agrees with the own kernels") {
  constexpr std::string_view kConfig = R"({"model_type": "llama", "hidden_size": 128,
      "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
      "num_key_value_heads": 1, "vocab_size": 256, "max_position_embeddings": 128,
      "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
      "tie_word_embeddings": false, "architectures": ["LlamaForCausalLM"],
      "torch_dtype": "float32"})";
  const std::vector<TokenId> tokens = pelton::random_tokens(40, 250, 3);
  LoadOptions load = pelton::tiny_options();
  load.dummy_dtype = DType::kF8_128;
  const auto logits = logits_of_own_and_library(kConfig, tokens, load);
  CHECK(logits[0] != logits[1]);
  CHECK(pelton::relative_error(logits[1], logits[0], 256) < 2e-1);  // activations in 8 bits
}

TEST_CASE("A machine without cuBLASLt is told which files were looked for") {
  static constexpr const char* kNames[] = {"libnothing.so.13", "libnothing.so.12"};
  const auto library = open_cublaslt(kNames);
  CHECK(library.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(std::string(library.status().message()).find("libnothing.so.13 nor libnothing.so.12") !=
        std::string::npos);
  static constexpr const char* kNot[] = {"libc.so.6"};
  CHECK_FALSE(open_cublaslt(kNot).ok());
}

}  // namespace pelton::cuda::test
