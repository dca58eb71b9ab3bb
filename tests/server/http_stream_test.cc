// Answers while they are made: events, clients that leave in each phase, clients that read slowly.
#include "server/json_view.h"
#include "tests/server/gateway_fixture.h"

namespace pelton {
namespace {

constexpr char kStream[] = R"({"prompt":"p","stream":true})";
constexpr char kUnary[] = R"({"prompt":"p"})";

// The data of each event of a body; comments are left out.
std::vector<std::string> events_of(std::string_view body) {
  std::vector<std::string> events;
  while (!body.empty()) {
    const size_t end = body.find("\n\n");
    REQUIRE(end != std::string_view::npos);
    const std::string_view line = body.substr(0, end);
    if (line.starts_with("data: ")) events.emplace_back(line.substr(6));
    body.remove_prefix(end + 2);
  }
  return events;
}

std::string text_of(const std::vector<std::string>& events) {
  std::string text;
  for (const std::string& event : events) {
    if (event == "[DONE]") continue;
    REQUIRE(check_json(event, 64).ok());
    JsonView::root(event)["choices"].for_each_element([&](JsonView choice) {
      const JsonView part = choice["delta"].present() ? choice["delta"]["content"] : choice["text"];
      if (part.present()) text += *part.string();
      return true;
    });
  }
  return text;
}

bool at_rest(const Gateway& gateway) {
  return eventually(
      [&] { return gateway.server->calls_in_flight() == 0 && gateway.server->connections() == 0; });
}

}  // namespace

TEST_CASE("a stream gives each delta as an event and ends in DONE") {
  Gateway gateway;
  gateway.core.set_end_cancelled(false);
  RawClient client(gateway.port());
  client.send(
      http_request("POST", "/v1/completions",
                   R"({"prompt":"p","stream":true,"stream_options":{"include_usage":true}})"));
  REQUIRE(eventually([&] { return gateway.core.started() == 1; }));
  gateway.core.send_text(0, "one", 1);
  CHECK(client.read_until("\"text\":\"one\"").has_value());
  gateway.core.send_text(0, " \xC3\xA9\n", 2);
  CHECK(client.read_until("\"text\":\" \xC3\xA9\\n\"").has_value());
  gateway.core.finish(0);
  const auto rest = client.read_until("data: [DONE]\n\n\r\n0\r\n\r\n");
  REQUIRE(rest.has_value());
  CHECK(rest->find(R"("finish_reason":"stop")") != std::string::npos);
  CHECK(rest->find(R"("choices":[],"usage":{"prompt_tokens":5,"total_tokens":8)") !=
        std::string::npos);
  client.send(http_request("GET", "/version"));  // and the connection goes on
  CHECK(client.read_response().status == 200);
}

TEST_CASE("a chat streams its role once and its content in deltas") {
  Gateway gateway;
  gateway.core.answer_with({"he", "llo"});
  const RawResponse reply =
      gateway.ask("POST", "/v1/chat/completions",
                  R"({"messages":[{"role":"user","content":"x"}],"stream":true})");
  CHECK(reply.headers.at("content-type") == "text/event-stream; charset=utf-8");
  CHECK(reply.complete);
  const auto events = events_of(reply.body);
  CHECK(text_of(events) == "hello");
  CHECK(events.back() == "[DONE]");
  CHECK(reply.body.find("\"role\"") == reply.body.rfind("\"role\""));
}

TEST_CASE("http 1 point 0 streams end with the connection") {
  Gateway gateway;
  gateway.core.answer_with({"a", "b"});
  RawClient client(gateway.port());
  client.send("POST /v1/completions HTTP/1.0\r\nContent-Length: " +
              std::to_string(sizeof(kStream) - 1) + "\r\n\r\n" + kStream);
  const RawResponse reply = client.read_response();
  CHECK(reply.headers.count("transfer-encoding") == 0);
  CHECK(text_of(events_of(reply.body)) == "ab");
}

TEST_CASE("several prompts stream under their own indices") {
  Gateway gateway;
  gateway.core.answer_with({"x"});
  const RawResponse reply =
      gateway.ask("POST", "/v1/completions", R"({"prompt":["a","b","c"],"stream":true})");
  for (const char* index : {R"("index":0)", R"("index":1)", R"("index":2)"}) {
    CHECK(reply.body.find(index) != std::string::npos);
  }
  CHECK(reply.body.ends_with("data: [DONE]\n\n"));
  const auto calls = gateway.core.calls();
  REQUIRE(calls.size() == 3);
  CHECK(calls[0].context.request_id != calls[1].context.request_id);
}

TEST_CASE("an error before the first event is a plain answer and after it an event") {
  Gateway gateway;
  RawClient early(gateway.port());
  early.send(http_request("POST", "/v1/completions", kStream));
  REQUIRE(eventually([&] { return gateway.core.started() == 1; }));
  gateway.core.finish(0, FinishReason::kError, invalid_field("prompt", "too long"));
  const RawResponse plain = early.read_response();
  CHECK(plain.status == 400);
  CHECK(plain.body.find(R"("param":"prompt")") != std::string::npos);

  RawClient late(gateway.port());
  late.send(http_request("POST", "/v1/completions", kStream));
  REQUIRE(eventually([&] { return gateway.core.started() == 2; }));
  gateway.core.send_text(1, "a", 1);
  CHECK(late.read_until("\"text\":\"a\"").has_value());
  gateway.core.finish(1, FinishReason::kError, absl::InternalError("broken"));
  const auto rest = late.read_until("0\r\n\r\n");
  REQUIRE(rest.has_value());
  CHECK(rest->find(R"(data: {"error":{"message":"broken","type":"internal_error")") !=
        std::string::npos);
  CHECK(rest->find("data: [DONE]") != std::string::npos);
}

TEST_CASE("one failed prompt of several ends the request and cancels the others") {
  Gateway gateway;
  RawClient client(gateway.port());
  client.send(http_request("POST", "/v1/completions", R"({"prompt":["a","b"]})"));
  REQUIRE(eventually([&] { return gateway.core.started() == 2; }));
  gateway.core.finish(1, FinishReason::kError, absl::UnavailableError("device"));
  CHECK(client.read_response().status == 503);
  CHECK(gateway.core.cancelled(0));
}

TEST_CASE("every call that ends in an error or unread is noted for metrics and log") {
  for (const char* stream : {"false", "true"}) {
    for (const bool late : {false, true}) {
      CAPTURE(stream, late);
      Gateway gateway;
      const std::string body = R"({"prompt":["p","q"],"stream":)" + std::string(stream) + "}";
      RawClient client(gateway.port());
      client.send(http_request("POST", "/v1/completions", body));
      REQUIRE(eventually([&] { return gateway.core.started() == 2; }));
      if (late) gateway.core.send_text(1, "x", 1);
      gateway.core.finish(1, FinishReason::kError, absl::InternalError("oops"));
      const auto noted = [&](size_t call) { return gateway.core.calls().at(call).noted_ends; };
      REQUIRE(eventually([&] { return noted(0).size() == 1 && noted(1).size() == 1; }));
      CHECK(noted(1)[0].finish_reason == FinishReason::kError);
      CHECK(noted(1)[0].status.code() == absl::StatusCode::kInternal);
      CHECK(noted(0)[0].finish_reason == FinishReason::kAbort);
    }
  }
  Gateway gateway;  // an answer is mapped instead, which observes it
  gateway.core.answer_with({"a"});
  CHECK(gateway.ask("POST", "/v1/completions", kUnary).status == 200);
  CHECK(gateway.core.calls().at(0).noted_ends.empty());
}

TEST_CASE("a client that leaves ends its request in every phase") {
  for (const bool streamed : {false, true}) {
    for (const bool reset : {false, true}) {
      for (const int outputs : {0, 1, 3}) {  // queued, first token, in the middle
        CAPTURE(streamed, reset, outputs);
        Gateway gateway;
        RawClient client(gateway.port());
        client.send(http_request("POST", "/v1/completions", streamed ? kStream : kUnary));
        REQUIRE(eventually([&] { return gateway.core.started() == 1; }));
        for (int i = 1; i <= outputs; ++i) gateway.core.send_text(0, "t", i);
        if (streamed && outputs > 0) REQUIRE(client.read_until("data: ").has_value());
        reset ? client.abort() : client.close();
        REQUIRE(eventually([&] { return gateway.core.cancelled(0); }));
        REQUIRE(at_rest(gateway));
      }
    }
  }
}

TEST_CASE("a client that leaves while the pool works is waited for no more") {
  for (const bool reset : {false, true}) {
    Gateway gateway;
    gateway.core.hold_pool();
    RawClient tokenize(gateway.port());
    tokenize.send(http_request("POST", "/tokenize", kUnary));
    RawClient detokenize(gateway.port());
    detokenize.send(http_request("POST", "/detokenize", R"({"tokens":[97]})"));
    RawClient stays(gateway.port());
    stays.send(http_request("POST", "/tokenize", kUnary));
    REQUIRE(eventually([&] { return gateway.core.held() == 3; }));
    for (RawClient* client : {&tokenize, &detokenize}) reset ? client->abort() : client->close();
    REQUIRE(eventually([&] { return gateway.server->connections() == 1; }));
    gateway.core.let_go();
    CHECK(gateway.core.unwanted() == 2);
    CHECK(stays.read_response().status == 200);
    stays.send(http_request("POST", "/tokenize", kUnary));
    CHECK(stays.read_response().status == 200);
  }
}

TEST_CASE("a client that leaves while it sends starts nothing") {
  Gateway gateway;
  const std::string request = http_request("POST", "/v1/completions", kUnary);
  for (size_t length = 0; length + 1 < request.size(); length += 3) {
    RawClient client(gateway.port());
    client.send(request.substr(0, length));
    client.close();
  }
  REQUIRE(at_rest(gateway));
  CHECK(gateway.core.started() == 0);
}

TEST_CASE("a client that leaves behind many pipelined bytes is noticed") {
  Gateway gateway;
  RawClient client(gateway.port());
  client.send(http_request("POST", "/v1/completions", kUnary));
  REQUIRE(eventually([&] { return gateway.core.started() == 1; }));
  client.send(std::string(64 << 10, 'x'));  // more than is kept
  client.close();
  REQUIRE(eventually([&] { return gateway.core.cancelled(0); }));
  REQUIRE(at_rest(gateway));
}

TEST_CASE("the deltas of a client that reads slowly are merged and none is lost") {
  HttpOptions options;
  options.max_stream_backlog_bytes = size_t{64} << 20;
  Gateway gateway(options);
  RawClient client(gateway.port(), 4096);
  client.send(http_request("POST", "/v1/completions", kStream));
  REQUIRE(eventually([&] { return gateway.core.started() == 1; }));
  std::string expected;
  constexpr int kDeltas = 1600;
  for (int i = 1; i <= kDeltas; ++i) {  // 16 MB: more than the socket's buffers take
    const std::string text = std::to_string(i) + std::string(10000, 'y') + ";";
    expected += text;
    gateway.core.send_text(0, text, i);
  }
  gateway.core.finish(0);
  const RawResponse reply = client.read_response();
  REQUIRE(reply.complete);
  const auto events = events_of(reply.body);
  CHECK(text_of(events) == expected);
  CHECK(events.size() < kDeltas);
}

TEST_CASE("a client that takes nothing ends its request by backlog or by time") {
  for (const bool by_time : {false, true}) {
    CAPTURE(by_time);
    HttpOptions options;
    options.max_stream_backlog_bytes = by_time ? size_t{1} << 40 : size_t{64} << 10;
    options.write_timeout = std::chrono::milliseconds(by_time ? 100 : 20000);
    Gateway gateway(options);
    RawClient client(gateway.port(), 4096);
    client.send(http_request("POST", "/v1/completions", kStream));
    REQUIRE(eventually([&] { return gateway.core.started() == 1; }));
    const std::string piece(100000, 'z');
    int sent = 0;
    REQUIRE(eventually([&] {
      if (sent < 200) gateway.core.send_text(0, piece, ++sent);
      return gateway.core.cancelled(0);
    }));
    CHECK(sent <= 200);
    REQUIRE(at_rest(gateway));
  }
}

TEST_CASE("a large answer reaches a client that reads slowly whole") {
  Gateway gateway;
  RawClient client(gateway.port(), 4096);
  client.send(http_request("POST", "/v1/completions", kUnary));
  REQUIRE(eventually([&] { return gateway.core.started() == 1; }));
  const std::string piece(1 << 20, 'w');
  for (int i = 1; i <= 8; ++i) gateway.core.send_text(0, piece, i);
  gateway.core.finish(0);
  const RawResponse reply = client.read_response();
  CHECK(reply.complete);
  CHECK(reply.body.size() > (size_t{8} << 20));
}

TEST_CASE("an answer counts as in flight until its last byte is written") {
  Gateway gateway;
  RawClient client(gateway.port(), 4096);
  client.send(http_request("POST", "/v1/completions", kUnary));
  REQUIRE(eventually([&] { return gateway.core.started() == 1; }));
  CHECK(gateway.server->calls_in_flight() > 0);
  const std::string piece(1 << 20, 'w');
  for (int i = 1; i <= 16; ++i) gateway.core.send_text(0, piece, i);
  gateway.core.finish(0);
  pollfd poller{client.descriptor(), POLLIN, 0};
  REQUIRE(::poll(&poller, 1, 20000) == 1);  // more than the socket's buffers take is to come
  CHECK(gateway.server->calls_in_flight() > 0);
  const RawResponse reply = client.read_response();
  CHECK(reply.complete);
  CHECK(reply.body.size() > (size_t{16} << 20));
  CHECK(eventually([&] { return gateway.server->calls_in_flight() == 0; }));
}

TEST_CASE("silence is filled with comments that open the stream") {
  HttpOptions options;
  options.sse_keep_alive = std::chrono::milliseconds(20);
  Gateway gateway(options);
  RawClient client(gateway.port());
  client.send(http_request("POST", "/v1/completions", kStream));
  CHECK(client.read_until(": keep-alive\n\n").has_value());
  CHECK(client.read_until(": keep-alive\n\n").has_value());
  gateway.core.send_text(0, "a", 1);
  gateway.core.finish(0);
  CHECK(client.read_until("data: [DONE]").has_value());
}

TEST_CASE("stopping the server cancels what runs and ends every connection") {
  Gateway gateway;
  RawClient running(gateway.port());
  running.send(http_request("POST", "/v1/completions", kStream));
  RawClient unary(gateway.port());
  unary.send(http_request("POST", "/v1/completions", kUnary));
  RawClient idle(gateway.port());
  RawClient half(gateway.port());
  half.send("POST /v1/comp");
  REQUIRE(eventually([&] { return gateway.core.started() == 2; }));
  gateway.server->stop();
  CHECK(gateway.core.cancelled(0));
  CHECK(gateway.core.cancelled(1));
  CHECK(gateway.server->connections() == 0);
  CHECK(running.at_end());
  CHECK(idle.at_end());
}

}  // namespace pelton
