#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace pelton {
namespace {

constexpr double kTwoPi = 2.0 * std::numbers::pi;

// Keeps short wavelengths, divides long ones by the factor, blends between.
double llama3_frequency(const RopeScaling& scaling, double frequency) {
  const double wavelength = kTwoPi / frequency;
  const double trained = scaling.original_max_positions;
  if (wavelength < trained / scaling.high_freq_factor) return frequency;
  if (wavelength > trained / scaling.low_freq_factor) return frequency / scaling.factor;
  const double smooth = (trained / wavelength - scaling.low_freq_factor) /
                        (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1.0 - smooth) * frequency / scaling.factor + smooth * frequency;
}

// Pairs [low, high] between which yarn goes over from extrapolation to interpolation.
struct YarnRange {
  double low;
  double high;
};

YarnRange yarn_range(const RopeConfig& rope, int head_dim) {
  const RopeScaling& scaling = rope.scaling;
  // The pair that turns `rotations` times over the trained context.
  const auto pair_of = [&](double rotations) {
    return head_dim * std::log(scaling.original_max_positions / (rotations * kTwoPi)) /
           (2.0 * std::log(rope.theta));
  };
  YarnRange range = {pair_of(scaling.beta_fast), pair_of(scaling.beta_slow)};
  if (scaling.truncate) range = {std::floor(range.low), std::ceil(range.high)};
  range = {std::max(range.low, 0.0), std::min(range.high, head_dim - 1.0)};
  if (range.low == range.high) range.high += 0.001;
  return range;
}

}  // namespace

std::vector<float> rope_inverse_frequencies(const RopeConfig& rope, int head_dim) {
  const RopeScaling& scaling = rope.scaling;
  const YarnRange range =
      scaling.kind == RopeScalingKind::kYarn ? yarn_range(rope, head_dim) : YarnRange{};
  std::vector<float> frequencies(static_cast<size_t>(head_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double frequency = std::pow(rope.theta, -2.0 * static_cast<double>(i) / head_dim);
    switch (scaling.kind) {
      case RopeScalingKind::kNone:
        break;
      case RopeScalingKind::kLinear:
        frequency /= scaling.factor;
        break;
      case RopeScalingKind::kLlama3:
        frequency = llama3_frequency(scaling, frequency);
        break;
      case RopeScalingKind::kYarn: {
        const double ramp =
            std::clamp((static_cast<double>(i) - range.low) / (range.high - range.low), 0.0, 1.0);
        frequency = frequency * (1.0 - ramp) + frequency / scaling.factor * ramp;
        break;
      }
    }
    if (i < rope.freq_factors.size()) frequency /= rope.freq_factors[i];
    frequencies[i] = static_cast<float>(frequency);
  }
  return frequencies;
}

RopeSpec rope_spec(const RopeConfig& rope, int head_dim, int max_positions) {
  RopeSpec spec;
  spec.inverse_frequencies = rope_inverse_frequencies(rope, head_dim);
  spec.magnitude = static_cast<float>(rope.scaling.attention_factor);
  spec.max_positions = max_positions;
  return spec;
}

}  // namespace pelton
