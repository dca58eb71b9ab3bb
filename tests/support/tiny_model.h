// Tiny models of every architecture in both formats, written through the architecture row's own
// name map with random bits: for fuzzing and for checks of what is found, not of values.
#pragma once

#include <string>
#include <vector>

#include "model/architecture.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/safetensors_writer.h"

namespace pelton {

// Two layers, hidden 64, 4 heads of 16 (2 KV heads but for gpt2), vocabulary 96.
std::string tiny_config_json(const std::string& architecture);
ModelConfig tiny_config(const std::string& architecture);

std::vector<SafetensorsItem> tiny_safetensors(const std::string& architecture);
// Metadata and tensors (F32) of the same model; `first_tokens` take the first ids.
GgufWriter tiny_gguf(const std::string& architecture,
                     const std::vector<std::string>& first_tokens = {});

}  // namespace pelton
