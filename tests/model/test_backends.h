// The backends that the model's tests run on.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "cpu/cpu_backend.h"

namespace pelton {

struct TestBackend {
  std::string name;
  std::function<std::unique_ptr<Backend>()> make;
};
// Every backend that must keep backend.h's contract.
std::vector<TestBackend> test_backends();
// One backend at several thread counts: the same bits are asked of all.
std::vector<TestBackend> reference_backends(CpuActivations activations = CpuActivations::kF32);

}  // namespace pelton
