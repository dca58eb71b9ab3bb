// A service core whose every output a test chooses: it stands in for server/inference_service.cc at
// link time, so that the HTTP gateway is tested alone, phase by phase. Thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/inference_service.h"

namespace pelton {

struct FakeCall {
  RequestId id;
  bool chat = false;
  v1::CompleteRequest completion;
  v1::ChatRequest conversation;
  CallContext context;
  std::shared_ptr<OutputSink> sink;
  bool cancelled = false;
  bool finished = false;
  std::vector<RequestOutput> noted_ends;
};

class FakeCore {
 public:
  static FakeCore& instance();
  void reset();  // between tests

  // The next start() or tokenize() gives this error (until set to OK).
  void refuse_with(Status status);
  // Every call is answered at once, on another thread's behalf, with these texts and a stop.
  void answer_with(std::vector<std::string> texts);
  void set_ready(bool ready);
  // tokenize() and detokenize() answer no more, until let_go() answers those that wait.
  void hold_pool();
  size_t held() const;
  int unwanted() const;  // of those, when let go: jobs that their client wants no more
  void let_go();

  std::vector<FakeCall> calls() const;
  size_t started() const;
  bool cancelled(size_t call) const;
  int unfinished() const;
  // A cancelled call ends itself with kAbort, as the engine's do; off to look at it first.
  void set_end_cancelled(bool on);

  // Sends one output of call number `call` (its id is filled in).
  void send(size_t call, RequestOutput output);
  void send_text(size_t call, const std::string& text, int tokens_so_far);
  void finish(size_t call, FinishReason reason = FinishReason::kStop, Status status = {});
};

}  // namespace pelton
