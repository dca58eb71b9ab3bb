#include "server/http_generation.h"

#include <fmt/format.h>

#include <ctime>

#include "server/http_io_thread.h"
#include "server/openai_error.h"

namespace pelton {

void HttpGeneration::prepare(bool chat, int calls, int choices_per_call, const std::string& id) {
  chat_ = chat;
  writer_.emplace(chat, shape_, id, static_cast<int64_t>(std::time(nullptr)), calls,
                  choices_per_call);
  calls_.reserve(calls);
  unfinished_ = calls;
  if (shape_.stream) return;
  if (chat) {
    chats_.resize(calls);
  } else {
    completions_.resize(calls);
  }
}

void HttpGeneration::keep(std::shared_ptr<Call> call) {
  thread_.expect(call->id(), shared_from_this(), static_cast<int>(calls_.size()));
  calls_.push_back({std::move(call), std::nullopt, false});
}

Status HttpGeneration::start(InferenceService& service, CompletionBody& body,
                             const CallContext& context) {
  const int count = static_cast<int>(body.prompts.size());
  prepare(false, count, body.request.sampling().has_n() ? body.request.sampling().n() : 1,
          context.request_id);
  for (int i = 0; i < count; ++i) {
    *body.request.mutable_prompt() = std::move(body.prompts[i]);
    CallContext own = context;
    if (count > 1) own.request_id = fmt::format("{}-{}", context.request_id, i);
    auto call = service.start(i + 1 < count ? body.request : std::move(body.request),
                              std::move(own), thread_.mailbox());
    if (!call.ok()) {
      failure_ = call.status();
      cancel_unfinished();
      return failure_;
    }
    keep(*std::move(call));
  }
  return absl::OkStatus();
}

Status HttpGeneration::start(InferenceService& service, ChatBody& body,
                             const CallContext& context) {
  prepare(true, 1, body.request.sampling().has_n() ? body.request.sampling().n() : 1,
          context.request_id);
  auto call = service.start(std::move(body.request), context, thread_.mailbox());
  if (!call.ok()) {
    failure_ = call.status();
    return failure_;
  }
  keep(*std::move(call));
  return absl::OkStatus();
}

void HttpGeneration::take(int index, RequestOutput&& output) {
  CallState& state = calls_[index];
  if (output.finished()) {
    state.finished = true;
    --unfinished_;
  }
  if (session_ == nullptr || !failure_.ok()) {  // nobody reads on
    if (output.finished()) state.call->note_end(output);
    return;
  }
  if (!output.status.ok()) {
    state.call->note_end(output);
    failure_ = output.status;
    cancel_unfinished();
    return;
  }
  if (!shape_.stream) {
    if (chat_) {
      state.call->accumulate(output, &chats_[index]);
    } else {
      state.call->accumulate(output, &completions_[index]);
    }
    return;
  }
  if (state.waiting) {
    merge_output(*state.waiting, std::move(output));
  } else {
    state.waiting = std::move(output);
    ++waiting_;
  }
}

size_t HttpGeneration::waiting_bytes() const {
  size_t bytes = 0;
  for (const CallState& state : calls_) {
    if (!state.waiting) continue;
    bytes += state.waiting->text.size() + state.waiting->tokens.size() * sizeof(TokenId);
    for (const auto& position : state.waiting->logprobs) {
      bytes += (1 + position.top.size()) * sizeof(TokenLogprob);
    }
  }
  return bytes;
}

bool HttpGeneration::append_delta(std::string& out, int index, const RequestOutput& output) {
  Call& call = *calls_[index].call;
  if (chat_) {
    chat_delta_.Clear();
    call.fill(output, &chat_delta_);
    return writer_->append_chunk(out, index, chat_delta_);
  }
  completion_delta_.Clear();
  call.fill(output, &completion_delta_);
  return writer_->append_chunk(out, index, completion_delta_);
}

void HttpGeneration::append_events(std::string& out, SseWriter& sse) {
  for (size_t i = 0; waiting_ > 0 && i < calls_.size(); ++i) {
    CallState& state = calls_[i];
    if (!state.waiting) continue;
    const size_t before = out.size();
    sse.begin(out);
    if (append_delta(out, static_cast<int>(i), *state.waiting)) {
      sse.end(out);
    } else {
      out.resize(before);
    }
    state.waiting.reset();
    --waiting_;
  }
  if (!settled() || ended_) return;
  ended_ = true;
  if (!failure_.ok()) {
    sse.begin(out);
    append_error(out, failure_, names_);
    sse.end(out);
  } else if (shape_.include_usage) {
    sse.begin(out);
    writer_->append_usage_chunk(out);
    sse.end(out);
  }
  sse.done(out);
}

void HttpGeneration::append_answer(std::string& out) {
  if (chat_) {
    writer_->append_answer(out, chats_);
  } else {
    writer_->append_answer(out, completions_);
  }
}

void HttpGeneration::cancel_unfinished() {
  for (CallState& state : calls_) {
    if (!state.finished) state.call->cancel();
  }
}

void HttpGeneration::abandon() {
  session_ = nullptr;
  cancel_unfinished();
}

}  // namespace pelton
