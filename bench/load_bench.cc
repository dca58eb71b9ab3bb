#include "bench/load_bench.h"

#include <algorithm>

#include "bench/ceiling_loops.h"
#include "bench/stopwatch.h"
#include "cpu/memory.h"
#include "model/model_files.h"
#include "model/weights.h"

namespace pelton::bench {
namespace {

constexpr int64_t kPiece = int64_t{2} << 20;  // bytes

// fn(begin, end) over [0, bytes) in pieces, on all threads. Seconds.
template <typename Fn>
double in_pieces(cpu::ThreadPool& pool, int64_t bytes, Fn fn) {
  const Stopwatch watch;
  pool.run((bytes + kPiece - 1) / kPiece, 1, [&](int64_t begin, int64_t end, int) {
    fn(begin * kPiece, std::min(end * kPiece, bytes));
  });
  return watch.seconds();
}

// Seconds for all bytes, at the rate of those that can be read in place.
double read_alone(const WeightSource& source, cpu::ThreadPool& pool) {
  double seconds = 0;
  int64_t bytes = 0;
  for (const auto& tensor : source.tensors()) {
    const auto* data = static_cast<const uint8_t*>(tensor->mapped());
    if (data == nullptr) continue;
    data += -reinterpret_cast<intptr_t>(data) & 31;  // what the loop asks for
    const int64_t size = (tensor->bytes() - 32) / 128 * 128;
    if (size < kPiece) continue;
    seconds += in_pieces(pool, size,
                         [&](int64_t begin, int64_t end) { read_all(data + begin, end - begin); });
    bytes += size;
    tensor->release();
  }
  return bytes == 0
             ? 0
             : seconds * static_cast<double>(source.total_bytes()) / static_cast<double>(bytes);
}

StatusOr<double> fresh_alone(int64_t bytes, cpu::ThreadPool& pool) {
  constexpr int64_t kPage = 4096;
  PELTON_ASSIGN_OR_RETURN(const std::shared_ptr<cpu::Mapping> memory, cpu::Mapping::create(bytes));
  return in_pieces(pool, bytes, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += kPage) memory->data()[at] = 1;
  });
}

}  // namespace

StatusOr<LoadFigure> measure_load(const LoadOptions& options, Backend& backend,
                                  cpu::ThreadPool& pool, int passes) {
  LoadFigure figure;
  figure.best = figure.read = figure.fresh = 1e9;
  for (int pass = 0; pass < passes; ++pass) {
    PELTON_ASSIGN_OR_RETURN(ModelFiles files,
                            open_model_files(options.path, {.load_format = options.load_format,
                                                            .dummy_dtype = options.dummy_dtype,
                                                            .seed = options.seed,
                                                            .shard = {}}));
    figure.bytes = files.weights->total_bytes();
    if (pass == 0) read_alone(*files.weights, pool);
    const Stopwatch watch;
    {
      PELTON_ASSIGN_OR_RETURN(
          const DecoderWeights weights,
          load_decoder_weights(std::move(files.weights), files.config, backend, {}));
      const double seconds = watch.seconds();
      if (pass == 0) figure.first = seconds;
      figure.best = std::min(figure.best, seconds);
      figure.read = std::min(figure.read, read_alone(*weights.source, pool));
    }
    PELTON_ASSIGN_OR_RETURN(const double fresh, fresh_alone(figure.bytes, pool));
    figure.fresh = std::min(figure.fresh, fresh);
  }
  return figure;
}

}  // namespace pelton::bench
