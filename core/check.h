// CHECK: for our own bugs only. Nothing that a user, a file or the network sends may reach one;
// those get an absl::Status. Always on, in every build.
#pragma once

namespace pelton {

[[noreturn]] void check_failed(const char* file, int line, const char* expression,
                               const char* message) noexcept;

}  // namespace pelton

#define PELTON_CHECK(condition, message)                               \
  do {                                                                 \
    if (!(condition)) [[unlikely]] {                                   \
      ::pelton::check_failed(__FILE__, __LINE__, #condition, message); \
    }                                                                  \
  } while (false)
