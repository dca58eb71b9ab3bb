#include "tests/model/test_backends.h"

#include "core/check.h"
#include "cpu/cpu_backend.h"
#include "tests/support/naive_backend.h"

namespace pelton {
namespace {

TestBackend on_cpu(int threads, std::string name) {
  return {std::move(name), [threads] {
            auto backend =
                make_cpu_backend({.threads = threads, .isa = CpuIsa::kAuto, .pool = nullptr});
            PELTON_CHECK(backend.ok(), "the CPU backend starts");
            return *std::move(backend);
          }};
}

}  // namespace

std::vector<TestBackend> test_backends() {
  return {{"naive", [] { return std::make_unique<NaiveBackend>(); }}, on_cpu(2, "cpu")};
}

std::vector<TestBackend> reference_backends() {
  return {on_cpu(1, "1 thread"), on_cpu(3, "3 threads"), on_cpu(2, "2 threads")};
}

}  // namespace pelton
