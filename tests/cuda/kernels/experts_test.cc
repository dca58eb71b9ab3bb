// The routed MLP's small parts: the chosen experts, the tokens of each, and their weighted sum.
#include "cuda/kernels/experts.h"

#include <algorithm>
#include <numeric>

#include "tests/cuda/kernels/device_array.h"

namespace pelton::cuda::test {
namespace {

struct RouteCase {
  bool is_float32 = false, renormalize = true, sigmoid = false;
  int rows = 5, experts = 8, top_k = 2;
};

void check_route(const RouteCase& c) {
  const size_t count = static_cast<size_t>(c.rows) * c.experts;
  std::vector<float> logits = random_values(count, 31, 2.0F);
  for (int m = 0; m < c.rows; m += 2) logits[m * c.experts] = logits[m * c.experts + c.experts / 2];
  if (!c.is_float32) logits = as_elements(ElementType::kBF16, logits);
  const DeviceArray<float> floats(logits);
  const DeviceArray<uint16_t> elements(to_elements(ElementType::kBF16, logits));
  const DeviceArray<int32_t> ids(static_cast<size_t>(c.rows) * c.top_k);
  const DeviceArray<float> weights(static_cast<size_t>(c.rows) * c.top_k);
  RouteParams p;
  p.is_float32 = c.is_float32;
  p.logits = c.is_float32 ? static_cast<const void*>(floats.data()) : elements.data();
  p.logits_stride = p.experts = c.experts;
  p.rows = c.rows;
  p.top_k = c.top_k;
  p.renormalize = c.renormalize;
  p.sigmoid = c.sigmoid;
  p.scale = 1.5F;
  p.expert_ids = ids.data();
  p.expert_weights = weights.data();
  must(route(p, nullptr));
  std::vector<int32_t> expected_ids;
  std::vector<double> expected;
  for (int m = 0; m < c.rows; ++m) {
    const float* row = logits.data() + static_cast<size_t>(m) * c.experts;
    std::vector<int32_t> order(c.experts);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](int a, int b) { return std::pair(row[b], a) < std::pair(row[a], b); });
    const auto score = [&](int e) {
      return c.sigmoid ? 1 / (1 + std::exp(-double{row[e]}))
                       : std::exp(double{row[e]} - row[order[0]]);
    };
    double all = 0, kept = 0;
    for (int e = 0; e < c.experts; ++e) all += score(e);
    for (int i = 0; i < c.top_k; ++i) kept += score(order[i]);
    for (int i = 0; i < c.top_k; ++i) {
      expected_ids.push_back(order[i]);
      expected.push_back(score(order[i]) / (c.renormalize ? kept : c.sigmoid ? 1 : all) * 1.5);
    }
  }
  INFO("experts " << c.experts << " top_k " << c.top_k << " sigmoid " << c.sigmoid);
  CHECK(ids.host() == expected_ids);
  check_close(weights.host(), expected, 2e-6, 1e-9);
}

}  // namespace

TEST_CASE("routing chooses the experts of largest logit and the lower of equal ones") {
  for (int experts : {1, 5, 8, 64, 128, 200, 1024}) {
    for (int top_k : {1, 2, 8, 32}) {
      if (top_k > experts) continue;
      for (int flags = 0; flags < 8; ++flags) {
        RouteCase c;
        c.is_float32 = (flags & 1) != 0;
        c.renormalize = (flags & 2) != 0;
        c.sigmoid = (flags & 4) != 0;
        c.experts = experts;
        c.top_k = top_k;
        check_route(c);
      }
    }
  }
}

TEST_CASE("a row with a NaN logit takes experts that there are and spoils no other row") {
  const int rows = 3, experts = 6, top_k = 4;
  std::vector<float> logits = random_values(rows * experts, 3);
  const auto run = [&] {
    const DeviceArray<float> dlogits(logits), weights(rows * top_k);
    const DeviceArray<int32_t> ids(rows * top_k);
    RouteParams p;
    p.is_float32 = true;
    p.logits = dlogits.data();
    p.logits_stride = p.experts = experts;
    p.rows = rows;
    p.top_k = top_k;
    p.expert_ids = ids.data();
    p.expert_weights = weights.data();
    must(route(p, nullptr));
    return std::pair(ids.host(), weights.host());
  };
  const auto [ids, weights] = run();
  for (int e = 1; e < experts; ++e) {
    logits[experts + e] = NAN;
    const auto [some_ids, some_weights] = run();
    for (int i = 0; i < rows * top_k; ++i) {
      if (i / top_k == 1) {
        CHECK(std::isnan(some_weights[i]));
      } else {
        CHECK(some_ids[i] == ids[i]);
        CHECK(some_weights[i] == weights[i]);
      }
    }
    std::vector<int32_t> of_nan(some_ids.begin() + top_k, some_ids.begin() + 2 * top_k);
    std::sort(of_nan.begin(), of_nan.end());
    CHECK(std::unique(of_nan.begin(), of_nan.end()) == of_nan.end());
    CHECK((of_nan.front() >= 0 && of_nan.back() < experts));
  }
}

