#include "tests/support/flood_engine.h"

#include <time.h>

#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "scheduler/engine.h"

namespace pelton {

FloodKnobs& flood_knobs() {
  static FloodKnobs knobs;
  return knobs;
}

class Engine::Impl {
 public:
  Impl(EngineOptions options, const Clock* clock) : options_(std::move(options)), clock_(clock) {}
  ~Impl() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }

  void start() {
    thread_ = std::thread([this] {
      while (!stopping_) {
        const int pause = flood_knobs().step_us;
        const bool worked = !flood_knobs().paused && step();
        if (pause > 0 || !worked) {
          std::this_thread::sleep_for(std::chrono::microseconds(pause > 0 ? pause : 200));
        }
      }
      abort_all();
    });
  }

  Status submit(Request request, std::shared_ptr<OutputSink> sink) {
    const std::lock_guard lock(mutex_);
    if (running_.size() >= static_cast<size_t>(options_.max_waiting_requests)) {
      return overloaded("the queue is full", std::chrono::milliseconds(100));
    }
    Entry entry{std::move(request), std::move(sink), 0, false};
    const uint64_t id = entry.request.id.value;
    running_.emplace(id, std::move(entry));
    return absl::OkStatus();
  }

  void abort(RequestId id) {
    const std::lock_guard lock(mutex_);
    if (const auto found = running_.find(id.value); found != running_.end()) {
      found->second.aborted = true;
    }
  }

  bool step() {
    std::unordered_map<OutputSink*,
                       std::pair<std::shared_ptr<OutputSink>, std::vector<RequestOutput>>>
        outputs;
    {
      const std::lock_guard lock(mutex_);
      if (running_.empty()) return false;
      for (auto at = running_.begin(); at != running_.end();) {
        auto& slot = outputs[at->second.sink.get()];
        slot.first = at->second.sink;
        slot.second.push_back(advance(at->second));
        at = slot.second.back().finished() ? running_.erase(at) : std::next(at);
      }
    }
    for (auto& [key, slot] : outputs) slot.first->deliver(std::move(slot.second));
    timespec used{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    flood_knobs().cpu_seconds = static_cast<double>(used.tv_sec) + 1e-9 * used.tv_nsec;
    return true;
  }

  size_t size() const {
    const std::lock_guard lock(mutex_);
    return running_.size();
  }
  TimePoint now() const { return clock_->now(); }
  int max_model_len() const { return options_.max_model_len; }

 private:
  struct Entry {
    Request request;
    std::shared_ptr<OutputSink> sink;
    int made;
    bool aborted;
  };

  RequestOutput advance(Entry& entry) {
    RequestOutput out;
    out.id = entry.request.id;
    if (entry.aborted || clock_->now() >= entry.request.deadline) {
      out.finish_reason = FinishReason::kAbort;
      if (!entry.aborted) out.status = absl::DeadlineExceededError("deadline");
    } else {
      out.tokens = {entry.made};
      out.text = " token";
      if (++entry.made >= entry.request.params.max_tokens)
        out.finish_reason = FinishReason::kLength;
    }
    out.usage.prompt_tokens = static_cast<int>(entry.request.prompt[0].tokens.size());
    out.usage.completion_tokens = entry.made;
    return out;
  }

  void abort_all() {
    {
      const std::lock_guard lock(mutex_);
      for (auto& [id, entry] : running_) entry.aborted = true;
    }
    step();
  }

  const EngineOptions options_;
  const Clock* const clock_;
  mutable std::mutex mutex_;
  std::map<uint64_t, Entry> running_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

Engine::Engine(EngineOptions options, std::unique_ptr<ModelRunner>, const TextStreamFactory*,
               const Clock* clock)
    : impl_(std::make_unique<Impl>(std::move(options), clock)) {}
Engine::~Engine() = default;
void Engine::start() {
  impl_->start();
}
bool Engine::step() {
  return impl_->step();
}
RequestId Engine::mint_request_id() {
  static std::atomic<uint64_t> last = 0;
  return RequestId(++last);
}
Status Engine::submit(Request request, std::shared_ptr<OutputSink> sink) {
  return impl_->submit(std::move(request), std::move(sink));
}
void Engine::abort(RequestId id) {
  impl_->abort(id);
}
void Engine::drain() {}
bool Engine::idle() const {
  return impl_->size() == 0;
}
Load Engine::load() const {
  Load load;
  load.running_requests = static_cast<int64_t>(impl_->size());
  return load;
}
EngineStats Engine::stats() const {
  return {};
}
KvEventBatch Engine::read_kv_events(KvEventPosition, size_t) const {
  return {};
}
int Engine::max_sequence_tokens() const {
  return impl_->max_model_len();
}
TimePoint Engine::heartbeat() const {
  return impl_->now();
}
Duration Engine::step_allowance() const {
  return Duration::max();
}
Status Engine::health() const {
  return absl::OkStatus();
}

}  // namespace pelton
