#include <algorithm>
#include <numeric>
#include <utility>

#include "tests/support/backend_cases.h"
#include "tests/support/backend_fixture.h"

namespace pelton::test {
namespace {

constexpr float kRouteScale = 1.5F;

std::vector<float> router_logits(const ExpertsCase& c) {
  std::vector<float> logits = random_normal(c.m * c.num_experts, c.seed + 1);
  for (int64_t m = 0; m < c.m && c.num_experts > 3; m += 5) {
    logits[m * c.num_experts + 3] = logits[m * c.num_experts + 1];  // a tie
  }
  return logits;
}

// The parts of expert e's gate and up, of two formats where the case says so, and its down.
std::vector<FloatSource> gate_up_sources(const ExpertsCase& c, int e) {
  const float scale = 1 / std::sqrt(static_cast<float>(c.hidden));
  const auto rows = [&](DType dtype, int64_t count, uint64_t seed) {
    return FloatSource(dtype, count, c.hidden, random_normal(count * c.hidden, seed, scale));
  };
  const uint64_t seed = c.seed + 100 + 3 * static_cast<uint64_t>(e);
  std::vector<FloatSource> out;
  if (c.mixed) {
    out.push_back(rows(c.dtype, c.ffn, seed));
    out.push_back(rows(e % 3 == 2 ? DType::kQ8_0 : DType::kF32, c.ffn, seed + 1));
  } else {
    out.push_back(rows(c.dtype, 2 * c.ffn, seed));
  }
  return out;
}

FloatSource down_source(const ExpertsCase& c, int e) {
  const float scale = 1 / std::sqrt(static_cast<float>(c.ffn));
  return {c.dtype, c.hidden, c.ffn,
          random_normal(c.hidden * c.ffn, c.seed + 102 + 3 * static_cast<uint64_t>(e), scale)};
}

// A pack()ed expert as the device sees it.
std::vector<float> seen_weights(Backend& backend, const std::vector<FloatSource>& sources) {
  std::vector<float> out;
  for (const FloatSource& source : sources) {
    const std::vector<float> values = as_weights(backend, source.dtype(), source.values());
    out.insert(out.end(), values.begin(), values.end());
  }
  return out;
}

double act(Activation kind, double x) {
  if (kind == Activation::kRelu) return std::max(0.0, x);
  if (kind == Activation::kSilu) return x / (1 + std::exp(-x));
  return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
}

// The chosen experts of one row and their weights.
std::vector<std::pair<int, double>> chosen(const ExpertsCase& c, const float* logits) {
  std::vector<int> order(c.num_experts);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return std::pair(-logits[a], a) < std::pair(-logits[b], b); });
  const auto score = [&](int e) {
    return c.sigmoid ? 1 / (1 + std::exp(-double{logits[e]}))
                     : std::exp(double{logits[e]} - logits[order[0]]);
  };
  double all = 0, kept = 0;
  for (const int e : order) all += score(e);
  for (int i = 0; i < c.top_k; ++i) kept += score(order[i]);
  std::vector<std::pair<int, double>> out;
  for (int i = 0; i < c.top_k; ++i) {
    const double divisor = c.renormalize ? kept : c.sigmoid ? 1 : all;
    out.emplace_back(order[i], score(order[i]) / divisor * kRouteScale);
  }
  return out;
}

std::vector<double> reference_experts(Backend& backend, const ExpertsCase& c) {
  const std::vector<float> x = as_activations(backend, random_normal(c.m * c.hidden, c.seed));
  std::vector<float> logits = router_logits(c);
  if (!c.float_logits) logits = as_activations(backend, logits);
  std::vector<std::vector<float>> gate_up, down;
  for (int e = 0; e < c.num_experts; ++e) {
    gate_up.push_back(seen_weights(backend, gate_up_sources(c, e)));
    down.push_back(seen_weights(backend, {down_source(c, e)}));
  }
  std::vector<double> out(c.m * c.hidden);
  for (int64_t i = 0; i < c.m; ++i) {
    const float* row = x.data() + i * c.hidden;
    for (const auto& [e, weight] : chosen(c, logits.data() + i * c.num_experts)) {
      for (int64_t f = 0; f < c.ffn; ++f) {
        const float* gate = gate_up[e].data() + f * c.hidden;
        const float* up = gate + c.ffn * c.hidden;
        const double h = act(c.activation, std::inner_product(row, row + c.hidden, gate, 0.0)) *
                         std::inner_product(row, row + c.hidden, up, 0.0);
        for (int64_t k = 0; k < c.hidden; ++k) {
          out[i * c.hidden + k] += weight * h * down[e][k * c.ffn + f];
        }
      }
    }
  }
  return out;
}

}  // namespace

