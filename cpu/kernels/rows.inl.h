// What is done to one row at a time: norms, rotation, activations, the sampler's passes.

// fn(offset, lanes) for each run of sixteen, the last possibly shorter.
template <typename Fn>
PELTON_INLINE void for_lanes(int64_t n, Fn&& fn) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) fn(i, kLanes);
  if (i < n) fn(i, static_cast<int>(n - i));
}
PELTON_INLINE F load_some(const float* p, int n) {
  return n == kLanes ? load(p) : load_n(p, n);
}
PELTON_INLINE void store_some(float* p, F a, int n) {
  if (n == kLanes) return store(p, a);
  store_n(p, a, n);
}

// out = (x - mean) / sqrt(variance + eps) * weight + bias; kRms: mean 0. In place allowed.
PELTON_INLINE void normalise(NormKind kind, float eps, const float* x, const RowWeights& w,
                             int64_t n, float* out) {
  const float count = static_cast<float>(n);
  float mean = 0;
  if (kind == NormKind::kLayer) {
    F sum = zero();
    for_lanes(n, [&](int64_t i, int m) PELTON_LAMBDA { sum = add(sum, load_some(x + i, m)); });
    mean = reduce_add(sum) / count;
  }
  F squares = zero();
  for_lanes(n, [&](int64_t i, int m) PELTON_LAMBDA {
    F centred = load_some(x + i, m);
    if (kind == NormKind::kLayer) {
      centred = sub(centred, set1(mean));
      if (m < kLanes) {  // absent lanes are not -mean
        float lanes[kLanes] = {};
        store_n(lanes, centred, m);
        centred = load(lanes);
      }
    }
    squares = fma(centred, centred, squares);
  });
  const float inverse = 1.0F / __builtin_sqrtf(reduce_add(squares) / count + eps);
  for_lanes(n, [&](int64_t i, int m) PELTON_LAMBDA {
    F y = load_some(x + i, m);
    if (kind == NormKind::kLayer) y = sub(y, set1(mean));
    y = mul(mul(y, set1(inverse)), load_some(w.weight + i, m));
    if (w.bias != nullptr) y = add(y, load_some(w.bias + i, m));
    store_some(out + i, y, m);
  });
}

void norm_row(const NormRowArgs& a) {
  const float* x = a.x;
  if (a.post.weight != nullptr) {
    normalise(a.kind, a.eps, x, a.post, a.n, a.scratch);
    x = a.scratch;
  }
  if (a.residual != nullptr) {
    for_lanes(a.n, [&](int64_t i, int m) PELTON_LAMBDA {
      store_some(a.residual + i, add(load_some(a.residual + i, m), load_some(x + i, m)), m);
    });
    x = a.residual;
  }
  if (a.out != nullptr) normalise(a.kind, a.eps, x, a.pre, a.n, a.out);
}

PELTON_INLINE void rotate_halves(float* head, const RopeRowArgs& a) {
  for_lanes(a.pairs, [&](int64_t i, int m) PELTON_LAMBDA {
    const F c = load_some(a.cos + i, m), s = load_some(a.sin + i, m);
    const F x = load_some(head + i, m), y = load_some(head + a.pairs + i, m);
    store_some(head + i, sub(mul(x, c), mul(y, s)), m);
    store_some(head + a.pairs + i, add(mul(y, c), mul(x, s)), m);
  });
}

PELTON_INLINE void rotate_neighbours(float* head, const RopeRowArgs& a) {
  for (int i = 0; i < a.pairs; ++i) {
    const float x = head[2 * i], y = head[2 * i + 1];
    head[2 * i] = x * a.cos[i] - y * a.sin[i];
    head[2 * i + 1] = y * a.cos[i] + x * a.sin[i];
  }
}

