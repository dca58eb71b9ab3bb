#include "tests/model/test_backends.h"

#include "core/check.h"
#include "tests/support/naive_backend.h"

namespace pelton {
namespace {

TestBackend on_cpu(int threads, std::string name,
                   CpuActivations activations = CpuActivations::kF32) {
  return {std::move(name), [threads, activations] {
            CpuOptions options;
            options.threads = threads;
            options.activations = activations;
            auto backend = make_cpu_backend(options);
            PELTON_CHECK(backend.ok(), "the CPU backend starts");
            return *std::move(backend);
          }};
}

}  // namespace

std::vector<TestBackend> test_backends() {
  return {{"naive", [] { return std::make_unique<NaiveBackend>(); }}, on_cpu(2, "cpu")};
}

std::vector<TestBackend> reference_backends(CpuActivations activations) {
  return {on_cpu(1, "1 thread", activations), on_cpu(3, "3 threads", activations),
          on_cpu(2, "2 threads", activations)};
}

}  // namespace pelton
