#include "tests/model/test_backends.h"

#include "tests/support/naive_backend.h"

namespace pelton {

std::vector<TestBackend> test_backends() {
  return {{"naive", [] { return std::make_unique<NaiveBackend>(); }}};
}

std::vector<TestBackend> reference_backends() {
  return test_backends();
}

}  // namespace pelton
