// What each route of a connection does.
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "core/log.h"
#include "server/http_generation.h"
#include "server/http_io_thread.h"
#include "server/inference_service.h"
#include "server/openai_error.h"
#include "server/openai_response.h"
#include "server/random_id.h"
#include "server/version.h"

namespace pelton {
namespace asio = boost::asio;

namespace {

HttpReply status_reply(bool good, std::string_view word, std::string_view bad_word) {
  HttpReply reply;
  reply.status = good ? 200 : 503;
  reply.body = R"({"status":")";
  reply.body += good ? word : bad_word;
  reply.body += "\"}";
  return reply;
}

}  // namespace

HttpSession::Awaitable<> HttpSession::handle() {
  const HttpDeps& deps = shared_.deps;
  switch (route_.route->id) {
    case RouteId::kHealth:
      reply_ = status_reply(!deps.live || deps.live(), "ok", "failed");
      break;
    case RouteId::kReady:
      reply_ = status_reply(deps.service->ready(), "ready", "not ready");
      break;
    case RouteId::kMetrics:
      if (deps.metrics) {
        reply_.content_type = "text/plain; version=0.0.4; charset=utf-8";
        reply_.body = deps.metrics();
      } else {
        reply_ = error_reply(404, "no metrics are kept", "unknown_route");
      }
      break;
    case RouteId::kVersion:
      reply_.body = std::string(R"({"version":")") + version() + "\"}";
      break;
    case RouteId::kModels:
    case RouteId::kModel:
      handle_models();
      break;
    case RouteId::kTokenize:
      co_await handle_tokenize();
      break;
    case RouteId::kDetokenize:
      co_await handle_detokenize();
      break;
    case RouteId::kCompletions:
    case RouteId::kChatCompletions:
      co_await handle_generation();
      break;
  }
}

void HttpSession::handle_models() {
  if (route_.route->id == RouteId::kModels) {
    append_model_list(reply_.body, shared_.deps.service->list_models());
    return;
  }
  const StatusOr<v1::Model> model = shared_.deps.service->get_model(route_.rest);
  if (model.ok()) {
    append_model(reply_.body, *model);
  } else {
    reply_ = error_reply(model.status(), FieldNames());
  }
}

namespace {

// Where a result of the worker pool waits for the connection that asked for it. That connection's
// coroutine owns it alone, and its thread alone touches it: a worker may well end after both.
template <typename Response>
struct Awaited {
  std::optional<StatusOr<Response>> result;
};

template <typename Response>
std::function<void(StatusOr<Response>)> post_result(
    const std::shared_ptr<Awaited<Response>>& awaited, std::shared_ptr<HttpMailbox> mailbox,
    asio::steady_timer& wake) {
  return [weak = std::weak_ptr(awaited), mailbox = std::move(mailbox),
          &wake](StatusOr<Response> response) {
    mailbox->post([weak, &wake, response = std::move(response)]() mutable {
      const auto waiting = weak.lock();
      if (waiting == nullptr) return;
      waiting->result = std::move(response);
      wake.cancel();  // the connection's, which is there as long as what its coroutine owns
    });
  };
}

Status stopping_error() {
  Status status = absl::UnavailableError("the server is draining and stops");
  set_error_reason(status, "DRAINING");
  return status;
}

}  // namespace

