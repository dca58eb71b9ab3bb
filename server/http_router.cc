#include "server/http_router.h"

#include <array>
#include <charconv>

namespace pelton {
namespace {

constexpr std::array<Route, 10> kRoutes = {{
    {RouteId::kHealth, "GET", "/health", true, true},
    {RouteId::kReady, "GET", "/ready", true, true},
    {RouteId::kMetrics, "GET", "/metrics"},
    {RouteId::kVersion, "GET", "/version"},
    {RouteId::kModels, "GET", "/v1/models"},
    {RouteId::kModel, "GET", "/v1/models/{id}"},
    {RouteId::kCompletions, "POST", "/v1/completions"},
    {RouteId::kChatCompletions, "POST", "/v1/chat/completions"},
    {RouteId::kTokenize, "POST", "/tokenize"},
    {RouteId::kDetokenize, "POST", "/detokenize"},
}};
constexpr std::string_view kRest = "{id}";

std::string percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size()) {
      const char* end = text.data() + i + 3;
      if (std::from_chars(text.data() + i + 1, end, value, 16).ptr == end) {
        out += static_cast<char>(value);
        i += 2;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}

std::string_view path_of(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!target.starts_with(scheme)) continue;
    target.remove_prefix(scheme.size());
    const size_t slash = target.find('/');
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  return target.substr(0, target.find('?'));
}

bool path_matches(const Route& route, std::string_view path, std::string* rest) {
  if (!route.path.ends_with(kRest)) return path == route.path;
  const std::string_view prefix = route.path.substr(0, route.path.size() - kRest.size());
  if (!path.starts_with(prefix) || path.size() == prefix.size()) return false;
  *rest = percent_decode(path.substr(prefix.size()));
  return true;
}

}  // namespace

std::span<const Route> http_routes() {
  return kRoutes;
}

RouteMatch match_route(std::string_view method, std::string_view target) {
  RouteMatch match;
  const std::string_view path = path_of(target);
  for (const Route& route : kRoutes) {
    std::string rest;
    if (!path_matches(route, path, &rest)) continue;
    if (method == route.method || (method == "HEAD" && route.method == "GET")) {
      match.route = &route;
      match.rest = std::move(rest);
      match.allow.clear();
      return match;
    }
    match.allow = route.method == "GET" ? "GET, HEAD" : std::string(route.method);
  }
  return match;
}

}  // namespace pelton
