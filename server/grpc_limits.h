// What one gRPC loop's streams are bounded by. Plain values.
#pragma once

#include <chrono>
#include <cstddef>

#include "core/clock.h"

namespace pelton {

struct GrpcLimits {
  size_t streams = 8192;  // of the methods that need a key; health is told beyond it
  // Of the methods that need none: those that wait for their message (for one more the oldest
  // goes), and those that watch the health.
  size_t waiting_without_key = 256;
  size_t watchers = 256;
  Duration first_message_without_key = std::chrono::seconds(10);
  Duration first_message = std::chrono::seconds(60);  // 8 MiB over a slow line
  Duration write = std::chrono::seconds(20);          // of one message, until it has gone out
  Duration check_interval = std::chrono::seconds(1);  // how late the three are noticed at most
};

}  // namespace pelton
