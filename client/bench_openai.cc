// The HTTP side of the benchmark: any server with OpenAI's streaming completions.
#include <fmt/format.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <nlohmann/json.hpp>

#include "client/bench_load.h"
#include "client/sse_parser.h"

namespace pelton {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using nlohmann::json;

struct Endpoint {
  std::string host;
  std::string port;
};

class OpenAiTarget final : public BenchTarget {
 public:
  OpenAiTarget(Endpoint endpoint, std::string api_key, std::string model,
               std::chrono::milliseconds timeout)
      : endpoint_(std::move(endpoint)),
        api_key_(std::move(api_key)),
        model_(std::move(model)),
        timeout_(timeout) {}

  BenchResult run(const BenchRequest& request) override {
    BenchResult result;
    TokenTimer timer;
    // A server may close a kept connection between two requests: that is no failed request.
    const bool kept = stream_.socket().is_open();
    result.status = try_exchange(request, timer, result);
    if (kept && absl::IsUnavailable(result.status) && !answered_) {
      stream_.close();
      timer = TokenTimer();
      result.status = try_exchange(request, timer, result);
    }
    if (!result.status.ok()) stream_.close();
    timer.finish(result);
    return result;
  }

 private:
  std::string body_of(const BenchRequest& request) const {
    json body = {{"model", model_},
                 {"max_tokens", request.max_tokens},
                 {"temperature", request.temperature},
                 {"seed", request.seed},
                 {"ignore_eos", request.ignore_eos},
                 {"stream", true},
                 {"stream_options", {{"include_usage", true}}}};
    if (request.chat) {
      body["messages"] = {{{"role", "user"}, {"content", request.prompt}}};
    } else {
      body["prompt"] = request.prompt;
    }
    return body.dump();
  }

  Status try_exchange(const BenchRequest& request, TokenTimer& timer, BenchResult& result) {
    answered_ = false;
    try {
      return exchange(request, timer, result);
    } catch (const std::exception& error) {
      return absl::UnavailableError(error.what());
    }
  }

  void connect() {
    if (stream_.socket().is_open()) return;
    asio::ip::tcp::resolver resolver(io_);
    stream_.connect(resolver.resolve(endpoint_.host, endpoint_.port));
    stream_.socket().set_option(asio::ip::tcp::no_delay(true));
    // Blocking reads know no deadline of Beast's: the socket's own ends them.
    const timeval silence = {timeout_.count() / 1000, (timeout_.count() % 1000) * 1000};
    setsockopt(stream_.socket().native_handle(), SOL_SOCKET, SO_RCVTIMEO, &silence,
               sizeof(silence));
    buffer_.clear();
  }

  // One event's JSON. A chunk with text is taken as one token: OpenAI's stream does not say.
  static Status on_event(std::string_view data, TokenTimer& timer, BenchResult& result) {
    if (data == "[DONE]") return absl::OkStatus();
    const json event = json::parse(data, nullptr, false);
    if (!event.is_object()) return absl::InternalError("an event is no JSON object");
    if (event.contains("error")) return absl::InternalError(event["error"].dump());
    for (const json& choice : event.value("choices", json::array())) {
      if (carries_text(choice)) timer.on_tokens(1);
    }
    const json usage = event.value("usage", json());
    if (usage.is_object()) {
      result.prompt_tokens = usage.value("prompt_tokens", 0);
      result.completion_tokens = usage.value("completion_tokens", 0);
    }
    return absl::OkStatus();
  }

  static bool carries_text(const json& choice) {
    const bool chat = choice.contains("delta");
    const json& holder = chat ? choice["delta"] : choice;
    const char* name = chat ? "content" : "text";
    return holder.contains(name) && holder[name].is_string() && holder[name] != "";
  }

  Status exchange(const BenchRequest& request, TokenTimer& timer, BenchResult& result) {
    connect();
    http::request<http::string_body> message(
        http::verb::post, request.chat ? "/v1/chat/completions" : "/v1/completions", 11);
    message.set(http::field::host, endpoint_.host + ":" + endpoint_.port);
    message.set(http::field::content_type, "application/json");
    if (!api_key_.empty()) message.set(http::field::authorization, "Bearer " + api_key_);
    message.body() = body_of(request);
    message.prepare_payload();
    http::write(stream_, message);

    http::response_parser<http::buffer_body> parser;
    parser.body_limit(boost::none);
    http::read_header(stream_, buffer_, parser);
    answered_ = true;
    std::string refusal;
    const bool ok = parser.get().result() == http::status::ok;
    SseParser sse;
    Status status;
    char piece[4096];
    while (!parser.is_done()) {
      parser.get().body().data = piece;
      parser.get().body().size = sizeof(piece);
      beast::error_code error;
      http::read_some(stream_, buffer_, parser, error);
      if (error && error != http::error::need_buffer) throw beast::system_error(error);
      const std::string_view bytes(piece, sizeof(piece) - parser.get().body().size);
      if (!ok) {
        refusal += bytes;
        continue;
      }
      sse.feed(bytes, [&](std::string_view data) {
        const Status event = on_event(data, timer, result);
        if (status.ok()) status = event;
      });
    }
    if (!parser.get().keep_alive()) stream_.close();
    if (!ok) {
      return absl::InternalError(
          fmt::format("HTTP {}: {}", parser.get().result_int(), refusal.substr(0, 200)));
    }
    return status;
  }

  Endpoint endpoint_;
  std::string api_key_;
  std::string model_;
  std::chrono::milliseconds timeout_;
  asio::io_context io_;
  beast::tcp_stream stream_{io_};
  beast::flat_buffer buffer_;
  bool answered_ = false;  // the last exchange got as far as a header
};

}  // namespace

StatusOr<BenchTargetFactory> openai_bench_target(const std::string& url, const std::string& api_key,
                                                 const std::string& model,
                                                 std::chrono::milliseconds timeout) {
  std::string rest = url;
  if (!rest.starts_with("http://")) {
    return absl::InvalidArgumentError("--url starts with http:// (no TLS here)");
  }
  rest = rest.substr(7);
  if (const size_t slash = rest.find('/'); slash != rest.npos) rest.resize(slash);
  // An IPv6 host stands in brackets, which the resolver does not want.
  const bool bracketed = rest.starts_with('[') && rest.find(']') != rest.npos;
  const size_t host_end = bracketed ? rest.find(']') : std::min(rest.find(':'), rest.size());
  const size_t colon = rest.find(':', host_end);
  const Endpoint endpoint = {bracketed ? rest.substr(1, host_end - 1) : rest.substr(0, host_end),
                             colon == rest.npos ? "80" : rest.substr(colon + 1)};
  return BenchTargetFactory([=]() -> StatusOr<std::unique_ptr<BenchTarget>> {
    return std::make_unique<OpenAiTarget>(endpoint, api_key, model, timeout);
  });
}

}  // namespace pelton
