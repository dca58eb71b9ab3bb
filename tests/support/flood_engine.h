// Stands in for scheduler/engine.cc at link time where the front ends are measured: no model, one
// token for every running request a step. The knobs are read at each step.
#pragma once

#include <atomic>

namespace pelton {

struct FloodKnobs {
  std::atomic<int> step_us = 0;         // pause between steps; 0: as fast as it goes
  std::atomic<bool> paused = false;     // no step is made
  std::atomic<double> cpu_seconds = 0;  // of the engine thread, as of its last step
};
FloodKnobs& flood_knobs();

}  // namespace pelton
