#include <algorithm>

#include "tests/support/backend_cases.h"
#include "tests/support/backend_fixture.h"

namespace pelton::test {
namespace {

std::vector<double> reference_norm(NormKind kind, const std::vector<double>& x, const float* weight,
                                   const float* bias) {
  const auto n = static_cast<double>(x.size());
  double mean = 0, squares = 0;
  if (kind == NormKind::kLayer) {
    for (double v : x) mean += v / n;
  }
  for (double v : x) squares += (v - mean) * (v - mean);
  std::vector<double> out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    out[i] = (x[i] - mean) / std::sqrt(squares / n + 1e-5) * weight[i];
    if (bias != nullptr) out[i] += bias[i];
  }
  return out;
}

double reference_activation(Activation kind, double x) {
  switch (kind) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kGeluErf:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kRelu:
      return std::max(0.0, x);
  }
  return 0;
}

struct NormCase {
  NormKind kind;
  int64_t m, n;
  bool residual, post, pre, bias;
};

void check_norm_case(Backend& backend, const NormCase& c) {
  const DType dtype = backend.activation_dtype();
  const std::vector<float> x = random_normal(c.m * c.n, 1), r = random_normal(c.m * c.n, 2);
  const std::vector<float> w = random_normal(4 * c.n, 3);
  const DeviceTensor dx = upload(backend, x, c.n), dr = upload(backend, r, c.n);
  const DeviceTensor dw = upload_f32(backend, w);
  const DeviceTensor out = make_activations(backend, c.m, c.n);
  const auto* weights = static_cast<const float*>(dw.view.data);
  NormParams p;
  p.kind = c.kind;
  p.eps = 1e-5F;
  p.x = dx.view;
  if (c.residual) p.residual = dr.view;
  if (c.post) p.post = {weights, c.bias ? weights + c.n : nullptr};
  if (c.pre) {
    p.pre = {weights + 2 * c.n, c.bias ? weights + 3 * c.n : nullptr};
    p.out = out.view;
  }
  backend.norm(p);
  std::vector<double> expected_residual, expected;
  const std::vector<float> seen_x = as_activations(backend, x), seen_r = as_activations(backend, r);
  for (int64_t m = 0; m < c.m; ++m) {
    std::vector<double> t(seen_x.begin() + m * c.n, seen_x.begin() + (m + 1) * c.n);
    if (c.post) t = reference_norm(c.kind, t, w.data(), c.bias ? w.data() + c.n : nullptr);
    for (int64_t i = 0; i < c.n && c.residual; ++i) t[i] += seen_r[m * c.n + i];
    expected_residual.insert(expected_residual.end(), t.begin(), t.end());
    t = reference_norm(c.kind, t, w.data() + 2 * c.n, c.bias ? w.data() + 3 * c.n : nullptr);
    expected.insert(expected.end(), t.begin(), t.end());
  }
  if (c.residual) check_near(download(backend, dr.view), expected_residual, tolerance(dtype), 8);
  if (c.pre) check_near(download(backend, out.view), expected, tolerance(dtype), 12);
}

}  // namespace

void check_norm(Backend& backend) {
  for (NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
    for (int64_t n : {8, 33, 576}) {
      for (int64_t m : {1, 7, 64}) {
        for (int flags = 0; flags < 16; ++flags) {
          const bool residual = (flags & 1) != 0, pre = (flags & 4) != 0;
          if (!residual && !pre) continue;  // nothing would come out
          INFO("kind " << static_cast<int>(kind) << " n " << n << " m " << m << " flags " << flags);
          check_norm_case(backend, {kind, m, n, residual, (flags & 2) != 0, pre, (flags & 8) != 0});
        }
      }
    }
  }
}

