#include "bench/kernel_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "bench/random_source.h"

namespace pelton::bench {
namespace {

struct Shape {
  DType dtype;
  int64_t rows, cols;
};

// The products of one pass, each with weights of its own.
class Bench {
 public:
  static StatusOr<Bench> create(Backend& backend, const std::vector<Shape>& shapes,
                                int max_tokens) {
    Bench bench(backend, shapes.front().dtype);
    int64_t widest_in = 0, widest_out = 0;
    for (const Shape& shape : shapes) {
      const RandomSource source(shape.dtype, shape.rows, shape.cols);
      const RowSource* sources[] = {&source};
      PELTON_ASSIGN_OR_RETURN(std::unique_ptr<Matrix> matrix, backend.pack(sources));
      bench.bytes_ += matrix->bytes();
      bench.flops_ += 2.0 * static_cast<double>(shape.rows) * static_cast<double>(shape.cols);
      bench.matrices_.push_back(std::move(matrix));
      widest_in = std::max(widest_in, shape.cols);
      widest_out = std::max(widest_out, shape.rows);
    }
    PELTON_ASSIGN_OR_RETURN(bench.x_, backend.allocate(max_tokens * widest_in * 4));
    PELTON_ASSIGN_OR_RETURN(bench.out_, backend.allocate(max_tokens * widest_out * 4));
    return bench;
  }

  KernelFigure run(const std::string& name, int tokens, TimeBase base) {
    KernelFigure figure;
    figure.name = name;
    figure.dtype = dtype_;
    figure.tokens = tokens;
    figure.seconds = 1e9;
    const Stopwatch whole;
    for (int pass = 0; pass < 200; ++pass) {
      const Stopwatch watch(base);
      for (const auto& matrix : matrices_) {
        LinearParams p;
        p.w = matrix.get();
        p.x = {x_->data(), DType::kF32, tokens, matrix->cols(), matrix->cols()};
        p.out = {out_->data(), DType::kF32, tokens, matrix->rows(), matrix->rows()};
        backend_.linear(p);
      }
      figure.seconds = std::min(figure.seconds, watch.seconds());
      if (pass > 2 && whole.seconds() > 0.4) break;
    }
    figure.gb_per_s = 1e-9 * static_cast<double>(bytes_) / figure.seconds;
    figure.gflops = 1e-9 * flops_ * tokens / figure.seconds;
    return figure;
  }

 private:
  Bench(Backend& backend, DType dtype) : backend_(backend), dtype_(dtype) {}

  Backend& backend_;
  DType dtype_;
  std::vector<std::unique_ptr<Matrix>> matrices_;
  std::unique_ptr<Buffer> x_, out_;
  int64_t bytes_ = 0;
  double flops_ = 0;
};

// SmolLM2-135M: 30 layers of Q4_1 and a Q8_0 head.
std::vector<Shape> demo_shapes() {
  std::vector<Shape> shapes;
  for (int layer = 0; layer < 30; ++layer) {
    for (const auto& [rows, cols] :
         {std::pair{960, 576}, std::pair{576, 576}, std::pair{3072, 576}, std::pair{576, 1536}}) {
      shapes.push_back({DType::kQ4_1, rows, cols});
    }
  }
  shapes.push_back({DType::kQ8_0, 49152, 576});
  return shapes;
}

}  // namespace

StatusOr<std::vector<KernelFigure>> measure_kernels(Backend& backend,
                                                    const std::vector<int>& tokens,
                                                    const std::vector<DType>& formats,
                                                    TimeBase base) {
  std::vector<KernelFigure> out;
  const int most = *std::max_element(tokens.begin(), tokens.end());
  const auto measure = [&](const std::string& name, const std::vector<Shape>& shapes) -> Status {
    PELTON_ASSIGN_OR_RETURN(Bench bench, Bench::create(backend, shapes, most));
    for (int m : tokens) out.push_back(bench.run(name, m, base));
    return absl::OkStatus();
  };
  std::vector<DType> dtypes = formats;
  if (formats.empty()) {
    PELTON_RETURN_IF_ERROR(measure("demo layers and head", demo_shapes()));
    dtypes = {DType::kQ4_1, DType::kQ4_0, DType::kQ8_0, DType::kQ5_1, DType::kQ4_K,
              DType::kQ5_K, DType::kQ6_K, DType::kBF16, DType::kF16,  DType::kF32};
  }
  for (const DType dtype : dtypes) {
    if (!backend.supports_weights(dtype)) {
      return absl::InvalidArgumentError(
          fmt::format("no products with {} weights", dtype_info(dtype).name));
    }
    const int64_t matrix_bytes = dtype_bytes(dtype, int64_t{2048} * 2048);
    const auto count = static_cast<size_t>((int64_t{96} << 20) / matrix_bytes);
    PELTON_RETURN_IF_ERROR(measure(fmt::format("{} 2048x2048", dtype_info(dtype).name),
                                   std::vector<Shape>(count, {dtype, 2048, 2048})));
  }
  return out;
}

}  // namespace pelton::bench
