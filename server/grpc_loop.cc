#include "server/grpc_loop.h"

#include <grpc/support/time.h>

#include <chrono>
#include <utility>

#include "server/grpc_stream.h"

namespace pelton {
namespace {

constexpr int kAcceptsInWait = 16;

}  // namespace

void GrpcMailbox::deliver(std::vector<RequestOutput> outputs) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  contents_.steps.push_back(std::move(outputs));
  wake();
}

void GrpcMailbox::post(Task task) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  contents_.tasks.push_back(std::move(task));
  wake();
}

void GrpcMailbox::wake() {
  if (woken_) return;
  woken_ = true;
  // The infinite past: "now" would be rounded up to the next millisecond.
  alarm_.Set(queue_, gpr_inf_past(GPR_CLOCK_MONOTONIC), tag_);
}

GrpcMailbox::Contents GrpcMailbox::take() {
  const std::lock_guard lock(mutex_);
  woken_ = false;
  return std::exchange(contents_, {});
}

void GrpcMailbox::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  contents_ = {};
}

GrpcLoop::GrpcLoop(const GrpcServices* services, const GrpcLimits& limits,
                   grpc::AsyncGenericService* service,
                   std::unique_ptr<grpc::ServerCompletionQueue> queue)
    : services_(services),
      limits_(limits),
      service_(service),
      queue_(std::move(queue)),
      mailbox_(std::make_shared<GrpcMailbox>(queue_.get(), &wake_tag_)) {}

GrpcLoop::~GrpcLoop() {
  if (thread_.joinable()) thread_.join();
}

void GrpcLoop::start() {
  thread_ = std::thread([this] { run(); });
}

void GrpcLoop::stop() {
  mailbox_->post([this] {
    stopping_ = true;
    maybe_close();
  });
}

void GrpcLoop::health_changed() {
  mailbox_->post([this] {
    for (const auto& [stream, changed] : watchers_) changed();
  });
}

void GrpcLoop::after_step(uint64_t stream, GrpcMailbox::Task task) {
  after_step_.emplace_back(stream, std::move(task));
}

bool GrpcLoop::add_health_watcher(uint64_t stream, std::function<void()> changed) {
  if (watchers_.size() >= limits_.watchers) return false;
  watchers_[stream] = std::move(changed);
  return true;
}

void GrpcLoop::add_waiting(uint64_t stream) {
  waiting_.insert(stream);
  if (waiting_.size() <= limits_.waiting_without_key) return;
  RpcStream* oldest = find(*waiting_.begin());
  waiting_.erase(waiting_.begin());
  if (oldest != nullptr) {
    oldest->finish(
        pelton::overloaded("too many calls wait for their message", std::chrono::seconds(1)));
  }
}

void GrpcLoop::accept_one() {
  const uint64_t key = ++last_stream_;
  auto stream = std::make_unique<RpcStream>(this, key);
  RpcStream* raw = stream.get();
  streams_.emplace(key, std::move(stream));
  raw->accept(service_, queue_.get());
}

bool GrpcLoop::overloaded() const {
  return streams_.size() > limits_.streams;
}

RpcStream* GrpcLoop::find(uint64_t stream) {
  const auto found = streams_.find(stream);
  return found == streams_.end() ? nullptr : found->second.get();
}

void GrpcLoop::remove(uint64_t stream) {
  waiting_.erase(stream);
  streams_.erase(stream);
  maybe_close();
}

// The mailbox first: an alarm must not be set on a queue that is shut down.
void GrpcLoop::maybe_close() {
  if (!stopping_ || closed_ || !streams_.empty()) return;
  closed_ = true;
  mailbox_->close();
  tick_.Cancel();
  queue_->Shutdown();
}

void GrpcLoop::set_tick() {
  const auto interval =
      std::chrono::duration_cast<std::chrono::milliseconds>(limits_.check_interval);
  tick_.Set(queue_.get(),
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                         gpr_time_from_millis(interval.count(), GPR_TIMESPAN)),
            &tick_tag_);
}

void GrpcLoop::on_tick() {
  if (closed_) return;
  const TimePoint now = std::chrono::steady_clock::now();
  for (const auto& [key, stream] : streams_) stream->end_if_overdue(now);
  set_tick();
}

void GrpcLoop::run() {
  set_tick();
  for (int i = 0; i < kAcceptsInWait; ++i) accept_one();
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) static_cast<CompletionTag*>(tag)->complete(ok);
}

void GrpcLoop::on_wake() {
  GrpcMailbox::Contents contents = mailbox_->take();
  for (std::vector<RequestOutput>& step : contents.steps) {
    for (RequestOutput& output : step) {
      // Those whose client has left have no receiver any more.
      const auto found = receivers_.find(output.id);
      if (found != receivers_.end()) found->second->on_output(std::move(output));
    }
  }
  for (const auto& [stream, task] : std::exchange(after_step_, {})) {
    if (find(stream) != nullptr) task();
  }
  for (const GrpcMailbox::Task& task : contents.tasks) task();
}

}  // namespace pelton
