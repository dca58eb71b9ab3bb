#include "cpu/machine.h"

#include <sched.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <thread>

#include "cpu/thread_pool.h"

namespace pelton::cpu {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// A number from a cgroup file; "max" or nothing: no limit.
int64_t cgroup_number(const std::string& path) {
  const std::string line = first_line(path);
  char* end = nullptr;
  const long long value = std::strtoll(line.c_str(), &end, 10);
  return end == line.c_str() ? std::numeric_limits<int64_t>::max() : value;
}

// Page cache that the kernel gives back before it kills: counted in memory.current all the same.
int64_t cgroup_reclaimable() {
  std::ifstream stat("/sys/fs/cgroup/memory.stat");
  std::string key;
  int64_t value = 0;
  while (stat >> key >> value) {
    if (key == "inactive_file") return value;
  }
  return 0;
}

}  // namespace

std::vector<int> core_cpus() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return {};
  std::set<std::string> cores;  // hyper-threads of a core name the same siblings
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    const std::string name = std::to_string(cpu);
    const std::string siblings =
        first_line("/sys/devices/system/cpu/cpu" + name + "/topology/thread_siblings_list");
    if (cores.insert(siblings.empty() ? "cpu" + name : siblings).second) cpus.push_back(cpu);
  }
  return cpus;
}

int usable_cores() {
  int cores = static_cast<int>(core_cpus().size());
  if (cores == 0) cores = static_cast<int>(std::thread::hardware_concurrency());
  std::ifstream file("/sys/fs/cgroup/cpu.max");  // "max 100000" or "150000 100000"
  double quota = 0, period = 0;
  if (file >> quota >> period && period > 0) {
    cores = std::min(cores, static_cast<int>(std::ceil(quota / period)));
  }
  return std::max(1, cores);
}

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
         __builtin_cpu_supports("f16c") != 0;
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") != 0 &&
         __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0;
}
bool has_avx512_vnni() {
  return has_avx512() && __builtin_cpu_supports("avx512vnni") != 0;
}
bool has_avx512_bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512bf16") != 0;
}
#else
bool has_avx2() {
  return false;
}
bool has_avx512() {
  return false;
}
bool has_avx512_vnni() {
  return false;
}
bool has_avx512_bf16() {
  return false;
}
#endif

#if defined(__aarch64__)
bool has_neon() {
  return (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0;
}
bool has_neon_sdot() {
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
#else
bool has_neon() {
  return false;
}
bool has_neon_sdot() {
  return false;
}
#endif

int64_t available_memory_bytes() {
  int64_t available = std::numeric_limits<int64_t>::max();
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  int64_t kib = 0;
  for (std::string unit; meminfo >> key >> kib; std::getline(meminfo, unit)) {
    if (key == "MemAvailable:") available = kib * 1024;
  }
  const int64_t limit = cgroup_number("/sys/fs/cgroup/memory.max");
  if (limit != std::numeric_limits<int64_t>::max()) {
    const int64_t used = cgroup_number("/sys/fs/cgroup/memory.current") - cgroup_reclaimable();
    available = std::min(available, limit - used);
  }
  return std::max<int64_t>(available, 0);
}

}  // namespace pelton::cpu
