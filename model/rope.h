// Rotary position tables from a RopeConfig. Pure functions.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "model/model_config.h"

namespace pelton {

// Inverse frequencies, all scaling applied: the angle of pair i at position p is p * result[i].
// Pair i is elements (i, i + head_dim / 2) of a head, in every architecture and file format: the
// weight source undoes GGUF's interleaving. [head_dim / 2]
// linear: Chen et al. 2023 (arXiv 2306.15595); yarn: Peng et al. 2023 (arXiv 2309.00071), NTK by
// parts; llama3: Meta's reference code for Llama 3.1.
std::vector<float> rope_inverse_frequencies(const RopeConfig& rope, int head_dim);

// The same with yarn's factor, as a backend's make_rope() takes it.
RopeSpec rope_spec(const RopeConfig& rope, int head_dim, int max_positions);

}  // namespace pelton
