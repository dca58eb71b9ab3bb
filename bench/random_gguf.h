// Writes a GGUF file of random weights for a config, so that other engines can be measured with the
// very file that Pelton reads. No tokenizer is in it.
#pragma once

#include <string>

#include "core/dtype.h"
#include "core/status.h"

namespace pelton::bench {

struct RandomGgufOptions {
  std::string config;              // a config.json or its folder
  DType matrices = DType::kQ8_0;   // of the layers
  DType embedding = DType::kQ8_0;  // and of the head
  std::string path;                // replaced once it is whole
};

// UNIMPLEMENTED for other families than llama.
Status write_random_gguf(const RandomGgufOptions& options);

}  // namespace pelton::bench
