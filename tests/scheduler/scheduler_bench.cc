// Not a test: how long scheduling takes. Run by hand: scheduler_test "[bench]".
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "scheduler/batch_builder.h"
#include "scheduler/engine.h"
#include "scheduler/scheduler.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

void bench(int sequences, int prompt_tokens, std::vector<int> windows) {
  SchedulerOptions options;
  options.max_model_len = 8192;
  options.max_num_seqs = sequences;
  options.max_num_batched_tokens = 2048;
  KvGeometry geometry;
  std::vector<int> blocks;
  for (const int window : windows) {
    geometry.groups.emplace_back();
    geometry.groups.back().window = window;
    blocks.push_back(sequences * 8192 / geometry.block_size);
  }
  Scheduler scheduler(options, geometry, blocks, *BlockHasher::create({}));
  for (int i = 0; i < sequences; ++i) {
    SequenceSpec spec;
    spec.id = SequenceId(static_cast<uint64_t>(i));
    spec.prompt.assign(static_cast<size_t>(prompt_tokens + i % 32), i);
    spec.max_tokens = 4096;
    REQUIRE(scheduler.add(std::move(spec)).ok());
  }
  StepBatch batch;
  std::vector<double> plan_us;
  std::vector<double> batch_us;
  std::vector<double> update_us;
  for (int step = 0; step < 2000; ++step) {
    const auto t0 = std::chrono::steady_clock::now();
    const StepPlan& plan = scheduler.schedule();
    const auto t1 = std::chrono::steady_clock::now();
    build_batch(plan, scheduler.kv().num_groups(), geometry.block_size, batch);
    const auto t2 = std::chrono::steady_clock::now();
    const size_t planned = plan.size();
    scheduler.commit();
    for (const LogitRow& row : batch.rows) {
      scheduler.expect(*row.sequence, 0);
      scheduler.resolve(*row.sequence, 1);
    }
    const auto t3 = std::chrono::steady_clock::now();
    // Decode steps alone: the steady state.
    if (batch.batch.num_tokens() != sequences || planned != static_cast<size_t>(sequences))
      continue;
    const auto us = [](auto from, auto to) {
      return std::chrono::duration<double, std::micro>(to - from).count();
    };
    plan_us.push_back(us(t0, t1));
    batch_us.push_back(us(t1, t2));
    update_us.push_back(us(t2, t3));
  }
  const auto at = [](std::vector<double>& v, double part) {
    std::sort(v.begin(), v.end());
    return v[static_cast<size_t>(part * static_cast<double>(v.size() - 1))];
  };
  std::printf(
      "%4d sequences, %5d tokens, %zu groups: schedule %.1f, batch %.1f, update %.1f us "
      "(p50); %.1f, %.1f, %.1f us (p99)\n",
      sequences, prompt_tokens, windows.size(), at(plan_us, 0.5), at(batch_us, 0.5),
      at(update_us, 0.5), at(plan_us, 0.99), at(batch_us, 0.99), at(update_us, 0.99));
}

// Answers at once, so that a step's time is the engine's own.
class InstantRunner : public ModelRunner {
 public:
  explicit InstantRunner(int blocks) : num_blocks_{blocks} { geometry_.groups.emplace_back(); }
  int vocab_size() const override { return 100; }
  const KvGeometry& kv_geometry() const override { return geometry_; }
  const std::vector<int>& num_blocks() const override { return num_blocks_; }
  Status forward(const Batch&) override { return absl::OkStatus(); }
  Status sample(std::span<const SampleRow> rows) override {
    sampled_.assign(rows.size(), {});
    return absl::OkStatus();
  }
  StatusOr<std::vector<SampledToken>> collect() override { return std::move(sampled_); }

 private:
  KvGeometry geometry_;
  std::vector<int> num_blocks_;
  std::vector<SampledToken> sampled_;
};

class NullSink : public OutputSink {
 public:
  void deliver(std::vector<RequestOutput>) override {}
};

void bench_engine(int sequences) {
  EngineOptions options;
  options.max_model_len = 8192;
  options.max_num_seqs = sequences;
  SteadyClock clock;
  Engine engine(options, std::make_unique<InstantRunner>(sequences * 256), nullptr, &clock);
  auto sink = std::make_shared<NullSink>();
  for (int i = 0; i < sequences; ++i) {
    Request request;
    request.id = engine.mint_request_id();
    request.prompt.push_back({std::vector<TokenId>(512, i % 100)});
    request.params.max_tokens = 4096;
    REQUIRE(engine.submit(std::move(request), sink).ok());
  }
  std::vector<double> step_us;
  for (int step = 0; step < 2000; ++step) {
    const auto from = std::chrono::steady_clock::now();
    engine.step();
    const std::chrono::duration<double, std::micro> us = std::chrono::steady_clock::now() - from;
    if (step > 200) step_us.push_back(us.count());
  }
  std::sort(step_us.begin(), step_us.end());
  std::printf("%4d sequences: a whole engine step without model %.1f us (p50), %.1f us (p99)\n",
              sequences, step_us[step_us.size() / 2], step_us[step_us.size() * 99 / 100]);
}

void bench_hash() {
  auto hasher = *BlockHasher::create({});
  const std::vector<TokenId> tokens(32, 7);
  BlockHash hash = hasher->root("tenant", {});
  const auto from = std::chrono::steady_clock::now();
  for (int i = 0; i < 100000; ++i) hash = hasher->block(hash, tokens);
  const std::chrono::duration<double, std::micro> us = std::chrono::steady_clock::now() - from;
  std::printf("a block hash of 32 tokens %.2f us (%02x)\n", us.count() / 100000, hash.bytes[0]);
}

}  // namespace

TEST_CASE("time of a scheduling step", "[.][bench][long]") {
  bench(32, 512, {0});
  bench(256, 512, {0});
  bench(256, 2048, {0});
  bench(256, 512, {0, 512});
  bench_engine(32);
  bench_engine(256);
  bench_hash();
}

}  // namespace pelton
