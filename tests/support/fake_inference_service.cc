#include "tests/support/fake_inference_service.h"

#include <atomic>
#include <mutex>

#include "tests/support/fake_messages.h"

namespace pelton {
namespace {

struct State {
  std::mutex mutex;
  std::vector<FakeCall> calls;
  Status refusal;
  std::vector<std::string> texts;
  bool ready = true;
  bool draining = false;
  bool end_cancelled = true;
  bool hold = false;
  std::vector<std::function<void()>> held;
  std::atomic<int> unwanted{0};
  std::atomic<uint64_t> next_id{1};
};

State& state() {
  static State state;
  return state;
}

RequestOutput text_output(RequestId id, const std::string& text, int tokens_so_far) {
  RequestOutput output;
  output.id = id;
  output.text = text;
  if (!text.empty()) output.tokens = {static_cast<TokenId>(1000 + tokens_so_far)};
  output.usage = {5, 2, tokens_so_far};
  return output;
}

void end_call(RequestId id, FinishReason reason, Status status) {
  std::shared_ptr<OutputSink> sink;
  RequestOutput last;
  {
    const std::lock_guard lock(state().mutex);
    for (FakeCall& call : state().calls) {
      if (call.id != id || call.finished) continue;
      call.finished = true;
      sink = call.sink;
    }
  }
  if (sink == nullptr) return;
  last = text_output(id, "", 0);
  last.finish_reason = reason;
  last.status = std::move(status);
  sink->deliver({std::move(last)});
}

class ScriptedCall final : public Call {
 public:
  ScriptedCall(RequestId id, std::string name) : id_(id), messages_(std::move(name)) {}
  RequestId id() const override { return id_; }
  void cancel() override {
    bool end = false;
    {
      const std::lock_guard lock(state().mutex);
      for (FakeCall& call : state().calls) {
        if (call.id == id_) call.cancelled = true;
      }
      end = state().end_cancelled;
    }
    if (end) end_call(id_, FinishReason::kAbort, {});
  }
  void fill(const RequestOutput& output, v1::CompleteStreamResponse* message) override {
    messages_.fill(output, message);
  }
  void fill(const RequestOutput& output, v1::ChatStreamResponse* message) override {
    messages_.fill(output, message);
  }
  void accumulate(const RequestOutput& output, v1::CompleteResponse* message) override {
    messages_.accumulate(output, message);
  }
  void accumulate(const RequestOutput& output, v1::ChatResponse* message) override {
    messages_.accumulate(output, message);
  }
  void note_end(const RequestOutput& output) override {
    const std::lock_guard lock(state().mutex);
    for (FakeCall& call : state().calls) {
      if (call.id == id_) call.noted_ends.push_back(output);
    }
  }

