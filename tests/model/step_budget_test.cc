#include "model/step_budget.h"

#include "tests/support/catch.h"
#include "tests/support/fake_clock.h"

namespace pelton {
namespace {

// Takes the time that a model of these rates would.
class TimedRunner final : public ModelRunner {
 public:
  TimedRunner(FakeClock& clock, double per_token, double per_token_and_context, int blocks = 1000)
      : clock_(clock),
        per_token_(per_token),
        per_context_(per_token_and_context),
        num_blocks_({blocks, blocks}) {
    geometry_.block_size = 16;
    geometry_.groups.resize(2);
  }
  int vocab_size() const override { return 100; }
  const KvGeometry& kv_geometry() const override { return geometry_; }
  const std::vector<int>& num_blocks() const override { return num_blocks_; }

  Status forward(const Batch& batch) override {
    const int tokens = batch.num_tokens();
    REQUIRE(batch.kv.size() == 2);
    for (const GroupBatch& group : batch.kv) {
      REQUIRE(group.slot_mapping.size() == batch.tokens.size());
      for (const int32_t slot : group.slot_mapping) REQUIRE(slot < num_blocks_[0] * 16);
      REQUIRE(group.block_tables.size() == static_cast<size_t>(group.max_blocks_per_seq));
      REQUIRE(group.max_blocks_per_seq * 16 >= batch.seq_lens[0]);
    }
    const double seconds =
        tokens * per_token_ + per_context_ * tokens * static_cast<double>(batch.positions[0]);
    clock_.advance(std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds)));
    longest = std::max(longest, seconds);
    return error;
  }
  Status sample(std::span<const SampleRow> rows) override {
    REQUIRE(rows.size() == 1);
    return absl::OkStatus();
  }
  StatusOr<std::vector<SampledToken>> collect() override { return std::vector<SampledToken>(1); }

  double longest = 0;
  Status error;

 private:
  FakeClock& clock_;
  double per_token_, per_context_;
  KvGeometry geometry_;
  std::vector<int> num_blocks_;
};

}  // namespace

TEST_CASE("the step's budget is what a tenth of a second computes less a margin") {
  FakeClock clock;
  TimedRunner runner(clock, 0.001, 1e-6);
  const auto budget =
      measure_step_budget(runner, {.max_tokens = 2048, .max_model_len = 8192}, clock);
  REQUIRE(budget.ok());
  CHECK(budget->work == 90);
  CHECK(budget->tokens_per_second == Approx(1000));
  CHECK(budget->context_per_token == Approx(1000).epsilon(0.01));
}

TEST_CASE("a slow model is judged by few tokens") {
  FakeClock clock;
  TimedRunner runner(clock, 0.02, 0);
  const auto budget =
      measure_step_budget(runner, {.max_tokens = 2048, .max_model_len = 8192}, clock);
  REQUIRE(budget.ok());
  CHECK(budget->work == 4);
  CHECK(budget->context_per_token == 0);
  CHECK(runner.longest <= 0.33);
}

TEST_CASE("the probe stays within small contexts and steps and caches") {
  for (const auto& [max_tokens, len, blocks] :
       {std::tuple{1, 4096, 1000}, {2048, 2, 1000}, {2048, 4096, 1}, {40, 100, 5}}) {
    FakeClock clock;
    TimedRunner runner(clock, 0.001, 0, blocks);
    const auto budget =
        measure_step_budget(runner, {.max_tokens = max_tokens, .max_model_len = len}, clock);
    REQUIRE(budget.ok());
    CHECK(budget->work == 90);
  }
}

TEST_CASE("an error of the device while its rate is measured is the load's") {
  FakeClock clock;
  TimedRunner runner(clock, 0.001, 0);
  runner.error = absl::InternalError("lost");
  CHECK(!measure_step_budget(runner, {.max_tokens = 64, .max_model_len = 64}, clock).ok());
}

}  // namespace pelton