TEST_CASE("tokens are grouped by expert in their order") {
  for (int tokens : {1, 13, 300}) {
    for (int experts : {1, 3, 40}) {
      const int top_k = std::min(2, experts);
      std::vector<int32_t> ids;
      for (int m = 0; m < tokens; ++m) {
        for (int i = 0; i < top_k; ++i) ids.push_back((m * m * 7 + i * 11) % experts);
      }
      const auto entries = static_cast<int>(ids.size());
      const DeviceArray<int32_t> dids(ids), starts(experts + 1), place(entries), token_of(entries);
      GroupByExpertParams p;
      p.expert_ids = dids.data();
      p.entries = entries;
      p.top_k = top_k;
      p.experts = experts;
      p.starts = starts.data();
      p.place = place.data();
      p.token_of = token_of.data();
      must(group_by_expert(p, nullptr));
      std::vector<int32_t> order(entries), expected_starts(experts + 1), expected_place(entries),
          expected_tokens;
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(),
                [&](int a, int b) { return std::pair(ids[a], a) < std::pair(ids[b], b); });
      for (int at = 0; at < entries; ++at) {
        expected_place[order[at]] = at;
        expected_tokens.push_back(order[at] / top_k);
      }
      for (int e = 0; e <= experts; ++e) {
        expected_starts[e] = static_cast<int32_t>(
            std::count_if(ids.begin(), ids.end(), [&](int id) { return id < e; }));
      }
      CHECK(starts.host() == expected_starts);
      CHECK(place.host() == expected_place);
      CHECK(token_of.host() == expected_tokens);
    }
  }
}

TEST_CASE("experts are summed in order of their id") {
  for (ElementType type : {ElementType::kBF16, ElementType::kF16}) {
    for (int cols : {33, 2056}) {
      const int rows = 4, top_k = 3;
      const std::vector<int32_t> ids = {4, 1, 2, 0, 5, 3, 2, 1, 0, 7, 6, 5};
      std::vector<int32_t> place(rows * top_k);
      for (size_t i = 0; i < place.size(); ++i) place[i] = static_cast<int32_t>((i * 5 + 3) % 12);
      const std::vector<float> weights = random_values(place.size(), 9);
      const std::vector<float> x = random_values(place.size() * cols, 10);
      const std::vector<float> seen = as_elements(type, x);
      const DeviceArray<uint16_t> dx(to_elements(type, x)), out(static_cast<size_t>(rows) * cols);
      const DeviceArray<int32_t> dids(ids), dplace(place);
      const DeviceArray<float> dweights(weights);
      CombineExpertsParams p;
      p.type = type;
      p.x = dx.data();
      p.x_stride = p.out_stride = p.cols = cols;
      p.expert_ids = dids.data();
      p.expert_weights = dweights.data();
      p.place = dplace.data();
      p.top_k = top_k;
      p.out = out.data();
      p.rows = rows;
      must(combine_experts(p, nullptr));
      std::vector<double> expected(static_cast<size_t>(rows) * cols);
      for (size_t i = 0; i < place.size(); ++i) {
        for (int k = 0; k < cols; ++k) {
          expected[i / top_k * cols + k] += double{weights[i]} * seen[place[i] * cols + k];
        }
      }
      check_close(to_floats(type, out.host()), expected, element_tolerance(type), 2e-6);
    }
  }
}

TEST_CASE("routing refuses more experts a token than there are") {
  RouteParams p;
  CHECK(route(p, nullptr) == cudaSuccess);
  p.rows = 1;
  p.experts = 4;
  p.top_k = 5;
  CHECK(route(p, nullptr) == cudaErrorInvalidValue);
  p.experts = kMaxExperts + 1;
  CHECK(route(p, nullptr) == cudaErrorInvalidValue);
}

}  // namespace pelton::cuda::test
