#include "core/check.h"

#include <cstdio>
#include <cstdlib>

namespace pelton {

void check_failed(const char* file, int line, const char* expression,
                  const char* message) noexcept {
  std::fprintf(stderr, "CHECK failed at %s:%d: %s (%s)\n", file, line, expression, message);
  std::fflush(stderr);
  std::abort();
}

}  // namespace pelton