 private:
  const RequestId id_;
  FakeMessages messages_;
};

// As the real pool does: an answer that nobody waits for any more is not made.
template <typename Done, typename Response>
void answer_or_hold(Done done, Response response, InferenceService::Wanted wanted) {
  auto answer = [done = std::move(done), response = std::move(response),
                 wanted = std::move(wanted)] {
    if (wanted && !wanted()) {
      ++state().unwanted;
      done(absl::CancelledError("the client left"));
    } else {
      done(response);
    }
  };
  {
    const std::lock_guard lock(state().mutex);
    if (state().hold) {
      state().held.push_back(answer);
      return;
    }
  }
  answer();
}

StatusOr<std::shared_ptr<Call>> start_call(FakeCall call) {
  std::vector<std::string> texts;
  {
    const std::lock_guard lock(state().mutex);
    if (!state().refusal.ok()) return state().refusal;
    call.id = RequestId(state().next_id.fetch_add(1));
    texts = state().texts;
    state().calls.push_back(call);
  }
  auto running = std::make_shared<ScriptedCall>(call.id, call.context.request_id);
  if (!texts.empty()) {
    int count = 0;
    for (const std::string& text : texts) {
      call.sink->deliver({text_output(call.id, text, ++count)});
    }
    RequestOutput last = text_output(call.id, "", count);
    last.finish_reason = FinishReason::kStop;
    {
      const std::lock_guard lock(state().mutex);
      for (FakeCall& known : state().calls) known.finished |= known.id == call.id;
    }
    call.sink->deliver({std::move(last)});
  }
  return std::shared_ptr<Call>(running);
}

}  // namespace

FakeCore& FakeCore::instance() {
  static FakeCore core;
  return core;
}

void FakeCore::reset() {
  const std::lock_guard lock(state().mutex);
  state().calls.clear();
  state().refusal = {};
  state().texts.clear();
  state().ready = state().end_cancelled = true;
  state().draining = state().hold = false;
  state().held.clear();
  state().unwanted = 0;
}

void FakeCore::hold_pool() {
  const std::lock_guard lock(state().mutex);
  state().hold = true;
}

size_t FakeCore::held() const {
  const std::lock_guard lock(state().mutex);
  return state().held.size();
}

int FakeCore::unwanted() const {
  return state().unwanted;
}

void FakeCore::let_go() {
  std::vector<std::function<void()>> held;
  {
    const std::lock_guard lock(state().mutex);
    state().hold = false;
    held.swap(state().held);
  }
  for (auto& answer : held) answer();
}

void FakeCore::refuse_with(Status status) {
  const std::lock_guard lock(state().mutex);
  state().refusal = std::move(status);
}

void FakeCore::answer_with(std::vector<std::string> texts) {
  const std::lock_guard lock(state().mutex);
  state().texts = std::move(texts);
}

void FakeCore::set_ready(bool ready) {
  const std::lock_guard lock(state().mutex);
  state().ready = ready;
}

void FakeCore::set_end_cancelled(bool on) {
  const std::lock_guard lock(state().mutex);
  state().end_cancelled = on;
}

std::vector<FakeCall> FakeCore::calls() const {
  const std::lock_guard lock(state().mutex);
  return state().calls;
}

size_t FakeCore::started() const {
  const std::lock_guard lock(state().mutex);
  return state().calls.size();
}

bool FakeCore::cancelled(size_t call) const {
  return calls().at(call).cancelled;
}

int FakeCore::unfinished() const {
  int count = 0;
  for (const FakeCall& call : calls()) count += !call.finished;
  return count;
}

void FakeCore::send(size_t call, RequestOutput output) {
  std::shared_ptr<OutputSink> sink;
  {
    const std::lock_guard lock(state().mutex);
    FakeCall& known = state().calls.at(call);
    if (known.finished) return;
    output.id = known.id;
    known.finished = output.finished();
    sink = known.sink;
  }
  sink->deliver({std::move(output)});
}

void FakeCore::send_text(size_t call, const std::string& text, int tokens_so_far) {
  send(call, text_output(RequestId(), text, tokens_so_far));
}

void FakeCore::finish(size_t call, FinishReason reason, Status status) {
  RequestOutput last = text_output(RequestId(), "", 3);
  last.finish_reason = reason;
  last.status = std::move(status);
  send(call, std::move(last));
}

void merge_output(RequestOutput& into, RequestOutput&& later) {
  into.tokens.insert(into.tokens.end(), later.tokens.begin(), later.tokens.end());
  into.text += later.text;
  for (auto& position : later.logprobs) into.logprobs.push_back(std::move(position));
  into.finish_reason = later.finish_reason;
  into.stop_string = std::move(later.stop_string);
  into.stop_token = later.stop_token;
  into.status = std::move(later.status);
  into.usage = later.usage;
  into.timing = later.timing;
}

class InferenceService::Impl {};

InferenceService::InferenceService(ModelHost*, const Clock*, InferenceServiceOptions)
    : impl_(std::make_unique<Impl>()) {}
InferenceService::~InferenceService() = default;

StatusOr<std::shared_ptr<Call>> InferenceService::start(v1::CompleteRequest request,
                                                        CallContext context,
                                                        std::shared_ptr<OutputSink> sink) {
  FakeCall call;
  call.completion = std::move(request);
  call.context = std::move(context);
  call.sink = std::move(sink);
  return start_call(std::move(call));
}

StatusOr<std::shared_ptr<Call>> InferenceService::start(v1::ChatRequest request,
                                                        CallContext context,
                                                        std::shared_ptr<OutputSink> sink) {
  FakeCall call;
  call.chat = true;
  call.conversation = std::move(request);
  call.context = std::move(context);
  call.sink = std::move(sink);
  return start_call(std::move(call));
}

Status InferenceService::tokenize(v1::TokenizeRequest request,
                                  std::function<void(StatusOr<v1::TokenizeResponse>)> done,
                                  Wanted wanted) {
  {
    const std::lock_guard lock(state().mutex);
    if (!state().refusal.ok()) return state().refusal;
  }
  v1::TokenizeResponse response;
  for (const char c : request.text()) {
    response.add_token_ids(static_cast<unsigned char>(c));
    if (request.return_token_strings()) response.add_token_strings(std::string(1, c));
  }
  for (const v1::ChatMessage& message : request.chat().messages()) {
    response.add_token_ids(message.content_size());
  }
  response.set_max_model_len(2048);
  answer_or_hold(std::move(done), std::move(response), std::move(wanted));
  return absl::OkStatus();
}

Status InferenceService::detokenize(v1::DetokenizeRequest request,
                                    std::function<void(StatusOr<v1::DetokenizeResponse>)> done,
                                    Wanted wanted) {
  v1::DetokenizeResponse response;
  for (const int32_t id : request.token_ids()) {
    if (id < 0 || id > 127) {
      done(invalid_field("token_ids", "is not in the vocabulary"));
      return absl::OkStatus();
    }
    response.mutable_text()->push_back(static_cast<char>(id));
  }
  answer_or_hold(std::move(done), std::move(response), std::move(wanted));
  return absl::OkStatus();
}

v1::ListModelsResponse InferenceService::list_models() const {
  v1::ListModelsResponse response;
  *response.add_models() = *get_model("org/fake");
  return response;
}

StatusOr<v1::Model> InferenceService::get_model(std::string_view name) const {
  if (name != "org/fake") {
    Status status = absl::NotFoundError("there is no such model");
    set_error_reason(status, "MODEL_NOT_FOUND");
    return status;
  }
  v1::Model model;
  model.set_name("org/fake");
  model.set_created_unix_s(123);
  model.set_max_model_len(2048);
  return model;
}

bool InferenceService::ready() const {
  const std::lock_guard lock(state().mutex);
  return state().ready && !state().draining;
}
void InferenceService::drain() {
  const std::lock_guard lock(state().mutex);
  state().draining = true;
}
bool InferenceService::idle() const {
  return FakeCore::instance().unfinished() == 0;
}

}  // namespace pelton