PackedExperts pack_experts(Backend& backend, const ExpertsCase& c) {
  PackedExperts out;
  for (int e = 0; e < c.num_experts; ++e) {
    const std::vector<FloatSource> sources = gate_up_sources(c, e);
    std::vector<const RowSource*> pointers;
    for (const FloatSource& source : sources) pointers.push_back(&source);
    out.owned.push_back(must(backend.pack(pointers)));
    out.gate_up.push_back(out.owned.back().get());
    out.owned.push_back(pack_one(backend, down_source(c, e)));
    out.down.push_back(out.owned.back().get());
  }
  return out;
}

std::vector<float> run_experts(Backend& backend, const ExpertsCase& c,
                               const PackedExperts& packed) {
  const DeviceTensor x = upload(backend, random_normal(c.m * c.hidden, c.seed), c.hidden);
  const DType logits_type = c.float_logits ? DType::kF32 : backend.activation_dtype();
  const DeviceTensor logits = upload_as(backend, router_logits(c), c.num_experts, logits_type);
  const DeviceTensor ids = make_tensor(backend, c.m, c.top_k, DType::kI32);
  const DeviceTensor weights = make_tensor(backend, c.m, c.top_k, DType::kF32);
  const DeviceTensor out = make_activations(backend, c.m, c.hidden);
  RouteParams route;
  route.logits = logits.view;
  route.top_k = c.top_k;
  route.renormalize = c.renormalize;
  route.sigmoid = c.sigmoid;
  route.scale = kRouteScale;
  route.expert_ids = ids.view;
  route.expert_weights = weights.view;
  backend.route(route);
  ExpertsParams p;
  p.x = x.view;
  p.expert_ids = ids.view;
  p.expert_weights = weights.view;
  p.gate_up = packed.gate_up;
  p.down = packed.down;
  p.activation = c.activation;
  p.out = out.view;
  backend.experts(p);
  must_ok(backend.synchronize());
  return download(backend, out.view);
}

void check_experts(Backend& backend) {
  std::vector<ExpertsCase> cases = {{},
                                    {.renormalize = false},
                                    {.renormalize = false, .sigmoid = true},
                                    {.activation = Activation::kGeluErf, .float_logits = true},
                                    {.m = 40, .num_experts = 37, .top_k = 6, .sigmoid = true},
                                    {.m = 3, .num_experts = 1, .top_k = 1},
                                    {.m = 200, .num_experts = 4, .activation = Activation::kRelu},
                                    {.dtype = DType::kQ4_1, .num_experts = 7, .mixed = true}};
  std::vector<DType> dtypes = weight_dtypes();
  dtypes.insert(dtypes.end(), {DType::kF8_128, DType::kI4_128});
  for (const DType dtype : dtypes) {
    if (!backend.supports_weights(dtype)) continue;
    cases.push_back({.dtype = dtype, .m = 9, .hidden = 256, .ffn = 256, .num_experts = 4});
  }
  for (const ExpertsCase& c : cases) {
    INFO("case " << &c - cases.data() << " " << dtype_info(c.dtype).name);
    const PackedExperts packed = pack_experts(backend, c);
    const std::vector<float> all = run_experts(backend, c, packed);
    check_near(all, reference_experts(backend, c), tolerance(backend.activation_dtype()), 3);
    // A row has the same bits whatever stands beside it.
    for (const int64_t m : {1, 7, 33}) {
      if (m >= c.m) continue;
      ExpertsCase fewer = c;
      fewer.m = m;
      INFO("m " << m << " of " << c.m);
      CHECK(same_bits(run_experts(backend, fewer, packed),
                      {all.begin(), all.begin() + m * c.hidden}));
    }
  }
}

}  // namespace pelton::test