void check_activation(Backend& backend) {
  for (Activation kind :
       {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf, Activation::kRelu}) {
    for (bool gated : {false, true}) {
      for (int64_t n : {5, 1536, 3001}) {
        const int64_t m = 3, cols = gated ? 2 * n : n;
        const std::vector<float> values = random_normal(m * cols, 8, 3.0F);
        const std::vector<float> x = as_activations(backend, values);
        const DeviceTensor dx = upload(backend, values, cols);
        const DeviceTensor out = make_activations(backend, m, n);
        ActivationParams p;
        p.kind = kind;
        p.gated = gated;
        p.x = dx.view;
        p.out = out.view;
        backend.activation(p);
        std::vector<double> expected;
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t j = 0; j < n; ++j) {
            const double y = reference_activation(kind, x[i * cols + j]);
            expected.push_back(gated ? y * x[i * cols + n + j] : y);
          }
        }
        INFO("kind " << static_cast<int>(kind) << " gated " << gated);
        check_near(download(backend, out.view), expected, tolerance(backend.activation_dtype()),
                   32);
      }
    }
  }
}

void check_pooling(Backend& backend) {
  Batch batch;
  batch.query_start_loc = {0, 1, 8, 10};
  batch.seq_lens = {1, 7, 2};
  for (int i = 0; i < 10; ++i) {
    batch.tokens.push_back(i);
    batch.positions.push_back(i);
  }
  const int64_t n = 37;
  const std::vector<float> values = random_normal(10 * n, 5);
  const std::vector<float> seen = as_activations(backend, values);
  const DeviceTensor x = upload(backend, values, n);
  for (Pooling kind : {Pooling::kMean, Pooling::kFirst, Pooling::kLast}) {
    for (bool normalize : {false, true}) {
      const DeviceTensor out = make_tensor(backend, 3, n, DType::kF32);
      PoolParams p;
      p.plan = must(backend.prepare(batch, KvGeometry{}));
      p.kind = kind;
      p.normalize = normalize;
      p.x = x.view;
      p.out = out.view;
      backend.pool(p);
      std::vector<double> expected;
      for (int s = 0; s < 3; ++s) {
        const int begin = batch.query_start_loc[s], end = batch.query_start_loc[s + 1];
        std::vector<double> row(n);
        for (int64_t i = 0; i < n; ++i) {
          if (kind == Pooling::kFirst) row[i] = seen[begin * n + i];
          if (kind == Pooling::kLast) row[i] = seen[(end - 1) * n + i];
          for (int m = begin; m < end && kind == Pooling::kMean; ++m) row[i] += seen[m * n + i];
          if (kind == Pooling::kMean) row[i] /= end - begin;
        }
        double squares = 0;
        for (double v : row) squares += v * v;
        for (double v : row) expected.push_back(normalize ? v / std::sqrt(squares) : v);
      }
      check_near(download(backend, out.view), expected, tolerance(DType::kF32), 3);
    }
  }
}

void check_logit_rows(Backend& backend) {
  Batch batch;
  batch.tokens = {1, 2, 3, 4};
  batch.positions = {0, 1, 2, 3};
  batch.query_start_loc = {0, 4};
  batch.seq_lens = {4};
  batch.logit_rows = {1, 3};
  const int64_t n = 19;
  const std::vector<float> values = random_normal(4 * n, 6, 20.0F);
  const std::vector<float> seen = as_activations(backend, values);
  const DeviceTensor x = upload(backend, values, n);
  const DeviceTensor out = make_activations(backend, 2, n);
  const StepPlan* plan = must(backend.prepare(batch, KvGeometry{}));
  backend.gather_logit_rows(*plan, x.view, out.view);
  std::vector<double> expected(seen.begin() + n, seen.begin() + 2 * n);
  expected.insert(expected.end(), seen.begin() + 3 * n, seen.end());
  check_near(download(backend, out.view), expected, 0, 1);
  backend.softcap(out.view, 30.0F);
  for (double& v : expected) v = 30 * std::tanh(v / 30);
  check_near(download(backend, out.view), expected, tolerance(backend.activation_dtype()), 30);
}

}  // namespace pelton::test