// Until wake().
HttpSession::Awaitable<> HttpSession::sleep() {
  boost::system::error_code ignored;
  wake_timer_.expires_at(std::chrono::steady_clock::time_point::max());
  co_await wake_timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

// Until the pool has answered; or before that, where the server stops or the client leaves.
HttpSession::Awaitable<> HttpSession::await_pool(std::function<bool()> answered) {
  gone_ = false;
  watch_client();
  while (!answered() && !closing_ && !gone_) co_await sleep();
  stop_watching();
}

HttpSession::Awaitable<> HttpSession::handle_tokenize() {
  FieldNames names;
  bool with_strings = false;
  StatusOr<v1::TokenizeRequest> request = parse_tokenize_body(parser_->get().body(), &names);
  Status status = request.status();
  const auto awaited = std::make_shared<Awaited<v1::TokenizeResponse>>();
  if (status.ok()) {
    with_strings = request->return_token_strings();
    status = shared_.deps.service->tokenize(
        *std::move(request), post_result(awaited, thread_.mailbox(), wake_timer_),
        [awaited = std::weak_ptr(awaited)] { return !awaited.expired(); });
  }
  if (status.ok()) co_await await_pool([&] { return awaited->result.has_value(); });
  if (status.ok()) status = awaited->result ? awaited->result->status() : stopping_error();
  if (!status.ok()) {
    reply_ = error_reply(status, names);
  } else {
    append_tokenize(reply_.body, **awaited->result, with_strings);
  }
}

HttpSession::Awaitable<> HttpSession::handle_detokenize() {
  StatusOr<v1::DetokenizeRequest> request = parse_detokenize_body(parser_->get().body());
  Status status = request.status();
  const auto awaited = std::make_shared<Awaited<v1::DetokenizeResponse>>();
  if (status.ok()) {
    status = shared_.deps.service->detokenize(
        *std::move(request), post_result(awaited, thread_.mailbox(), wake_timer_),
        [awaited = std::weak_ptr(awaited)] { return !awaited.expired(); });
  }
  if (status.ok()) co_await await_pool([&] { return awaited->result.has_value(); });
  if (status.ok()) status = awaited->result ? awaited->result->status() : stopping_error();
  if (!status.ok()) {
    reply_ = error_reply(status, FieldNames());
  } else {
    append_detokenize(reply_.body, **awaited->result);
  }
}

// Parses the body and starts the request; the body's memory is free afterwards.
Status HttpSession::start_generation() {
  const bool chat = route_.route->id == RouteId::kChatCompletions;
  FieldNames names;
  Status status;
  CallContext context;
  context.request_id = random_id(chat ? "chatcmpl-" : "cmpl-");
  context.tenant = tenant_;
  context.client_request_id = request_id_;
  std::string body = std::move(parser_->get().body());
  if (chat) {
    StatusOr<ChatBody> parsed = parse_chat_body(body, &names);
    status = parsed.status();
    if (status.ok()) {
      generation_ = std::make_shared<HttpGeneration>(thread_, this, parsed->shape, names);
      status = generation_->start(*shared_.deps.service, *parsed, context);
    }
  } else {
    StatusOr<CompletionBody> parsed = parse_completion_body(body, &names);
    status = parsed.status();
    if (status.ok()) {
      generation_ = std::make_shared<HttpGeneration>(thread_, this, parsed->shape, names);
      status = generation_->start(*shared_.deps.service, *parsed, context);
    }
  }
  release_body();
  if (!status.ok()) reply_ = error_reply(status, names);
  return status;
}

HttpSession::Awaitable<> HttpSession::handle_generation() {
  gone_ = stream_open_ = stream_ended_ = write_blocked_ = touched_ = false;
  out_.clear();
  out_sent_ = 0;
  sse_ = SseWriter(parser_->get().version() >= 11);
  const Status started = start_generation();
  if (started.ok()) {
    last_write_ = std::chrono::steady_clock::now();
    watch_client();
    // Until the whole answer is there (or sent, where it is a stream), or its reader is not.
    while (!gone_ && !(stream_open_ ? stream_ended_ && out_.empty() : generation_->settled())) {
      co_await sleep();
    }
    stop_watching();
    streamed_ = stream_open_;
    if (!gone_ && !streamed_) {
      if (!generation_->failure().ok()) {
        reply_ = error_reply(generation_->failure(), generation_->names());
      } else {
        generation_->append_answer(reply_.body);
      }
    }
  }
  if (generation_ != nullptr) generation_->abandon();
  generation_.reset();
}

}  // namespace pelton
