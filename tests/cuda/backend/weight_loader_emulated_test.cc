// How weights reach the card: the host reads on while the card copies and repacks, and what arrives
// is what was read.
#include <cstring>

#include "cuda/emulator/emulator.h"
#include "cuda/packed_matrix.h"
#include "tests/cuda/backend/cuda_fixture.h"
#include "tests/cuda/kernels/device_array.h"
#include "tests/model/tiny_models.h"

namespace pelton::cuda::test {
namespace {

constexpr int64_t kCols = 64;
constexpr int64_t kRowBytes = kCols * 2;

// bf16 rows whose bits tell row and column; notes how much work was undone at each read.
class WatchedRows final : public RowSource {
 public:
  WatchedRows(int64_t rows, uint16_t first) : rows_(rows), first_(first) {}
  DType dtype() const override { return DType::kBF16; }
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return kCols; }
  void read_rows(int64_t begin, int64_t end, void* out) const override {
    pending.push_back(emulator::pending_work());
    auto* bits = static_cast<uint16_t*>(out);
    for (int64_t i = 0; i < (end - begin) * kCols; ++i) bits[i] = at(begin * kCols + i);
  }
  uint16_t at(int64_t index) const { return static_cast<uint16_t>(first_ + index); }

  mutable std::vector<int64_t> pending;

 private:
  int64_t rows_;
  uint16_t first_;
};

struct Fixture {
  pelton::test::CudaCard card;
  Stream compute = *make_stream();
  std::shared_ptr<DeviceArena> arena = *DeviceArena::take(int64_t{32} << 20, true);
  // Two row tiles a buffer.
  std::unique_ptr<WeightLoader> loader =
      *WeightLoader::make(arena, ElementType::kBF16, compute.get(), 2 * kTileRows * kRowBytes);

  std::unique_ptr<PackedMatrix> pack(const RowSource& rows) const {
    const RowSource* sources[] = {&rows};
    auto packed = loader->pack(sources);
    REQUIRE(packed.ok());
    return *std::move(packed);
  }
  // In the order of the compute stream, as kernels read it.
  std::vector<uint16_t> read(const void* from, int64_t count) const {
    std::vector<uint16_t> out(static_cast<size_t>(count));
    must(cudaMemcpyAsync(out.data(), from, out.size() * 2, cudaMemcpyDeviceToHost, compute.get()));
    must(cudaStreamSynchronize(compute.get()));
    return out;
  }
  void check(const PackedMatrix& matrix, const WatchedRows& rows) const {
    REQUIRE(matrix.segments().size() == 1);
    const int64_t count = rows.rows() * kCols;
    const std::vector<uint16_t> bits = read(matrix.segments()[0].data.data(), count);
    int64_t wrong = 0;
    for (int64_t i = 0; i < count; ++i) wrong += bits[static_cast<size_t>(i)] != rows.at(i);
    CHECK(wrong == 0);
  }
};

std::vector<uint16_t> numbers(int64_t count, uint16_t first) {
  std::vector<uint16_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<uint16_t>(first + 7 * i));
  return out;
}

}  // namespace

TEST_CASE("A tensor is read while the card still copies the one before it") {
  const Fixture fixture;
  const WatchedRows first(2 * kTileRows, 1), second(8 * kTileRows, 1000), third(kTileRows, 5);
  const std::vector<uint16_t> vector = numbers(100, 3);
  const DevicePiece on_card = *fixture.arena->allocate(200);

  const auto one = fixture.pack(first);
  CHECK(emulator::pending_work() > 0);
  REQUIRE(fixture.loader->upload(std::as_bytes(std::span(vector)), on_card.data()).ok());
  const auto two = fixture.pack(second);
  const auto three = fixture.pack(third);
  CHECK(second.pending.size() == 4);
  for (const int64_t pending : second.pending) CHECK(pending > 0);
  for (const int64_t pending : third.pending) CHECK(pending > 0);
  CHECK(emulator::pageable_copies() == 0);

  fixture.check(*one, first);
  fixture.check(*two, second);
  fixture.check(*three, third);
  CHECK(fixture.read(on_card.data(), 100) == vector);
}

TEST_CASE("Vectors arrive whole however long they are and whatever order streams take") {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const Fixture fixture;
    emulator::set_stream_order(seed);
    std::vector<DevicePiece> pieces;
    std::vector<std::vector<uint16_t>> vectors;
    for (const int64_t count : {3, 0, 1 << 20, 70'000, 900'001, 64, 600'000}) {
      vectors.push_back(numbers(count, static_cast<uint16_t>(count)));
      pieces.push_back(*fixture.arena->allocate(2 * count));
      const auto bytes = std::as_bytes(std::span(vectors.back()));
      std::vector<std::byte> passing(bytes.begin(), bytes.end());
      REQUIRE(fixture.loader->upload(passing, pieces.back().data()).ok());
      std::fill(passing.begin(), passing.end(), std::byte{0});  // the caller's memory is its own
      if (count == 64) REQUIRE(fixture.loader->finish().ok());  // loading may begin again
    }
    for (size_t i = 0; i < pieces.size(); ++i) {
      const auto count = static_cast<int64_t>(vectors[i].size());
      CHECK(fixture.read(pieces[i].data(), count) == vectors[i]);
    }
    emulator::set_stream_order(0);
  }
}

TEST_CASE("Loading a model copies out of pinned memory alone") {
  const pelton::test::CudaCard card;
  const auto backend = card.backend();
  const StatusOr<LoadedModel> model =
      pelton::load_tiny(pelton::tiny_configs().front().json, *backend);
  REQUIRE(model.ok());
  CHECK(emulator::pageable_copies() == 0);
}

}  // namespace pelton::cuda::test
