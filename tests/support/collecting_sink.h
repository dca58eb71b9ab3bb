// Gathers the outputs of requests, and what breaks the contract of delivery: an output after the
// end, a second end. Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "scheduler/engine.h"

namespace pelton {

class CollectingSink : public OutputSink {
 public:
  struct Answer {
    std::vector<TokenId> tokens;
    std::string text;
    std::vector<PositionLogprobs> logprobs;
    std::vector<PositionLogprobs> prompt_logprobs;
    int outputs = 0;
    RequestOutput last;  // of the last output
  };

  void deliver(std::vector<RequestOutput> outputs) override {
    const std::lock_guard lock(mutex_);
    ++deliveries_;
    for (RequestOutput& output : outputs) {
      Answer& answer = answers_[output.id];
      faults_ += answer.last.finished();  // something after the end
      answer.tokens.insert(answer.tokens.end(), output.tokens.begin(), output.tokens.end());
      answer.text += output.text;
      for (auto& l : output.logprobs) answer.logprobs.push_back(std::move(l));
      for (auto& l : output.prompt_logprobs) answer.prompt_logprobs.push_back(std::move(l));
      ++answer.outputs;
      finished_ += output.finished();
      answer.last = std::move(output);
    }
  }

  Answer answer(RequestId id) const {
    const std::lock_guard lock(mutex_);
    const auto found = answers_.find(id);
    return found == answers_.end() ? Answer() : found->second;
  }
  int finished() const {
    const std::lock_guard lock(mutex_);
    return finished_;
  }
  int deliveries() const {
    const std::lock_guard lock(mutex_);
    return deliveries_;
  }
  int faults() const {
    const std::lock_guard lock(mutex_);
    return faults_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<RequestId, Answer> answers_;
  int finished_ = 0;
  int deliveries_ = 0;
  int faults_ = 0;
};

}  // namespace pelton
