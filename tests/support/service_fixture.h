// The service core over a fake model, requests for it, and sinks for its outputs.
#pragma once

#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "server/inference_service.h"
#include "tests/support/block_worker.h"
#include "tests/support/catch.h"
#include "tests/support/collecting_sink.h"
#include "tests/support/fake_served_model.h"

namespace pelton {

// Keeps every output, for those who want to map them.
class KeepingSink final : public OutputSink {
 public:
  void deliver(std::vector<RequestOutput> outputs) override {
    const std::lock_guard lock(mutex_);
    for (RequestOutput& output : outputs) {
      finished_ = finished_ || output.finished();
      outputs_.push_back(std::move(output));
    }
  }
  bool finished() {
    const std::lock_guard lock(mutex_);
    return finished_;
  }
  std::deque<RequestOutput> take() {
    const std::lock_guard lock(mutex_);
    return std::move(outputs_);
  }

 private:
  std::mutex mutex_;
  std::deque<RequestOutput> outputs_;
  bool finished_ = false;
};

struct ServiceFixture {
  explicit ServiceFixture(FakeModelOptions options = {},
                          InferenceServiceOptions service_options = {}) {
    model = std::make_shared<FakeServedModel>(std::move(options));
    REQUIRE(host.add(model).ok());
    service = std::make_unique<InferenceService>(&host, &clock, service_options);
  }

  CallContext context() const {
    return {.request_id = "cmpl-1", .tenant = "", .deadline = deadline};
  }
  template <typename Req>
  auto start(Req request, std::shared_ptr<OutputSink> to) {
    return service->start(std::move(request), context(), std::move(to));
  }
  // The call whose last output was seen is kept by nobody: everything must be gone.
  bool nothing_left() {
    return eventually([&] { return service->idle(); }) && model->engine().load().used_blocks == 0 &&
           model->engine().load().running_requests == 0 &&
           model->engine().load().waiting_requests == 0;
  }
  std::shared_ptr<std::promise<void>> block_worker() { return pelton::block_worker(*service); }

  SteadyClock clock;
  TimePoint deadline = TimePoint::max();
  std::shared_ptr<FakeServedModel> model;
  ModelHost host;
  std::unique_ptr<InferenceService> service;
};

inline v1::CompleteRequest ids(int max_tokens) {
  v1::CompleteRequest request;
  for (const char c : {'x', 'y', 'z'}) {
    request.mutable_prompt()->mutable_token_ids()->add_ids(byte_token(c));
  }
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

inline v1::CompleteRequest text(const std::string& prompt, int max_tokens) {
  v1::CompleteRequest request;
  request.mutable_prompt()->set_text(prompt);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

inline v1::ChatRequest chat(const std::string& content, int max_tokens) {
  v1::ChatRequest request;
  v1::ChatMessage* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_content()->set_text(content);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

// What a text becomes: the status of the call, however late it comes.
inline Status outcome(ServiceFixture& f, v1::CompleteRequest request) {
  const auto sink = std::make_shared<CollectingSink>();
  const auto call = f.start(std::move(request), sink);
  if (!call.ok()) return call.status();
  REQUIRE(eventually([&] { return sink->finished() == 1; }));
  return sink->answer((*call)->id()).last.status;
}

}  // namespace pelton
