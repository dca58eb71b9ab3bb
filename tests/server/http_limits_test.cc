// What a connection may send, byte for byte.
#include "tests/server/gateway_fixture.h"

namespace pelton {
namespace {

constexpr char kPrompt[] = R"({"prompt":"p"})";

RawResponse say(const Gateway& gateway, std::string_view bytes) {
  RawClient client(gateway.port());
  client.send(bytes);
  return client.read_response();
}

}  // namespace

TEST_CASE("a header above its limit is 431 and closes") {
  Gateway gateway;
  RawClient client(gateway.port());
  client.send("GET /version HTTP/1.1\r\nHost: x\r\nA: " + std::string(17 << 10, 'a') + "\r\n\r\n");
  const RawResponse refused = client.read_response();
  CHECK(refused.status == 431);
  CHECK(refused.headers.at("x-request-id").starts_with("req-"));
  CHECK(client.at_end());
  CHECK(gateway.ask("GET", "/version", "", "A: " + std::string(15 << 10, 'a') + "\r\n").status ==
        200);
}

TEST_CASE("a body above its limit is 413 whether its length is told or not") {
  HttpOptions options;
  options.max_body_bytes = 1000;
  Gateway gateway(options);
  gateway.core.answer_with({"a"});
  const std::string fits = R"({"prompt":")" + std::string(900, 'x') + "\"}";
  const std::string large = R"({"prompt":")" + std::string(1100, 'x') + "\"}";
  CHECK(gateway.ask("POST", "/v1/completions", fits).status == 200);
  CHECK(gateway.ask("POST", "/v1/completions", large).status == 413);
  CHECK(say(gateway,
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
            "Content-Length: 99999999999999\r\n\r\n")
            .status == 413);
  std::string chunked =
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
      "Transfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 12; ++i) chunked += "64\r\n" + std::string(100, 'x') + "\r\n";
  CHECK(say(gateway, chunked + "0\r\n\r\n").status == 413);
  CHECK(gateway.core.started() == 1);
}

TEST_CASE("the default limit takes a body of eight mebibytes and not one byte more") {
  Gateway gateway;
  gateway.core.answer_with({"a"});
  const size_t limit = size_t{8} << 20;
  const std::string start = R"({"prompt":")";
  const auto body = [&](size_t size) {
    return start + std::string(size - start.size() - 2, 'x') + "\"}";
  };
  CHECK(gateway.ask("POST", "/v1/completions", body(limit)).status == 200);
  CHECK(gateway.ask("POST", "/v1/completions", body(limit + 1)).status == 413);
}

TEST_CASE("all bodies together are bounded") {
  HttpOptions options;
  options.max_buffered_body_bytes = 1000;
  Gateway gateway(options);
  gateway.core.answer_with({"a"});
  RawClient holder(gateway.port());  // promises 900 bytes and keeps them back
  holder.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{");
  const std::string body = R"({"prompt":")" + std::string(200, 'x') + "\"}";
  REQUIRE(eventually([&] { return gateway.ask("POST", "/v1/completions", body).status == 429; }));
  holder.close();
  REQUIRE(eventually([&] { return gateway.ask("POST", "/v1/completions", body).status == 200; }));
}

