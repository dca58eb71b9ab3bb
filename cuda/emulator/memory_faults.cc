#include "cuda/emulator/memory_faults.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <mutex>

#include "cuda/emulator/address_space.h"
#include "cuda/emulator/block_runner.h"

namespace pelton::cuda::emulator {
namespace {

constexpr size_t kStackBytes = 128 << 10;

struct sigaction previous_segv;
struct sigaction previous_bus;
thread_local char* emergency_stack = nullptr;  // where the fault is reported from
thread_local void* faulting_address = nullptr;

// Runs on the emergency stack once the handler has returned; the lane's own may be used up.
[[noreturn]] void report_fault() {
  BlockRunner& runner = BlockRunner::current();
  if (runner.stacks().in_guard(faulting_address)) {
    runner.fail(cudaErrorLaunchFailure, "stack overflow", "the thread's stack is used up", Site());
  }
  const char* where = is_global(faulting_address)   ? "global memory that is not allocated"
                      : is_shared(faulting_address) ? "beyond shared memory"
                                                    : "not device memory";
  runner.fail(cudaErrorIllegalAddress, "illegal address",
              fmt::format("{} ({})", faulting_address, where), Site());
}

void on_fault(int signal, siginfo_t* info, void* context) {
  if (BlockRunner::is_running() && emergency_stack != nullptr) {
    faulting_address = info->si_addr;
    forget_stack(emergency_stack, kStackBytes);
    auto* user = static_cast<ucontext_t*>(context);
    const auto top = reinterpret_cast<uintptr_t>(emergency_stack) + kStackBytes - 64;
#if defined(__x86_64__)
    user->uc_mcontext.gregs[REG_RSP] = static_cast<greg_t>((top & ~uintptr_t{15}) - 8);
    user->uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(&report_fault);
    return;
#elif defined(__aarch64__)
    user->uc_mcontext.sp = top & ~uintptr_t{15};
    user->uc_mcontext.pc = reinterpret_cast<uintptr_t>(&report_fault);
    return;
#endif
  }
  // Not ours: as it was before, when the instruction runs again.
  sigaction(signal, signal == SIGSEGV ? &previous_segv : &previous_bus, nullptr);
}

}  // namespace

void catch_memory_faults_on_this_thread() {
  static std::mutex mutex;
  {
    // Test frameworks put their own handlers in place now and then.
    std::lock_guard lock(mutex);
    struct sigaction action {};
    action.sa_sigaction = &on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    struct sigaction present {};
    sigaction(SIGSEGV, nullptr, &present);
    if (present.sa_sigaction != &on_fault) {
      sigaction(SIGSEGV, &action, &previous_segv);
      sigaction(SIGBUS, &action, &previous_bus);
    }
  }
  if (emergency_stack == nullptr) {
    // Kept for the thread's life; the handler's own stack lies beside it.
    void* mapped = mmap(nullptr, 2 * kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return;
    emergency_stack = static_cast<char*>(mapped);
  }
  stack_t alternate{};
  if (sigaltstack(nullptr, &alternate) == 0 && (alternate.ss_flags & SS_DISABLE) == 0) return;
  alternate = {};
  alternate.ss_sp = emergency_stack + kStackBytes;
  alternate.ss_size = kStackBytes;
  sigaltstack(&alternate, nullptr);
}

}  // namespace pelton::cuda::emulator
