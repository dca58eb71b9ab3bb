// Traces each test case of cuda_races_test: a race, an access out of bounds or a read of what
// nobody wrote fails the program, whatever values came out.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#define CATCH_CONFIG_EXTERNAL_INTERFACES  // listeners, in Catch2 v2

#include "cuda/emulator/trace.h"
#include "tests/support/catch.h"

namespace pelton::cuda::test {
namespace {

#if __has_include(<catch2/catch_all.hpp>)
using Listener = Catch::EventListenerBase;
#else
using Listener = Catch::TestEventListenerBase;
#endif

class RaceListener final : public Listener {
 public:
  using Listener::Listener;
  void testCaseStarting(const Catch::TestCaseInfo& test) override {
    Listener::testCaseStarting(test);
    name_ = test.name;
    trace_ = std::make_unique<emulator::Trace>();
  }
  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    Listener::testCaseEnded(stats);
    const emulator::TraceReport report = trace_->report();
    trace_.reset();
    launches_ += report.kernels.size();
    if (report.clean()) return;
    std::fprintf(stderr, "%s:\n", name_.c_str());
    for (const emulator::Finding& finding : report.findings) {
      std::fprintf(stderr, "  %s (%llu times)\n", finding.message.c_str(),
                   static_cast<unsigned long long>(finding.count));
    }
    found_ = true;
  }
  void testRunEnded(const Catch::TestRunStats& stats) override {
    Listener::testRunEnded(stats);
    if (launches_ == 0) std::fprintf(stderr, "no kernel was traced\n");
    if (found_ || launches_ == 0) std::exit(1);
  }

 private:
  std::string name_;
  std::unique_ptr<emulator::Trace> trace_;
  size_t launches_ = 0;  // kernels, case by case
  bool found_ = false;
};

CATCH_REGISTER_LISTENER(RaceListener)

}  // namespace
}  // namespace pelton::cuda::test
