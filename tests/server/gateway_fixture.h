// A running gateway over the scripted service core, for the tests of http_test.
#pragma once

#include <string>

#include "server/auth.h"
#include "server/http_server.h"
#include "tests/server/raw_client.h"
#include "tests/support/catch.h"
#include "tests/support/fake_inference_service.h"

namespace pelton {

struct Gateway {
  explicit Gateway(HttpOptions options = {}, HttpDeps deps = {}) {
    FakeCore::instance().reset();
    deps.service = &service;
    if (!deps.metrics) deps.metrics = [] { return std::string("pelton:num_requests_running 0\n"); };
    auto started = HttpServer::start(std::move(options), std::move(deps));
    REQUIRE(started.ok());
    server = *std::move(started);
  }
  uint16_t port() const { return server->port(); }
  RawResponse ask(std::string_view method, std::string_view target, std::string_view body = "",
                  std::string_view headers = "") const {
    RawClient client(port());
    client.send(http_request(method, target, body, headers));
    return client.read_response(method == "HEAD");
  }

  SteadyClock clock;
  InferenceService service{nullptr, &clock, InferenceServiceOptions()};
  std::unique_ptr<HttpServer> server;
  FakeCore& core = FakeCore::instance();
};

}  // namespace pelton
