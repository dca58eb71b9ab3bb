// Prefill, decode and mixed work straight on the engine: no tokenizer, no sockets.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "model/load.h"

namespace pelton::bench {

struct EngineBenchOptions {
  int prefill = 512;               // prompt tokens of the prefill figure; 0: none
  int decode = 64;                 // tokens made by each sequence; 0: none
  std::vector<int> batches = {1};  // sequences at once
  bool mixed = false;              // prompts of many lengths arriving while others decode
  int repeats = 3;
};

struct EngineFigure {
  std::string name;  // "prefill 512", "decode 64"
  int batch = 1;
  int tokens = 0;          // counted
  double seconds = 0;      // wall clock, the best of the repeats
  double cpu_seconds = 0;  // of all threads, in that repeat: what a busy machine does not distort
  double tokens_per_second = 0;
};

// The model's runner moves into the engine.
StatusOr<std::vector<EngineFigure>> measure_engine(LoadedModel model,
                                                   const EngineBenchOptions& options);

}  // namespace pelton::bench
