#include "scheduler/scheduler.h"

#include <map>

#include "scheduler/batch_builder.h"
#include "tests/support/catch.h"

namespace pelton {
namespace {

struct Setup {
  SchedulerOptions options;
  std::vector<int> windows{0};
  std::vector<int> blocks{1000};

  Setup() {
    options.max_model_len = 1000;
    options.max_num_seqs = 8;
    options.max_num_batched_tokens = 32;
  }
};

KvGeometry geometry(const std::vector<int>& windows) {
  KvGeometry geometry;
  geometry.block_size = 4;
  for (const int window : windows) {
    geometry.groups.emplace_back();
    geometry.groups.back().window = window;
  }
  return geometry;
}

struct Driver : Scheduler {
  explicit Driver(const Setup& setup = {})
      : Scheduler(setup.options, geometry(setup.windows), setup.blocks, *BlockHasher::create({})) {}

  SequenceId submit(int prompt_tokens, int max_tokens = 100, int priority = 0) {
    SequenceSpec spec;
    spec.id = SequenceId(++last);
    // No prefix in common.
    spec.prompt.assign(static_cast<size_t>(prompt_tokens), static_cast<TokenId>(last));
    spec.max_tokens = max_tokens;
    spec.priority = priority;
    REQUIRE(add(std::move(spec)).ok());
    return SequenceId(last);
  }
  // A step; tokens computed for each sequence.
  std::map<uint64_t, int> step() {
    std::map<uint64_t, int> counts;
    std::vector<SequenceId> caught_up;
    for (const PlannedRun& run : schedule()) {
      counts[run.sequence->id.value] = run.count;
      if (run.first + run.count == run.sequence->num_tokens()) {
        caught_up.push_back(run.sequence->id);
      }
    }
    REQUIRE(check_integrity().message() == "");
    commit();
    for (const SequenceId id : caught_up) {
      Sequence& s = *find(id);
      expect(s, 0);
      resolve(s, 5);
      if (s.num_tokens() == s.max_total_tokens) remove(id);
    }
    REQUIRE(check_integrity().message() == "");
    return counts;
  }
  uint64_t last = 0;
};

using Given = std::map<uint64_t, int>;

}  // namespace

TEST_CASE("prompts are cut to the work of a step whose contexts cost too") {
  Setup setup;
  setup.options.max_num_batched_tokens = 512;
  setup.options.step_work = 100;
  setup.options.context_per_token = 100;
  Driver d(setup);
  d.submit(700);
  // n (1 + (first + n / 2) / 100) <= 100
  int first = 0;
  while (first < 700) {
    const Given given = d.step();
    const int count = given.at(1);
    const double work = count * (1 + (first + count / 2.0) / 100);
    CHECK(work <= 100);
    if (first + count < 700) CHECK(work > 80);
    first += count;
  }
}

TEST_CASE("a prompt gets on however deep it is and however many decode") {
  Setup setup;
  setup.options.max_num_batched_tokens = 512;
  setup.options.step_work = 4;
  setup.options.context_per_token = 2;
  Driver d(setup);
  for (int i = 0; i < 4; ++i) d.submit(100);
  for (int steps = 0; d.find(SequenceId(4))->num_tokens() == 100; ++steps) {
    REQUIRE(steps < 200);
    d.step();
  }
  d.submit(500);
  d.submit(20);
  const Given given = d.step();
  CHECK(given.at(1) == 1);
  CHECK(given.at(5) == 8);
  CHECK(given.count(6) == 0);
}

TEST_CASE("a long prompt is computed in chunks beside answers that go on") {
  Driver d;
  d.submit(5);
  CHECK(d.step() == Given{{1, 5}});
  d.submit(70);
  CHECK(d.step() == Given{{1, 1}, {2, 31}});
  CHECK(d.step() == Given{{1, 1}, {2, 31}});
  CHECK(d.step() == Given{{1, 1}, {2, 8}});
  CHECK(d.step() == Given{{1, 1}, {2, 1}});
}

TEST_CASE("answers go on even where a prompt of an earlier arrival takes the whole budget") {
  Setup setup;
  setup.options.max_num_seqs = 2;
  Driver d(setup);
  d.submit(100);
  CHECK(d.step() == Given{{1, 32}});
  CHECK(d.step() == Given{{1, 32}});
  CHECK(d.step() == Given{{1, 32}});
  d.submit(10);
  CHECK(d.step() == Given{{1, 4}, {2, 10}});
  CHECK(d.step() == Given{{1, 1}, {2, 1}});
}

TEST_CASE("equals are served in order of arrival and better priorities first") {
  Setup setup;
  setup.options.max_num_seqs = 1;
  Driver d(setup);
  d.submit(3, 1, 1);
  d.submit(3, 1, 1);
  d.submit(3, 1, 0);
  d.submit(3, 1, 1);
  std::vector<uint64_t> order;
  for (int i = 0; i < 4; ++i) order.push_back(d.step().begin()->first);
  CHECK(order == std::vector<uint64_t>{3, 1, 2, 4});
}

TEST_CASE("a better priority takes the seat of a running sequence that then goes on to its end") {
  Setup setup;
  setup.options.max_num_seqs = 1;
  Driver d(setup);
  d.submit(3, 5, 1);
  d.step();
  d.submit(3, 1, 0);
  CHECK(d.step() == Given{{2, 3}});
  CHECK(d.stats().preemptions == 1);
  while (d.num_sequences() > 0) d.step();
}

TEST_CASE("a better priority does not wait for a long prompt to be computed") {
  Driver d;
  d.submit(300, 5, 1);
  CHECK(d.step() == Given{{1, 32}});
  d.submit(10, 5, 0);
  CHECK(d.step() == Given{{1, 22}, {2, 10}});
  d.submit(10, 5, 1);  // an equal does
  CHECK(d.step() == Given{{1, 31}, {2, 1}});
}

TEST_CASE("a stream of better priorities bypasses a sequence at most to the bound") {
  Setup setup;
  setup.options.max_num_seqs = 1;
  setup.options.max_bypass = 6;
  Driver d(setup);
  d.submit(3, 1, 0);
  const SequenceId low = d.submit(3, 1, 9);
  int served = 0;
  while (d.find(low) != nullptr) {
    d.submit(3, 1, 0);
    d.submit(3, 1, 0);
    d.step();
    ++served;
    REQUIRE(served < 20);
  }
  CHECK(served <= 8);
  CHECK(served >= 6);
}

TEST_CASE("a sequence that does not fit is bypassed by smaller ones at most to the bound") {
  Setup setup;
  setup.blocks = {19};
  setup.options.max_bypass = 5;
  Driver d(setup);
  d.submit(8, 60);                           // grows to 17 blocks
  const SequenceId large = d.submit(72, 1);  // 18 blocks
  int before = 0;
  for (int i = 0; i < 200 && d.find(large) != nullptr; ++i) {
    const SequenceId small = d.submit(4, 1);
    d.step();
    if (d.find(large) != nullptr && d.find(large)->state == Sequence::State::kWaiting) {
      before += d.find(small) == nullptr;
    }
  }
  CHECK(d.find(large) == nullptr);
  CHECK(before == 5);
}

TEST_CASE("when blocks run out the lowest rank gives way and is computed again later") {
  Setup setup;
  setup.blocks = {10};
  Driver d(setup);
  const SequenceId first = d.submit(16, 20);
  const SequenceId second = d.submit(16, 20);
  while (d.stats().preemptions == 0) d.step();
  CHECK(d.find(first)->state == Sequence::State::kRunning);
  CHECK(d.find(second)->state == Sequence::State::kWaiting);
  CHECK(d.find(second)->num_computed_tokens == 0);
  CHECK(d.load().waiting_requests == 1);
  while (d.num_sequences() > 0) d.step();
  CHECK(d.kv().used_blocks() == 0);
}

TEST_CASE("no sequence is preempted more often than the bound") {
  Setup setup;
  setup.options.max_num_seqs = 1;
  Driver d(setup);
  const SequenceId low = d.submit(3, 50, 5);
  d.step();
  int most = 0;
  for (int i = 0; i < 40; ++i) {
    d.submit(3, 1, 0);
    d.step();
    d.step();
    if (d.find(low) != nullptr) most = std::max(most, d.find(low)->preemptions);
  }
  CHECK(most == 4);
}

TEST_CASE("deadlines are told in order and once passed") {
  Driver d;
  for (int i = 1; i <= 3; ++i) {
    SequenceSpec spec;
    spec.id = SequenceId(static_cast<uint64_t>(i));
    spec.prompt = {1, 2};
    spec.deadline = TimePoint(std::chrono::seconds(4 - i));
    REQUIRE(d.add(std::move(spec)).ok());
  }
  CHECK(d.expired(TimePoint(std::chrono::milliseconds(999))).empty());
  CHECK(d.expired(TimePoint(std::chrono::seconds(2))) ==
        std::vector<SequenceId>{SequenceId(3), SequenceId(2)});
  CHECK(d.remove(SequenceId(3)));
  CHECK(d.expired(TimePoint(std::chrono::seconds(2))) == std::vector<SequenceId>{SequenceId(2)});
}

TEST_CASE("a sequence removed while its step is in flight leaves its blocks pending until commit") {
  Driver d;
  const SequenceId id = d.submit(10);
  const StepPlan& plan = d.schedule();
  CHECK(d.remove(id));
  CHECK(plan[0].sequence->state == Sequence::State::kFinished);
  CHECK(d.kv().pool(0).num_pending() == 3);
  CHECK(d.kv().pool(0).num_owned() == 0);
  d.commit();
  CHECK(d.kv().pool(0).num_free() == 1000);
  CHECK(d.kv().prefix_cache(0).size() == 0);  // never written, never visible
}

TEST_CASE("what waits counts its tokens that no cache holds") {
  Setup setup;
  setup.options.max_num_seqs = 1;
  Driver d(setup);
  SequenceSpec spec;
  spec.id = SequenceId(900);
  spec.prompt.assign(21, 7);
  REQUIRE(d.add(spec).ok());
  CHECK(d.load().waiting_uncached_tokens == 21);
  d.step();
  CHECK(d.load().waiting_uncached_tokens == 0);
  CHECK(d.load().used_blocks == 6);
  spec.id = SequenceId(901);
  REQUIRE(d.add(spec).ok());
  CHECK(d.load().waiting_uncached_tokens == 1);
  d.remove(SequenceId(901));
  CHECK(d.load().waiting_uncached_tokens == 0);
  CHECK(d.load().waiting_requests == 0);
}

TEST_CASE("a batch lists tokens and slots and tables as the kernels read them") {
  Setup setup;
  setup.windows = {0, 5};
  setup.blocks = {50, 50};
  Driver d(setup);
  d.submit(13);
  d.step();
  SequenceSpec spec;
  spec.id = SequenceId(77);
  spec.prompt = {1, 2, 3, 4, 5, 6};
  spec.adapter = AdapterId(3);
  spec.score_prompt = true;
  REQUIRE(d.add(std::move(spec)).ok());
  const StepPlan& plan = d.schedule();
  StepBatch out;
  build_batch(plan, 2, 4, out);
  const Batch& b = out.batch;
  CHECK(b.tokens == std::vector<TokenId>{5, 1, 2, 3, 4, 5, 6});
  CHECK(b.positions == std::vector<int32_t>{13, 0, 1, 2, 3, 4, 5});
  CHECK(b.query_start_loc == std::vector<int32_t>{0, 1, 7});
  CHECK(b.seq_lens == std::vector<int32_t>{14, 6});
  CHECK(b.logit_rows == std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6});
  CHECK(b.adapters == std::vector<AdapterId>{AdapterId(0), AdapterId(3)});
  REQUIRE(b.kv.size() == 2);
  CHECK(b.kv[0].max_blocks_per_seq == 4);
  CHECK(b.kv[0].block_tables == std::vector<int32_t>{0, 1, 2, 3, 4, 5, -1, -1});
  CHECK(b.kv[0].slot_mapping == std::vector<int32_t>{13, 16, 17, 18, 19, 20, 21});
  // The window of five at position 13 begins at 9: two blocks are gone.
  CHECK(b.kv[1].block_tables[0] == -1);
  CHECK(b.kv[1].block_tables[1] == -1);
  CHECK(b.kv[1].block_tables[2] == 2);
  CHECK(out.rows[0].draws);
  CHECK_FALSE(out.rows[1].draws);
  CHECK(out.rows[5].position == 4);
  CHECK(out.rows[6].draws);
  d.commit();
}

}  // namespace pelton