void rope_row(const RopeRowArgs& a) {
  for (int h = 0; h < a.num_heads; ++h) {
    float* head = a.heads + static_cast<int64_t>(h) * a.head_dim;
    if (a.norm != nullptr) {
      normalise(NormKind::kRms, a.norm_eps, head, {a.norm, nullptr}, a.head_dim, head);
    }
    if (a.cos == nullptr) continue;
    if (a.interleaved) {
      rotate_neighbours(head, a);
    } else {
      rotate_halves(head, a);
    }
  }
}

// out = act(x) * up, or act(x) where up is null.
void activate(Activation kind, const float* x, const float* up, int64_t n, float* out) {
  const auto apply = [&](auto function) PELTON_LAMBDA {
    for_lanes(n, [&](int64_t i, int m) PELTON_LAMBDA {
      F y = function(load_some(x + i, m));
      if (up != nullptr) y = mul(y, load_some(up + i, m));
      store_some(out + i, y, m);
    });
  };
  switch (kind) {
    case Activation::kSilu:
      return apply([](F v) PELTON_LAMBDA { return silu(v); });
    case Activation::kGeluTanh:
      return apply([](F v) PELTON_LAMBDA { return gelu_tanh(v); });
    case Activation::kGeluErf:
      return apply([](F v) PELTON_LAMBDA { return gelu_erf(v); });
    case Activation::kRelu:
      return apply([](F v) PELTON_LAMBDA { return max(zero(), v); });
  }
}

void softcap(float* x, int64_t n, float cap) {
  for_lanes(n, [&](int64_t i, int m) PELTON_LAMBDA {
    store_some(x + i, mul(set1(cap), tanh(div(load_some(x + i, m), set1(cap)))), m);
  });
}

void axpy(float a, const float* x, int64_t n, float* y) {
  for_lanes(n, [&](int64_t i, int m) PELTON_LAMBDA {
    store_some(y + i, fma(set1(a), load_some(x + i, m), load_some(y + i, m)), m);
  });
}

RowMax row_max(const float* x, int64_t n) {
  F top = set1(-__builtin_inff());
  bool bad = false;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F v = load(x + i);
    bad |= any_nan(v);
    top = max(v, top);
  }
  float value = reduce_max(top);
  for (; i < n; ++i) {
    bad |= x[i] != x[i];
    if (x[i] > value) value = x[i];
  }
  return {value, bad || value == __builtin_inff()};
}

void divide(const float* x, int64_t n, float divisor, float* out) {
  for_lanes(n, [&](int64_t i, int m) PELTON_LAMBDA {
    store_some(out + i, div(load_some(x + i, m), set1(divisor)), m);
  });
}

uint64_t sampler_weights(const float* x, int64_t n, float top, uint32_t* weights) {
  uint64_t sum = 0;
  for_lanes(n, [&](int64_t i, int m) PELTON_LAMBDA {
    uint32_t lanes[kLanes];
    const F e = exp(sub(load_some(x + i, m), set1(top)));
    store_rounded(lanes, mul(e, set1(1073741824.0F)));
    for (int j = 0; j < m; ++j) {
      weights[i + j] = lanes[j];
      sum += lanes[j];
    }
  });
  return sum;
}

double exp_sum(const float* x, int64_t n, float top) {
  constexpr int64_t kRun = 64 * kLanes;  // few enough float additions a lane to keep its precision
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kRun) {
    F part = zero();
    const int64_t count = n - begin < kRun ? n - begin : kRun;
    int64_t i = begin;
    for (; i + kLanes <= begin + count; i += kLanes) {
      part = add(part, exp(sub(load(x + i), set1(top))));
    }
    sum += static_cast<double>(reduce_add(part));
    if (i < begin + count) {
      float lanes[kLanes];
      store(lanes, exp(sub(load_n(x + i, static_cast<int>(begin + count - i)), set1(top))));
      for (int j = 0; j < begin + count - i; ++j) sum += static_cast<double>(lanes[j]);
    }
  }
  return sum;
}
