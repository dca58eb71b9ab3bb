#include "server/http_server.h"

#include <atomic>
#include <future>

#include "server/http_router.h"
#include "tests/server/gateway_fixture.h"

namespace pelton {
namespace {

constexpr char kPrompt[] = R"({"prompt":"p"})";

}  // namespace

TEST_CASE("the small routes answer in their shapes") {
  Gateway gateway;
  CHECK(gateway.ask("GET", "/health").body == R"({"status":"ok"})");
  CHECK(gateway.ask("GET", "/ready").status == 200);
  gateway.core.set_ready(false);
  CHECK(gateway.ask("GET", "/ready").status == 503);
  CHECK(gateway.ask("GET", "/metrics").headers["content-type"] ==
        "text/plain; version=0.0.4; charset=utf-8");
  CHECK(gateway.ask("GET", "/version").body.starts_with(R"({"version":"0.)"));
  const std::string model =
      R"({"id":"org/fake","object":"model","created":123,"owned_by":"pelton","root":"org/fake",)"
      R"("parent":null,"max_model_len":2048})";
  CHECK(gateway.ask("GET", "/v1/models").body == R"({"object":"list","data":[)" + model + "]}");
  CHECK(gateway.ask("GET", "/v1/models/org/fake").body == model);
  CHECK(gateway.ask("GET", "/v1/models/org%2Ffake?x=1").body == model);
  const RawResponse missing = gateway.ask("GET", "/v1/models/none");
  CHECK(missing.status == 404);
  CHECK(missing.body.find("model_not_found") != std::string::npos);
}

TEST_CASE("tokenize and detokenize have vllm's shapes") {
  Gateway gateway;
  CHECK(gateway.ask("POST", "/tokenize", R"({"prompt":"ab","return_token_strs":true})").body ==
        R"({"count":2,"max_model_len":2048,"tokens":[97,98],"token_strs":["a","b"]})");
  CHECK(gateway.ask("POST", "/tokenize", R"({"messages":[{"role":"user","content":"x"}]})").body ==
        R"({"count":1,"max_model_len":2048,"tokens":[1],"token_strs":null})");
  CHECK(gateway.ask("POST", "/detokenize", R"({"tokens":[104,105]})").body == R"({"prompt":"hi"})");
  const RawResponse bad = gateway.ask("POST", "/detokenize", R"({"tokens":[999]})");
  CHECK(bad.status == 400);
  CHECK(bad.body.find(R"("param":"tokens")") != std::string::npos);
}

TEST_CASE("unknown routes and methods are 404 and 405 with Allow") {
  Gateway gateway;
  CHECK(gateway.ask("GET", "/nope").status == 404);
  CHECK(gateway.ask("GET", "/v1/models/").status == 404);
  const RawResponse get = gateway.ask("GET", "/v1/completions");
  CHECK(get.status == 405);
  CHECK(get.headers.at("allow") == "POST");
  const RawResponse post = gateway.ask("DELETE", "/health");
  CHECK(post.status == 405);
  CHECK(post.headers.at("allow") == "GET, HEAD");
}

TEST_CASE("HEAD answers as GET without a body") {
  Gateway gateway;
  const RawResponse head = gateway.ask("HEAD", "/health");
  CHECK(head.status == 200);
  CHECK(head.headers.at("content-length") == "15");
  CHECK(head.body.empty());
}

TEST_CASE("every route but health and ready needs the key") {
  const Authenticator auth({"secret"});
  HttpDeps deps;
  deps.auth = &auth;
  Gateway gateway({}, std::move(deps));
  gateway.core.answer_with({"a"});
  const auto body_of = [](const Route& route) -> std::string {
    if (route.method == "GET") return "";
    if (route.id == RouteId::kChatCompletions) {
      return R"({"messages":[{"role":"user","content":"x"}]})";
    }
    return route.id == RouteId::kDetokenize ? R"({"tokens":[97]})" : kPrompt;
  };
  for (const Route& route : http_routes()) {
    CAPTURE(route.path);
    std::string path(route.path);
    if (path.ends_with("{id}")) path.replace(path.size() - 4, 4, "org/fake");
    for (const char* method : {"GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"}) {
      CAPTURE(method);
      const int without = gateway.ask(method, path).status;
      const bool open = route.open && (route.method == method || std::string("HEAD") == method);
      if (open) {
        CHECK(without == 200);
      } else if (!route.open) {
        CHECK(without == 401);
      }
    }
    for (const char* wrong : {"Authorization: Bearer secreT\r\n", "Authorization: secret\r\n",
                              "Authorization: Bearer\r\n", "Authorization: Basic secret\r\n",
                              "Authorization: Bearer secret\r\nAuthorization: Bearer secret\r\n"}) {
      CAPTURE(wrong);
      const RawResponse refused = gateway.ask(route.method, path, body_of(route), wrong);
      CHECK(refused.status == (route.open ? 200 : 401));
      if (!route.open) {
        CHECK(refused.headers.at("www-authenticate") == "Bearer");
        CHECK(refused.body.find("invalid_api_key") != std::string::npos);
      }
    }
    CHECK(gateway.ask(route.method, path, body_of(route), "Authorization: Bearer secret\r\n")
              .status == 200);
  }
  CHECK(gateway.ask("GET", "/nope").status == 401);
  CHECK(gateway.ask("GET", "/nope", "", "Authorization: Bearer secret\r\n").status == 404);
}

TEST_CASE("the tenant of a call comes from its key") {
  const Authenticator auth({"one", "two"});
  HttpDeps deps;
  deps.auth = &auth;
  Gateway gateway({}, std::move(deps));
  gateway.core.answer_with({"a"});
  gateway.ask("POST", "/v1/completions", kPrompt, "Authorization: Bearer one\r\n");
  gateway.ask("POST", "/v1/completions", kPrompt, "Authorization: Bearer two\r\n");
  const auto calls = gateway.core.calls();
  REQUIRE(calls.size() == 2);
  CHECK(!calls[0].context.tenant.empty());
  CHECK(calls[0].context.tenant != calls[1].context.tenant);
  CHECK(calls[0].context.request_id.starts_with("cmpl-"));
  CHECK(calls[0].context.request_id != calls[1].context.request_id);
}

TEST_CASE("a clean x-request-id is echoed and any other is replaced") {
  Gateway gateway;
  CHECK(gateway.ask("GET", "/version", "", "X-Request-Id: abc-1\r\n").headers["x-request-id"] ==
        "abc-1");
  for (const std::string& bad : {std::string("a b"), std::string(200, 'a'), std::string("a\"b")}) {
    const auto reply = gateway.ask("GET", "/version", "", "X-Request-Id: " + bad + "\r\n");
    CHECK(reply.headers.at("x-request-id").starts_with("req-"));
  }
  gateway.core.answer_with({"a"});
  gateway.ask("POST", "/v1/completions", kPrompt, "X-Request-Id: mine\r\n");
  CHECK(gateway.core.calls().at(0).context.request_id.starts_with("cmpl-"));
  CHECK(gateway.core.calls().at(0).context.client_request_id == "mine");
}

TEST_CASE("cors is off unless an origin is allowed") {
  const std::string preflight =
      "Origin: http://a.example\r\nAccess-Control-Request-Method: POST\r\n";
  {
    Gateway gateway;
    const RawResponse reply = gateway.ask("OPTIONS", "/v1/completions", "", preflight);
    CHECK(reply.status == 405);
    CHECK(reply.headers.count("access-control-allow-origin") == 0);
  }
  HttpOptions options;
  options.cors_origins = {"http://a.example"};
  Gateway gateway(options);
  const RawResponse reply = gateway.ask("OPTIONS", "/v1/completions", "", preflight);
  CHECK(reply.status == 204);
  CHECK(reply.headers.at("access-control-allow-origin") == "http://a.example");
  CHECK(reply.headers.at("access-control-allow-methods") == "GET, HEAD, POST");
  const auto allowed_of = [&](const std::string& asked) {
    const std::string line = "Access-Control-Request-Headers: " + asked + "\r\n";
    return gateway.ask("OPTIONS", "/v1/completions", "", preflight + line)
        .headers.at("access-control-allow-headers");
  };
  const std::string usual = reply.headers.at("access-control-allow-headers");
  CHECK(usual == "authorization, content-type, x-request-id");
  const std::string openai = "authorization,content-type, x-stainless-os,x-stainless-retry-count";
  CHECK(allowed_of(openai) == openai);
  CHECK(allowed_of(std::string(1024, 'a')) == std::string(1024, 'a'));
  CHECK(allowed_of(std::string(1025, 'a')) == usual);
  CHECK(allowed_of("a\"b") == usual);
  CHECK(allowed_of("a: b") == usual);
  const RawResponse plain = gateway.ask("GET", "/version", "", "Origin: http://a.example\r\n");
  CHECK(plain.headers.at("access-control-allow-origin") == "http://a.example");
  CHECK(plain.headers.at("vary") == "Origin");
  const RawResponse other = gateway.ask("GET", "/version", "", "Origin: http://b.example\r\n");
  CHECK(other.headers.count("access-control-allow-origin") == 0);
}

TEST_CASE("errors of the service core keep their code and field") {
  Gateway gateway;
  const std::tuple<Status, int, const char*> table[] = {
      {invalid_field("sampling.top_p", "bad"), 400, R"("param":"top_p")"},
      {unsupported_field("sampling.n", "later"), 400, R"("code":"unsupported_parameter")"},
      {overloaded("full", std::chrono::milliseconds(2500)), 429, R"("code":"overloaded")"},
      {absl::UnavailableError("draining"), 503, R"("type":"service_unavailable_error")"},
      {absl::InternalError("oops"), 500, R"("type":"internal_error")"},
  };
  for (const auto& [status, code, text] : table) {
    for (const char* stream : {"false", "true"}) {
      gateway.core.refuse_with(status);
      const std::string body = R"({"prompt":"p","stream":)" + std::string(stream) + "}";
      const RawResponse reply = gateway.ask("POST", "/v1/completions", body);
      CHECK(reply.status == code);
      CHECK(reply.body.find(text) != std::string::npos);
      if (code == 429) CHECK(reply.headers.at("retry-after") == "3");
    }
  }
}

TEST_CASE("a busy port is an error that names it") {
  Gateway gateway;
  HttpOptions options;
  options.port = gateway.port();
  HttpDeps deps;
  deps.service = &gateway.service;
  const auto second = HttpServer::start(options, deps);
  REQUIRE_FALSE(second.ok());
  CHECK(second.status().code() == absl::StatusCode::kAlreadyExists);
  CHECK(std::string(second.status().message()).find(std::to_string(gateway.port())) !=
        std::string::npos);
  options.host = "no such host";
  options.port = 0;
  CHECK_FALSE(HttpServer::start(options, deps).ok());
}

TEST_CASE("health and ready answer while every io thread is busy") {
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  std::atomic<int> busy{0};
  HttpOptions options;
  options.threads = 2;
  HttpDeps deps;
  deps.metrics = [&] {  // occupies the thread that serves it
    ++busy;
    released.wait();
    return std::string("done\n");
  };
  Gateway gateway(options, std::move(deps));
  RawClient first(gateway.port());
  RawClient second(gateway.port());
  first.send(http_request("GET", "/metrics"));
  second.send(http_request("GET", "/metrics"));
  REQUIRE(eventually([&] { return busy == 2; }));
  RawClient probe(gateway.port());
  for (int i = 0; i < 3; ++i) {
    probe.send(http_request("GET", i == 1 ? "/ready" : "/health"));
    CHECK(probe.read_response().status == 200);
  }
  release.set_value();
  CHECK(first.read_response().status == 200);
  CHECK(second.read_response().status == 200);
}

TEST_CASE("health says so when the engine hangs") {
  HttpDeps deps;
  std::atomic<bool> live{true};
  deps.live = [&] { return live.load(); };
  Gateway gateway({}, std::move(deps));
  CHECK(gateway.ask("GET", "/health").status == 200);
  live = false;
  CHECK(gateway.ask("GET", "/health").status == 503);
}

TEST_CASE("a drained server closes connections after their answer and stays reachable") {
  Gateway gateway;
  RawClient client(gateway.port());
  client.send(http_request("GET", "/version"));
  CHECK(client.read_response().headers["connection"] == "keep-alive");
  gateway.service.drain();
  gateway.server->drain();
  client.send(http_request("GET", "/version"));
  CHECK(client.read_response().headers["connection"] == "close");
  CHECK(client.at_end());
  CHECK(gateway.ask("GET", "/ready").status == 503);
  CHECK(gateway.ask("GET", "/health").status == 200);
}

TEST_CASE("a stop while the pool tokenises is 503 and what the pool answers later is dropped") {
  Gateway gateway;
  gateway.core.hold_pool();
  RawClient tokenize(gateway.port());
  tokenize.send(http_request("POST", "/tokenize", kPrompt));
  RawClient detokenize(gateway.port());
  detokenize.send(http_request("POST", "/detokenize", R"({"tokens":[97]})"));
  REQUIRE(eventually([&] { return gateway.core.held() == 2; }));
  gateway.server->stop();
  for (RawClient* client : {&tokenize, &detokenize}) {
    const RawResponse reply = client->read_response();
    CHECK(reply.status == 503);
    CHECK(reply.headers.at("connection") == "close");
    CHECK(reply.body.find("draining") != std::string::npos);
    CHECK(client->at_end());
  }
  gateway.server.reset();
  gateway.core.let_go();
}

TEST_CASE("the pool's answer reaches the connection that waits for it") {
  Gateway gateway;
  gateway.core.hold_pool();
  RawClient client(gateway.port());
  client.send(http_request("POST", "/tokenize", kPrompt));
  REQUIRE(eventually([&] { return gateway.core.held() == 1; }));
  gateway.core.let_go();
  CHECK(client.read_response().body.find(R"("tokens":[112])") != std::string::npos);
}

TEST_CASE("connections beyond the limit get 503 but for health and their places are given back") {
  HttpOptions options;
  options.max_connections = 2;
  Gateway gateway(options);
  {
    RawClient one(gateway.port());
    RawClient two(gateway.port());
    one.send(http_request("GET", "/version"));
    two.send(http_request("GET", "/version"));
    CHECK(one.read_response().status == 200);
    CHECK(two.read_response().status == 200);
    RawClient three(gateway.port());
    three.send(http_request("POST", "/v1/completions", kPrompt, "X-Request-Id: three\r\n"));
    const RawResponse refused = three.read_response();
    CHECK(refused.status == 503);
    CHECK(refused.headers.at("retry-after") == "1");
    CHECK(refused.headers.at("x-request-id") == "three");
    CHECK(three.at_end());
    CHECK(gateway.ask("GET", "/health").status == 200);
    CHECK(gateway.ask("GET", "/ready").status == 200);
  }
  REQUIRE(eventually([&] { return gateway.server->connections() == 0; }));
  CHECK(gateway.ask("GET", "/version").status == 200);
}

TEST_CASE("many clients at once each get their own answer") {
  HttpOptions options;
  options.threads = 2;
  Gateway gateway(options);
  gateway.core.answer_with({"a", "b"});
  std::atomic<int> good{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 8; ++t) {
    clients.emplace_back([&, t] {
      RawClient client(gateway.port());
      for (int i = 0; i < 50; ++i) {
        const std::string id = std::to_string(t) + "-" + std::to_string(i);
        const bool stream = i % 2 == 0;
        client.send(http_request("POST", "/v1/completions",
                                 stream ? R"({"prompt":"p","stream":true})" : kPrompt,
                                 "X-Request-Id: " + id + "\r\n"));
        RawResponse reply = client.read_response();
        const bool whole = stream ? reply.body.ends_with("data: [DONE]\n\n")
                                  : reply.body.find(R"("text":"ab")") != std::string::npos;
        good += reply.complete && whole && reply.headers["x-request-id"] == id;
      }
    });
  }
  for (auto& client : clients) client.join();
  CHECK(good == 400);
  CHECK(eventually([&] { return gateway.server->calls_in_flight() == 0; }));
}

}  // namespace pelton
