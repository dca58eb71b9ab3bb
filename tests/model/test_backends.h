// The backends that the model's tests run on.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace pelton {

struct TestBackend {
  std::string name;
  std::function<std::unique_ptr<Backend>()> make;
};
// Every backend that must keep backend.h's contract.
std::vector<TestBackend> test_backends();
// The CPU backend with activations of 8 bits.
TestBackend int8_backend();
// One backend at several thread counts: the same bits are asked of all.
std::vector<TestBackend> reference_backends();

}  // namespace pelton
