// One completion or chat over HTTP: its calls (one a prompt), their deltas merged until they can be
// written, and the answer's JSON. Belongs to one I/O thread; lives until the last output of each
// call came, the connection may be gone before.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/inference_service.h"
#include "server/openai_request.h"
#include "server/openai_response.h"
#include "server/sse_writer.h"

namespace pelton {

class HttpIoThread;
class HttpSession;

class HttpGeneration : public std::enable_shared_from_this<HttpGeneration> {
 public:
  HttpGeneration(HttpIoThread& thread, HttpSession* session, AnswerShape shape, FieldNames names)
      : thread_(thread), session_(session), shape_(shape), names_(std::move(names)) {}

  // Takes the body's messages. Starts every call; where one is refused, those before it are
  // cancelled and its error is given. `context` names the request and its tenant.
  Status start(InferenceService& service, CompletionBody& body, const CallContext& context);
  Status start(InferenceService& service, ChatBody& body, const CallContext& context);

  // From the I/O thread: `call`'s next output. Kept until append_events or append_answer.
  void take(int call, RequestOutput&& output);

  bool streamed() const { return shape_.stream; }
  bool settled() const { return !failure_.ok() || unfinished_ == 0; }
  const Status& failure() const { return failure_; }
  const FieldNames& names() const { return names_; }
  bool has_waiting() const { return !failure_.ok() || waiting_ > 0; }
  size_t waiting_bytes() const;  // of deltas that are not written yet, about

  // Appends what waits as events; after settled() also the end of the stream.
  void append_events(std::string& out, SseWriter& sse);
  // The whole answer; only when settled without a failure.
  void append_answer(std::string& out);

  HttpSession* session() const { return session_; }
  // The connection needs no more of it: every call that still runs is cancelled.
  void abandon();

 private:
  struct CallState {
    std::shared_ptr<Call> call;
    std::optional<RequestOutput> waiting;
    bool finished = false;
  };
  void prepare(bool chat, int calls, int choices_per_call, const std::string& id);
  void keep(std::shared_ptr<Call> call);
  void cancel_unfinished();
  bool append_delta(std::string& out, int call, const RequestOutput& output);

  HttpIoThread& thread_;
  HttpSession* session_;
  const AnswerShape shape_;
  const FieldNames names_;
  bool chat_ = false;
  std::optional<OpenAiWriter> writer_;
  std::vector<CallState> calls_;
  std::vector<v1::CompleteResponse> completions_;  // [calls], not streamed
  std::vector<v1::ChatResponse> chats_;            // likewise, of a chat
  v1::CompleteStreamResponse completion_delta_;    // reused
  v1::ChatStreamResponse chat_delta_;              // reused
  int unfinished_ = 0;
  int waiting_ = 0;
  bool ended_ = false;  // [DONE] is written
  Status failure_;
};

}  // namespace pelton
