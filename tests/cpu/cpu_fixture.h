// Every instruction set that this machine runs, and backends on them.
#pragma once

#include <string>
#include <vector>

#include "cpu/cpu_backend.h"
#include "tests/support/backend_fixture.h"

namespace pelton::test {

inline std::unique_ptr<Backend> cpu_backend(CpuIsa isa, int threads,
                                            CpuActivations activations = CpuActivations::kF32) {
  CpuOptions options;
  options.activations = activations;
  options.isa = isa;
  options.threads = threads;
  return must(make_cpu_backend(options));
}

inline std::vector<CpuIsa> cpu_isas() {
  std::vector<CpuIsa> out;
  for (CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kNeon}) {
    CpuOptions options;
    options.isa = isa;
    options.threads = 1;
    if (make_cpu_backend(options).ok()) {
      out.push_back(isa);
    } else {
      WARN("skipped: an instruction set that this processor lacks");
    }
  }
  return out;
}

// A check_ of backend_cases.h on every instruction set, with one thread and with three.
template <typename Check>
void on_every_isa(Check check) {
  for (CpuIsa isa : cpu_isas()) {
    for (int threads : {1, 3}) {
      const auto backend = cpu_backend(isa, threads);
      INFO(backend->description());
      check(*backend);
    }
  }
}

}  // namespace pelton::test
