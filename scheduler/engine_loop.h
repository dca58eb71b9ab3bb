// What the engine's thread does: one step after the other over all requests that are in. Everything
// here is that thread's; the inbox, which it shares with those who submit, is owned by the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/clock.h"
#include "core/status.h"
#include "model/model_runner.h"
#include "scheduler/batch_builder.h"
#include "scheduler/engine.h"
#include "scheduler/engine_inbox.h"
#include "scheduler/engine_request.h"
#include "scheduler/scheduler.h"
#include "scheduler/step_bound.h"

namespace pelton {

class EngineLoop {
 public:
  // `text` may be null; all pointers outlive the loop. A null hasher: no prefix cache.
  EngineLoop(EngineOptions options, std::unique_ptr<ModelRunner> runner,
             const TextStreamFactory* text, const Clock* clock, std::unique_ptr<BlockHasher> hasher,
             EngineInbox* inbox);

  // As Engine::step().
  bool step();
  // Ends whatever is still in, and delivers that.
  void end_all();

  // What these tell for other threads is said where they are declared.
  const ModelRunner& runner() const { return *runner_; }
  const Scheduler& scheduler() const { return scheduler_; }
  const StepBound& step_bound() const { return step_bound_; }
  const EngineOptions& options() const { return options_; }

 private:
  // Whose a row of a sample() in flight is. A request outlives its rows; its sequence does not
  // where the request has ended.
  struct DrawnRow {
    EngineRequest* request;
    Sequence* sequence;
    bool draws;  // otherwise it scores a prompt token
  };

  void take_mail();
  void admit(EngineInbox::Submission submission);
  void end_expired();
  void advance();
  Status launch(const StepPlan& plan);
  Status sample();
  Status finish();
  void note_scheduled(const StepPlan& plan);
  void make_rows();
  void take_row(const DrawnRow& row, SampledToken sampled, TimePoint now);
  void end(EngineRequest& request, FinishReason reason, Status status);
  void settle(EngineRequest& request, bool touched = false);
  void end_each(FinishReason reason, const Status& status);
  void fail_all(const Status& cause);
  void deliver();
  void publish();
  void learn_rate(double work, double seconds);  // of a step that is done

  const EngineOptions options_;
  const std::unique_ptr<ModelRunner> runner_;
  const TextStreamFactory* const text_;
  const Clock* const clock_;
  const bool overlap_;
  EngineInbox* const inbox_;
  Scheduler scheduler_;
  StepBound step_bound_;
  std::unordered_map<RequestId, std::unique_ptr<EngineRequest>> requests_;
  EngineStats stats_;
  Status failure_;  // of the device; final
  StepBatch step_;
  std::vector<SampleRow> sample_rows_;   // of the last sample()
  std::vector<DrawnRow> rows_;           // [sample_rows_]
  bool in_flight_ = false;               // that sample() is not collected yet
  int64_t work_ = 0;                     // of the step enqueued last
  std::vector<EngineRequest*> touched_;  // have output in this step
  std::vector<RequestId> ended_;         // in this step
};

}  // namespace pelton
