#include "cuda/kernels/attention_plan.h"

#include <algorithm>
#include <map>

#include "core/random.h"
#include "tests/support/catch.h"

namespace pelton::cuda::test {
namespace {

struct Work {
  AttentionShape shape;
  std::vector<int32_t> starts = {0};
  std::vector<int32_t> lengths = {};
  int max_blocks = 100;

  void add(int new_tokens, int length) {
    starts.push_back(starts.back() + new_tokens);
    lengths.push_back(length);
  }
  AttentionPlan plan(bool pad = false) const {
    AttentionPlan out;
    plan_attention(shape, {starts, lengths, max_blocks, pad}, out);
    return out;
  }
};

AttentionShape shape_of(int group, int kv_heads, int num_sms) {
  AttentionShape shape;
  shape.num_q_heads = group * kv_heads;
  shape.num_kv_heads = kv_heads;
  shape.head_dim = 128;
  shape.num_sms = num_sms;
  shape.max_partial_rows = 1 << 20;
  return shape;
}

Work random_work(uint64_t seed) {
  int index = 0;
  const auto draw = [&](int low, int high) {
    const auto span = static_cast<float>(high - low + 1);
    return std::min(high, low + static_cast<int>(counter_uniform(seed, index++, 1) * span));
  };
  Work work;
  work.shape = shape_of(draw(1, 20), draw(1, 8), draw(1, 200));
  work.shape.window = draw(0, 1) == 0 ? draw(1, 3000) : 0;
  work.shape.batch_invariant = draw(0, 1) == 0;
  work.shape.head_dim = draw(0, 1) == 0 ? 256 : 64;
  work.shape.max_partial_rows = draw(0, 1) == 0 ? draw(0, 3000) : 1 << 20;
  const int count = draw(0, 30);
  for (int i = 0; i < count; ++i) {
    const int length = draw(0, 4) == 0 ? draw(1, 20000) : draw(1, 900);
    work.add(draw(0, 2) == 0 ? std::min(length, draw(0, 700)) : 1, length);
  }
  return work;
}

// Each row of q and each tile of positions that it sees belong to one item, whose partial results
// have a place of their own and are merged in order, or which writes the row itself.
void check_plan(const Work& work, const AttentionPlan& plan) {
  const int group = work.shape.num_q_heads / work.shape.num_kv_heads;
  REQUIRE(plan.num_decode + plan.num_prefill + plan.num_merge ==
          static_cast<int>(plan.items.size()));
  REQUIRE(plan.partial_rows <= work.shape.max_partial_rows);
  std::map<std::pair<int, int>, std::map<int, int>> partial_of;  // (token, row): split: partial
  std::map<std::pair<int, int>, int> direct;
  std::map<int, int> used;
  for (int i = 0; i < plan.num_decode + plan.num_prefill; ++i) {
    const AttentionItem& item = plan.items[i];
    if (i < plan.num_decode) REQUIRE(item.rows <= kDecodeTileRows);
    const int step = i < plan.num_decode
                         ? kDecodeTileRows
                         : (work.shape.head_dim > 128 ? kWideHeadTileRows : kPrefillTileRows);
    REQUIRE(item.rows <= step);
    for (int row = item.first_row; row < item.first_row + item.rows; ++row) {
      if (item.partial < 0) {
        REQUIRE(++direct[{item.token, row}] == 1);
        continue;
      }
      for (int split = item.first_split; split < item.end_split; ++split) {
        const int place =
            item.partial + (split - item.first_split) * item.rows + row - item.first_row;
        REQUIRE(place < plan.partial_rows);
        REQUIRE(++used[place] == 1);
        REQUIRE(partial_of[{item.token, row}].emplace(split, place).second);
      }
    }
  }
  for (size_t i = plan.num_decode + plan.num_prefill; i < plan.items.size(); ++i) {
    const AttentionItem& item = plan.items[i];
    if (item.rows == 0) continue;
    const auto found = partial_of.find({item.token, item.first_row});
    REQUIRE(found != partial_of.end());
    REQUIRE(found->second.size() == static_cast<size_t>(item.end_split - item.first_split));
    for (const auto& [split, place] : found->second) {
      REQUIRE(place == item.partial + (split - item.first_split) * item.rows);
    }
    REQUIRE(++direct[{item.token, item.first_row}] == 1);
  }
  size_t rows = 0;
  for (size_t seq = 0; seq < work.lengths.size(); ++seq) {
    rows += static_cast<size_t>(work.starts[seq + 1] - work.starts[seq]) * group;
  }
  REQUIRE(direct.size() == rows);
}

}  // namespace

TEST_CASE("Every row and split of a plan is computed once and merged in order") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    const Work work = random_work(seed);
    for (const bool pad : {false, true}) {
      const AttentionPlan plan = work.plan(pad);
      check_plan(work, plan);
      CHECK(static_cast<int>(plan.items.size()) <=
            max_attention_items(work.shape, static_cast<int>(work.lengths.size()),
                                work.starts.back()));
    }
  }
}

TEST_CASE("The size of a padded plan does not depend on the lengths") {
  Work a{shape_of(4, 8, 132)}, b = a;
  for (int i = 0; i < 20; ++i) {
    a.add(1, 3);
    b.add(1, i == 7 ? 100000 : 700 * i);
  }
  const AttentionPlan short_plan = a.plan(true), long_plan = b.plan(true);
  CHECK(short_plan.num_decode == long_plan.num_decode);
  CHECK(short_plan.num_merge == long_plan.num_merge);
  CHECK(short_plan.num_prefill == 0);
  CHECK(long_plan.num_prefill == 0);
  CHECK(a.plan().num_merge == 0);
  CHECK(b.plan().num_merge > 0);
}

TEST_CASE("One long sequence is spread over the card and a full batch is not split") {
  Work one{shape_of(4, 8, 132)};
  one.add(1, 32000);
  CHECK(one.plan().num_decode * 8 >= 2 * 132);
  CHECK(one.plan().num_decode * 8 <= 4 * 132);
  Work many{shape_of(4, 8, 132)};
  for (int i = 0; i < 256; ++i) many.add(1, 1024);
  CHECK(many.plan().num_decode == 256);
  CHECK(many.plan().num_merge == 0);
  many.add(1, 120000);  // the one long sequence among many is still cut
  CHECK(many.plan().num_merge > 0);
}

TEST_CASE("A plan stays within the workspace") {
  Work work{shape_of(4, 1, 132)};
  work.shape.max_partial_rows = 100;
  for (int i = 0; i < 3; ++i) work.add(1, 5000);  // 80 rows each
  const AttentionPlan plan = work.plan();
  CHECK(plan.partial_rows == 80);
  check_plan(work, plan);
  CHECK(wanted_partial_rows(15000, 3) >= 3 * 80);
}

}  // namespace pelton::cuda::test
