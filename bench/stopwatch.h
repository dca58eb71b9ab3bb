// Time by the wall, or by the CPU time that this process used, for machines that others use too
// (meaningful with one thread: waiting threads spin).
#pragma once

#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <ctime>

namespace pelton::bench {

enum class TimeBase : uint8_t { kWall, kCpu };

inline double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Stopwatch {
 public:
  explicit Stopwatch(TimeBase base = TimeBase::kWall) : base_(base), start_(now()) {}
  double seconds() const { return now() - start_; }

 private:
  double now() const {
    if (base_ == TimeBase::kCpu) {
      timespec time;
      clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
      return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
    }
    const auto time = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double>(time).count();
  }

  TimeBase base_;
  double start_;
};

}  // namespace pelton::bench
