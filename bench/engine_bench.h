// Prefill, decode and mixed work straight on the engine: no tokenizer, no sockets.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/load.h"

namespace pelton::bench {

struct EngineBenchOptions {
  int prefill = 512;               // prompt tokens of the prefill figure; 0: none
  int most_prefill_batch = 0;      // larger batches only decode; 0: no bound
  int decode = 64;                 // tokens made by each sequence; 0: none
  int context = 8;                 // prompt tokens of each sequence that decodes
  std::vector<int> batches = {1};  // sequences at once
  bool mixed = false;              // sequences decoding beside a prefill, and arriving in turn
  int repeats = 3;
  // Called when a figure's timed work begins and, once it is over, with that figure: for who
  // measures beside. In each repeat.
  std::function<void()> begun;
  std::function<void(const struct EngineFigure&)> ended;
};

struct EngineFigure {
  std::string name;  // "prefill 512", "decode 64"
  int batch = 1;
  int tokens = 0;           // counted: those computed
  int sampled = 0;          // of them, those that went through the head
  int64_t attended = 0;     // positions of the context, summed over the tokens
  double seconds = 0;       // wall clock, the best of the repeats
  double cpu_seconds = 0;   // of all threads, in that repeat: what a busy machine does not distort
  double longest_step = 0;  // seconds, in that repeat: the gap that a running stream saw
  double tokens_per_second = 0;
  std::vector<double> repeats;  // tokens a second of each
};

// The model's runner moves into the engine. One run ahead of the repeats warms caches up.
StatusOr<std::vector<EngineFigure>> measure_engine(LoadedModel model,
                                                   const EngineBenchOptions& options);

}  // namespace pelton::bench
