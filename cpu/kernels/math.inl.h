// Elementary functions on lanes, as fixed sequences of operations.

// sampler_exp of backend/sampler_spec.h, operation for operation, and above zero too (up to e^88).
PELTON_INLINE F exp(F z) {
  const F magic = set1(12582912.0F);
  z = max(set1(-87.0F), min(set1(88.0F), z));
  const F shifted = fma(z, set1(1.44269504088896341F), magic);
  const F n = sub(shifted, magic);
  const F r = fma(n, set1(2.12194440e-4F), fma(n, set1(-0.693359375F), z));
  F p = set1(1.9875691500e-4F);
  p = fma(p, r, set1(1.3981999507e-3F));
  p = fma(p, r, set1(8.3334519073e-3F));
  p = fma(p, r, set1(4.1665795894e-2F));
  p = fma(p, r, set1(1.6666665459e-1F));
  p = fma(p, r, set1(5.0000001201e-1F));
  p = add(fma(mul(p, r), r, r), set1(1.0F));
  return mul(p, power_of_two(shifted));
}

// x / (1 + e^-x)
PELTON_INLINE F silu(F x) {
  return div(x, add(set1(1.0F), exp(sub(zero(), x))));
}

// Cephes' tanhf: an odd polynomial near zero, 1 - 2 / (1 + e^2x) beyond.
PELTON_INLINE F tanh(F x) {
  const F z = mul(x, x);
  F p = set1(-5.70498872745e-3F);
  p = fma(p, z, set1(2.06390887954e-2F));
  p = fma(p, z, set1(-5.37397155531e-2F));
  p = fma(p, z, set1(1.33314422036e-1F));
  p = fma(p, z, set1(-3.33332819422e-1F));
  const F near = fma(mul(p, z), x, x);
  const F far = sub(set1(1.0F), div(set1(2.0F), add(set1(1.0F), exp(add(x, x)))));
  return select(less(z, set1(0.390625F)), near, far);
}

// 0.5 x (1 + tanh(u)) = x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3)
PELTON_INLINE F gelu_tanh(F x) {
  const F inner = fma(mul(mul(x, x), x), set1(0.044715F), x);
  return div(x, add(set1(1.0F), exp(mul(inner, set1(-1.5957691216057308F)))));
}

// x * Phi(x); erfc by Abramowitz and Stegun 7.1.26 (error below 1.5e-7), which has no cancellation
// on the negative side.
PELTON_INLINE F gelu_erf(F x) {
  const F negative = sub(zero(), x);
  const F u = mul(max(x, negative), set1(0.70710678118654752F));
  const F t = div(set1(1.0F), fma(u, set1(0.3275911F), set1(1.0F)));
  F p = set1(1.061405429F);
  p = fma(p, t, set1(-1.453152027F));
  p = fma(p, t, set1(1.421413741F));
  p = fma(p, t, set1(-0.284496736F));
  p = fma(p, t, set1(0.254829592F));
  const F half_erfc = mul(set1(0.5F), mul(mul(p, t), exp(sub(zero(), mul(u, u)))));
  return mul(x, select(less(x, zero()), half_erfc, sub(set1(1.0F), half_erfc)));
}
