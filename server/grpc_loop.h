// One gRPC front-end thread: its completion queue, the streams it owns, and the mailbox through
// which engines and workers hand it their results, with one wake-up however many there are. All
// methods are the loop thread's, unless they say otherwise.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server_builder.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/request.h"
#include "scheduler/engine.h"
#include "server/grpc_limits.h"

namespace pelton {

class RpcStream;
struct GrpcServices;

// What a completion queue's tag points to.
class CompletionTag {
 public:
  virtual void complete(bool ok) = 0;

 protected:
  ~CompletionTag() = default;
};

// Thread-safe. Engines hold it for as long as they have requests of this loop.
class GrpcMailbox final : public OutputSink {
 public:
  using Task = std::function<void()>;
  struct Contents {
    std::vector<std::vector<RequestOutput>> steps;
    std::vector<Task> tasks;
  };

  GrpcMailbox(grpc::CompletionQueue* queue, CompletionTag* tag) : queue_(queue), tag_(tag) {}
  void deliver(std::vector<RequestOutput> outputs) override;
  void post(Task task);  // run on the loop's thread; dropped once the loop has ended

  Contents take();  // on the loop's thread, for each wake-up
  void close();     // nothing is taken any more; the queue may be shut down

 private:
  void wake();  // under the lock

  std::mutex mutex_;
  Contents contents_;
  grpc::CompletionQueue* const queue_;
  CompletionTag* const tag_;
  grpc::Alarm alarm_;
  bool woken_ = false;
  bool closed_ = false;
};

// Takes the outputs of one request.
class OutputReceiver {
 public:
  virtual void on_output(RequestOutput output) = 0;

 protected:
  ~OutputReceiver() = default;
};

class GrpcLoop {
 public:
  // `services` and the server that `service` is registered with outlive it.
  GrpcLoop(const GrpcServices* services, const GrpcLimits& limits,
           grpc::AsyncGenericService* service, std::unique_ptr<grpc::ServerCompletionQueue> queue);
  ~GrpcLoop();
  GrpcLoop(const GrpcLoop&) = delete;
  GrpcLoop& operator=(const GrpcLoop&) = delete;

  void start();  // any thread: begins to accept calls
  // Any thread, after the server was shut down (so that every call is over): ends the thread.
  void stop();
  // Any thread: tells the streams that watch the server's health.
  void health_changed();

  const GrpcServices& services() const { return *services_; }
  const std::shared_ptr<GrpcMailbox>& mailbox() const { return mailbox_; }

  const GrpcLimits& limits() const { return limits_; }

  void accept_one();
  bool overloaded() const;  // more calls than this loop may hold
  // Streams of nobody in particular that wait for their first message: for one too many the one
  // that has waited longest is ended, as who means it sends the message at once.
  void add_waiting(uint64_t stream);
  void remove_waiting(uint64_t stream) { waiting_.erase(stream); }
  void add_receiver(RequestId id, OutputReceiver* receiver) { receivers_[id] = receiver; }
  void remove_receiver(RequestId id) { receivers_.erase(id); }
  // Runs `task` once all outputs of this wake-up are handed out, if the stream still exists then.
  void after_step(uint64_t stream, GrpcMailbox::Task task);
  // False: there are as many as may be.
  bool add_health_watcher(uint64_t stream, std::function<void()> changed);
  void remove_health_watcher(uint64_t stream) { watchers_.erase(stream); }
  RpcStream* find(uint64_t stream);
  void remove(uint64_t stream);  // destroys it

 private:
  struct WakeTag final : CompletionTag {
    explicit WakeTag(GrpcLoop* owner) : loop(owner) {}
    void complete(bool) override { loop->on_wake(); }
    GrpcLoop* loop;
  };
  struct TickTag final : CompletionTag {
    explicit TickTag(GrpcLoop* owner) : loop(owner) {}
    void complete(bool) override { loop->on_tick(); }
    GrpcLoop* loop;
  };
  void run();
  void on_wake();
  void on_tick();  // ends what is overdue
  void set_tick();
  void maybe_close();

  const GrpcServices* const services_;
  const GrpcLimits limits_;
  grpc::AsyncGenericService* const service_;
  const std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  WakeTag wake_tag_{this};
  const std::shared_ptr<GrpcMailbox> mailbox_;
  TickTag tick_tag_{this};
  grpc::Alarm tick_;
  std::unordered_map<uint64_t, std::unique_ptr<RpcStream>> streams_;
  std::unordered_map<RequestId, OutputReceiver*> receivers_;
  std::unordered_map<uint64_t, std::function<void()>> watchers_;
  std::set<uint64_t> waiting_;  // keys grow: the first has waited longest
  std::vector<std::pair<uint64_t, GrpcMailbox::Task>> after_step_;
  uint64_t last_stream_ = 0;
  bool stopping_ = false;
  bool closed_ = false;
  std::thread thread_;
};

}  // namespace pelton