TEST_CASE("chunked bodies are read however they are split") {
  Gateway gateway;
  gateway.core.answer_with({"a"});
  const std::string request =
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5;ext=1\r\n{\"pro\r\n9\r\nmpt\":\"p\"}\r\n0\r\nTrailer: t\r\n\r\n";
  for (const size_t step : {size_t{1}, size_t{2}, size_t{7}, request.size()}) {
    RawClient client(gateway.port());
    for (size_t at = 0; at < request.size(); at += step) client.send(request.substr(at, step));
    CHECK(client.read_response().status == 200);
    CHECK(gateway.core.calls().back().completion.prompt().text() == "p");
  }
}

TEST_CASE("malformed http is refused and the connection closed") {
  Gateway gateway;
  const std::pair<const char*, int> table[] = {
      {"\x16\x03\x01\x02\x00\r\n\r\n", 400},
      {"GET\r\n\r\n", 400},
      {"GET /version HTTP/9.9\r\nHost: x\r\n\r\n", 400},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
      {"GET /version HTTP/1.1\r\n\r\n", 400},
      {"GET /version HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET /version HTTP/1.1\r\nHost : x\r\n\r\n", 400},
      {"GET /version HTTP/1.1\r\nHost: x\r\nBad\x01Name: 1\r\n\r\n", 400},
      {"GET /ver sion HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400},
      {"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
      {"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
       400},
      {"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
       "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       400},
      {"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {"POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
       "fffffffffffffffffff\r\n",
       400},
  };
  for (const auto& [bytes, status] : table) {
    CAPTURE(bytes);
    RawClient client(gateway.port());
    client.send(bytes);
    const RawResponse reply = client.read_response();
    CHECK(reply.status == status);
    CHECK(reply.headers.count("x-request-id") == 1);
    if (reply.headers.count("connection") > 0 && reply.headers.at("connection") == "close") {
      CHECK(client.at_end());
    }
    CHECK_FALSE(client.timed_out());
  }
  CHECK(gateway.ask("GET", "/version").status == 200);
}

TEST_CASE("a transfer encoding other than chunked is 400 and what follows it is no request") {
  Gateway gateway;
  gateway.core.answer_with({"a"});
  for (const char* target : {"POST /v1/completions", "GET /health", "GET /nope"}) {
    for (const char* lines :
         {" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n",
          " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n",
          " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n",
          " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n",
          " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n",
          " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n",
          " HTTP/1.1\r\nTransfer-Encoding: gzip\r\n",
          " HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n"}) {
      CAPTURE(target, lines);
      RawClient client(gateway.port());
      client.send(std::string(target) + lines + "\r\n" +
                  http_request("POST", "/v1/completions", kPrompt));
      CHECK(client.read_response().status == 400);
      CHECK(client.at_end());
    }
  }
  CHECK(gateway.core.started() == 0);
}

TEST_CASE("compressed and foreign media types are 415") {
  Gateway gateway;
  gateway.core.answer_with({"a"});
  const auto with = [&](const std::string& headers) {
    return say(gateway, "POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + headers +
                            "Content-Length: 14\r\n\r\n" + kPrompt)
        .status;
  };
  CHECK(with("Content-Encoding: gzip\r\n") == 415);
  CHECK(with("Content-Type: text/xml\r\n") == 415);
  CHECK(with("Content-Type: Application/JSON; charset=utf-8\r\n") == 200);
  CHECK(with("") == 200);
  CHECK(with("Expect: 42\r\n") == 417);
}

TEST_CASE("a client that waits for 100-continue gets it") {
  Gateway gateway;
  gateway.core.answer_with({"a"});
  RawClient client(gateway.port());
  client.send(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
      "Content-Length: 14\r\n\r\n");
  CHECK(client.read_response().status == 100);
  client.send(kPrompt);
  CHECK(client.read_response().status == 200);
}

TEST_CASE("a body that is not a json object is 400") {
  Gateway gateway;
  for (const std::string& body :
       {std::string("["), std::string("[]"), std::string("7"), std::string("{\"prompt\":\"\xff\"}"),
        std::string(100, '[') + std::string(100, ']'), std::string(" ")}) {
    const RawResponse reply = gateway.ask("POST", "/v1/completions", body);
    CHECK(reply.status == 400);
    CHECK(reply.body.find("invalid_request_error") != std::string::npos);
  }
  CHECK(gateway.ask("POST", "/v1/completions", "").status == 400);
}

TEST_CASE("one connection serves many requests and closes when asked to") {
  Gateway gateway;
  gateway.core.answer_with({"a"});
  RawClient client(gateway.port());
  for (int i = 0; i < 5; ++i) {
    client.send(http_request("POST", "/v1/completions", kPrompt));
    CHECK(client.read_response().status == 200);
    client.send(http_request("GET", "/health"));
    CHECK(client.read_response().status == 200);
    client.send(http_request("GET", "/nope"));
    CHECK(client.read_response().status == 404);
  }
  client.send(http_request("GET", "/version", "", "Connection: close\r\n"));
  CHECK(client.read_response().status == 200);
  CHECK(client.at_end());
  RawClient old(gateway.port());
  old.send("GET /version HTTP/1.0\r\n\r\n");
  CHECK(old.read_response().status == 200);
  CHECK(old.at_end());
}

TEST_CASE("pipelined requests are answered in order") {
  Gateway gateway;
  gateway.core.answer_with({"a"});
  std::string burst;
  for (int i = 0; i < 20; ++i) {
    const std::string id = "X-Request-Id: " + std::to_string(i) + "\r\n";
    burst += i % 3 == 0 ? http_request("POST", "/v1/completions", kPrompt, id)
             : i % 3 == 1
                 ? http_request("POST", "/v1/completions", R"({"prompt":"p","stream":true})", id)
                 : http_request("GET", "/version", "", id);
  }
  RawClient client(gateway.port());
  client.send(burst);
  for (int i = 0; i < 20; ++i) {
    RawResponse reply = client.read_response();
    CHECK(reply.status == 200);
    CHECK(reply.headers["x-request-id"] == std::to_string(i));
  }
}

TEST_CASE("slow headers and bodies and idle connections run into their timeouts") {
  HttpOptions options;
  options.header_timeout = options.body_timeout = std::chrono::milliseconds(100);
  options.keep_alive_timeout = std::chrono::milliseconds(100);
  Gateway gateway(options);
  RawClient header(gateway.port());
  header.send("GET /version HTTP/1.1\r\nHost:");
  RawClient body(gateway.port());
  body.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{");
  RawClient idle(gateway.port());
  RawClient kept(gateway.port());
  kept.send(http_request("GET", "/version"));
  CHECK(kept.read_response().status == 200);
  const RawResponse late = header.read_response();
  CHECK(late.status == 408);
  CHECK(late.headers.at("x-request-id").starts_with("req-"));
  CHECK(header.at_end());
  CHECK(body.read_response().status == 408);
  CHECK(body.at_end());
  CHECK(idle.at_end());
  CHECK(kept.at_end());
  REQUIRE(eventually([&] { return gateway.server->connections() == 0; }));
}

}  // namespace pelton
