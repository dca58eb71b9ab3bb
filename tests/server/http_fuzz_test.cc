// Broken bytes and broken bodies: never a crash or a hang, always an answer or a closed connection.
#include <boost/json/parse.hpp>
#include <random>

#include "server/json_view.h"
#include "server/openai_error.h"
#include "server/openai_request.h"
#include "tests/server/gateway_fixture.h"

namespace pelton {
namespace {

const std::vector<std::string>& bodies() {
  static const std::vector<std::string> all = {
      R"({"model":"org/fake","prompt":"hello","max_tokens":16,"temperature":0.5,"top_p":1.0,"n":1,)"
      R"("stream":true,"stream_options":{"include_usage":true},"stop":["a","\u00e9"],"seed":7})",
      R"({"prompt":[[1,2,3],[4]],"logprobs":2,"logit_bias":{"5":-1.5},"ignore_eos":true,)"
      R"("stop_token_ids":[2],"guided_choice":["x","y"],"echo":false,"best_of":1})",
      R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text",)"
      R"("text":"\ud83d\ude00"},{"type":"image_url","image_url":{"url":"u"}}]},{"role":)"
      R"("assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":)"
      R"("{}"}}]}],"tools":[{"type":"function","function":{"name":"f","parameters":{"a":[1e3]}}}],)"
      R"("tool_choice":"none","response_format":{"type":"json_schema","json_schema":{"schema":{}}},)"
      R"("chat_template_kwargs":{"x":false},"logprobs":true,"top_logprobs":3})",
      R"({"prompt":"p","add_special_tokens":false,"return_token_strs":true})",
      R"({"tokens":[104,105,-1,2147483647]})",
  };
  return all;
}

const std::vector<std::string>& requests() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> out = {
        http_request("GET", "/health"),
        http_request("GET", "/v1/models/org%2Ffake?a=b", "", "X-Request-Id: a\r\n"),
        http_request("HEAD", "/version", "", "Connection: close\r\n"),
        http_request("OPTIONS", "/tokenize", "", "Origin: http://a\r\n"),
        "POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "e\r\n{\"prompt\":\"p\"}\r\n0\r\nT: 1\r\n\r\n",
        "POST /v1/completions HTTP/1.0\r\nContent-Length: 28\r\nExpect: 100-continue\r\n\r\n"
        "{\"prompt\":\"p\",\"stream\":true}",
    };
    for (const std::string& body : bodies()) {
      for (const char* path : {"/v1/completions", "/v1/chat/completions", "/tokenize"}) {
        out.push_back(http_request("POST", path, body));
      }
    }
    return out;
  }();
  return all;
}

std::string mutate(std::mt19937& random, const std::vector<std::string>& seeds) {
  static const std::string kTokens[] = {"\r\n",    "\r\n\r\n",
                                        "\n",      ":",
                                        " ",       std::string(1, '\0'),
                                        "\"",      "\\u",
                                        "\\",      "{",
                                        "[",       "1e99",
                                        "-",       "null",
                                        ",",       "\xff",
                                        "0",       "HTTP/",
                                        "%",       "99999999999999999",
                                        "chunked", "\xC3"};
  const auto below = [&](size_t n) { return n == 0 ? 0 : random() % n; };
  std::string text = seeds[below(seeds.size())];
  for (size_t edits = 1 + below(4); edits > 0; --edits) {
    const size_t at = below(text.size() + 1);
    switch (below(6)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(random());
        break;
      case 1:
        text.insert(at, kTokens[below(std::size(kTokens))]);
        break;
      case 2:
        text.erase(at, below(20));
        break;
      case 3:
        text.insert(at, text.substr(below(text.size() + 1), below(60)));
        break;
      case 4: {
        const std::string& other = seeds[below(seeds.size())];
        text = text.substr(0, at) + other.substr(below(other.size() + 1));
        break;
      }
      default:
        text.resize(at);
    }
  }
  return text;
}

void fuzz_bytes(int rounds) {
  HttpOptions options;
  options.header_timeout = options.body_timeout = std::chrono::milliseconds(40);
  options.keep_alive_timeout = std::chrono::milliseconds(40);
  options.cors_origins = {"http://a"};
  Gateway gateway(options);
  gateway.core.answer_with({"a", "b"});
  std::mt19937 random(11);
  constexpr int kAtOnce = 25;
  for (int round = 0; round < rounds; round += kAtOnce) {
    std::vector<std::unique_ptr<RawClient>> clients;
    for (int i = 0; i < kAtOnce; ++i) {
      clients.push_back(std::make_unique<RawClient>(gateway.port()));
      const std::string bytes = mutate(random, requests());
      const size_t split = random() % (bytes.size() + 1);
      clients.back()->send(bytes.substr(0, split));
      clients.back()->send(bytes.substr(split));
    }
    for (auto& client : clients) {
      while (!client->at_end() && !client->timed_out()) {
        const auto line = client->read_until("\r\n");
        if (!line) break;
        // Whatever it was, the first thing said is HTTP.
        REQUIRE(line->starts_with("HTTP/1.1 "));
        while (client->read_until("\n")) {
        }
      }
      REQUIRE_FALSE(client->timed_out());
    }
  }
  REQUIRE(eventually([&] { return gateway.server->connections() == 0; }));
  CHECK(eventually([&] { return gateway.server->calls_in_flight() == 0; }));
  CHECK(gateway.ask("GET", "/health").status == 200);
}

void fuzz_bodies(int rounds) {
  std::mt19937 random(13);
  for (int i = 0; i < rounds; ++i) {
    const std::string body = mutate(random, bodies());
    boost::system::error_code error;
    boost::json::parse_options options;
    options.max_depth = kMaxJsonDepth;
    boost::json::parse(body, error, {}, options);
    CAPTURE(body);
    REQUIRE(check_json(body, kMaxJsonDepth).ok() == !error);
    FieldNames names;
    const Status statuses[] = {
        parse_completion_body(body, &names).status(), parse_chat_body(body, &names).status(),
        parse_tokenize_body(body, &names).status(), parse_detokenize_body(body).status()};
    for (const Status& status : statuses) {
      if (status.ok()) continue;
      std::string out;
      append_error(out, status, names);
      REQUIRE(http_status(status) == 400);
      REQUIRE(check_json(out, 8).ok());
    }
  }
}

}  // namespace

TEST_CASE("mutated http bytes get an answer or a closed connection") {
  fuzz_bytes(400);
}
TEST_CASE("ten thousand mutated http byte strings", "[long]") {
  fuzz_bytes(10000);
}

TEST_CASE("mutated json bodies are parsed or refused with 400") {
  fuzz_bodies(5000);
}
TEST_CASE("two hundred thousand mutated json bodies", "[long]") {
  fuzz_bodies(200000);
}

}  // namespace pelton
