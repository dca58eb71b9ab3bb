// The routes of the HTTP gateway as one table, and what a request's target names. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace pelton {

enum class RouteId : uint8_t {
  kHealth,
  kReady,
  kMetrics,
  kVersion,
  kModels,
  kModel,
  kCompletions,
  kChatCompletions,
  kTokenize,
  kDetokenize,
};

struct Route {
  RouteId id;
  std::string_view method;  // "GET" (then HEAD works too) or "POST"
  std::string_view path;    // "{id}" at the end takes the rest of the path
  bool open = false;        // needs no key
  // Answered at once from shared atomics, by the thread that accepts connections.
  bool light = false;
};

std::span<const Route> http_routes();

struct RouteMatch {
  const Route* route = nullptr;  // null: 404, or 405 where `allow` is not empty
  std::string allow;             // the Allow header of a known path
  std::string rest;              // what "{id}" stands for, percent-decoded
};

// `target` as in the request line: a path with an optional query, or an absolute URL.
RouteMatch match_route(std::string_view method, std::string_view target);

}  // namespace pelton
