#include "scheduler/engine.h"

#include <atomic>
#include <thread>
#include <utility>

#include "core/check.h"
#include "scheduler/engine_inbox.h"
#include "scheduler/engine_loop.h"
#include "scheduler/request_check.h"

namespace pelton {
namespace {

StatusOr<std::unique_ptr<BlockHasher>> make_hasher(bool wanted) {
  if (!wanted) return std::unique_ptr<BlockHasher>();
  PELTON_ASSIGN_OR_RETURN(const BlockHasher::Key key, BlockHasher::random_key());
  return BlockHasher::create(key);
}

}  // namespace

class Engine::Impl {
 public:
  Impl(EngineOptions options, std::unique_ptr<ModelRunner> runner, const TextStreamFactory* text,
       const Clock* clock, StatusOr<std::unique_ptr<BlockHasher>> hasher)
      : inbox_(options.max_waiting_requests, clock),
        loop_(std::move(options), std::move(runner), text, clock,
              hasher.ok() ? *std::move(hasher) : nullptr, &inbox_) {
    if (!hasher.ok()) inbox_.fail(hasher.status());
  }
  ~Impl() {
    inbox_.stop();
    if (thread_.joinable()) thread_.join();
    loop_.end_all();
  }

  void start();
  Status submit(Request request, std::shared_ptr<OutputSink> sink);

  EngineLoop& loop() { return loop_; }
  EngineInbox& inbox() { return inbox_; }

 private:
  EngineInbox inbox_;
  EngineLoop loop_;
  std::thread thread_;
};

void Engine::Impl::start() {
  PELTON_CHECK(!thread_.joinable(), "the engine runs already");
  thread_ = std::thread([this] {
    if (loop_.options().on_start) loop_.options().on_start();
    while (inbox_.wait()) {
      while (loop_.step() && !inbox_.stopped()) {
      }
    }
  });
}

Status Engine::Impl::submit(Request request, std::shared_ptr<OutputSink> sink) {
  int64_t prompt_tokens = 0;
  for (const PromptSpan& span : request.prompt) {
    prompt_tokens += static_cast<int64_t>(span.tokens.size());
  }
  PELTON_RETURN_IF_ERROR(loop_.scheduler().check_prompt(prompt_tokens));
  PELTON_RETURN_IF_ERROR(
      check_request(request, loop_.runner().vocab_size(), loop_.options().eos_token_ids));
  return inbox_.submit(std::move(request), std::move(sink));
}

Engine::Engine(EngineOptions options, std::unique_ptr<ModelRunner> runner,
               const TextStreamFactory* text, const Clock* clock) {
  const bool caching = options.enable_prefix_caching;
  impl_ = std::make_unique<Impl>(std::move(options), std::move(runner), text, clock,
                                 make_hasher(caching));
}
Engine::~Engine() = default;

void Engine::start() {
  impl_->start();
}
bool Engine::step() {
  return impl_->loop().step();
}
RequestId Engine::mint_request_id() {
  // Unique in the process, as core/ids.h says: a front end's map holds requests of all engines.
  static std::atomic<uint64_t> next{1};
  return RequestId(next.fetch_add(1, std::memory_order_relaxed));
}
Status Engine::submit(Request request, std::shared_ptr<OutputSink> sink) {
  return impl_->submit(std::move(request), std::move(sink));
}
void Engine::abort(RequestId id) {
  impl_->inbox().abort(id);
}
void Engine::drain() {
  impl_->inbox().drain();
}
void Engine::end_all(Status status) {
  impl_->inbox().end_all(std::move(status));
}
bool Engine::idle() const {
  return impl_->inbox().idle();
}
Load Engine::load() const {
  return impl_->inbox().load();
}
EngineStats Engine::stats() const {
  return impl_->inbox().stats();
}
KvEventBatch Engine::read_kv_events(KvEventPosition at, size_t max) const {
  return impl_->loop().scheduler().kv().events().read(at, max);
}
int Engine::max_sequence_tokens() const {
  return impl_->loop().scheduler().max_sequence_tokens();
}
TimePoint Engine::heartbeat() const {
  return impl_->inbox().heartbeat();
}
Duration Engine::step_allowance() const {
  return impl_->loop().step_bound().allowance();
}
Status Engine::health() const {
  return impl_->inbox().health();
}

}  // namespace pelton
