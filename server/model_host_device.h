// Which device a model runs on: the backend that the options ask for. Called at start.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "core/status.h"
#include "server/options.h"

namespace pelton {

namespace cpu {
class ThreadPool;
}

// What the models of one process share. Made by the first that needs it; kept by the backends too.
struct SharedDevices {
  std::shared_ptr<cpu::ThreadPool> cpu_pool;
};

// auto: the card where this build and this machine have one, else the CPU. cuda:
// FAILED_PRECONDITION or UNIMPLEMENTED that says what is missing.
StatusOr<std::unique_ptr<Backend>> make_backend(const Options& options, SharedDevices& shared);

}  // namespace pelton
