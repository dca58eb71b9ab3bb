#include "cuda/kernels/attention.h"

#include <algorithm>

#include "tests/cuda/kernels/attention_support.h"

namespace pelton::cuda::test {
namespace {

struct Kinds {
  ElementType type;
  KvType kv;
};
const std::vector<Kinds> kKinds = {
    {ElementType::kBF16, KvType::kBF16},   {ElementType::kF16, KvType::kF16},
    {ElementType::kBF16, KvType::kF8E4M3}, {ElementType::kF16, KvType::kF8E4M3},
    {ElementType::kBF16, KvType::kI8},     {ElementType::kF16, KvType::kI8}};

// The elements of one sequence's new tokens in the output of its case.
std::vector<uint16_t> rows_of(const AttentionCase& c, const AttentionRun& run, int id) {
  const int64_t cols = int64_t{c.num_q_heads} * c.head_dim;
  int64_t first = 0;
  for (const AttentionSequence& s : c.sequences) {
    if (s.id == id) {
      return {run.out.begin() + first * cols, run.out.begin() + (first + s.new_tokens) * cols};
    }
    first += s.new_tokens;
  }
  return {};
}

const AttentionSequence kWhole = {7, 60, 700};

AttentionCase alone(AttentionCase c, const AttentionSequence& sequence) {
  c.sequences = {sequence};
  return c;
}

// From other blocks of another size, beside other sequences.
void check_in_batch(AttentionCase c, const std::vector<uint16_t>& expected) {
  c.table_seed = 9;
  c.block_size = 32;
  c.sequences = {{1, 1, 900}, {2, 30, 30}, kWhole, {3, 1, 5}};
  CHECK(rows_of(c, run_attention(c), kWhole.id) == expected);
}

// Over many blocks of the grid, or (without room for partial results) in one.
void check_split(AttentionCase c, const std::vector<uint16_t>& expected) {
  c.num_sms = 200;
  const AttentionRun split = run_attention(alone(c, kWhole));
  CHECK(split.plan.num_merge > 0);
  CHECK(split.out == expected);
  c.max_partial_rows = 0;
  const AttentionRun whole = run_attention(alone(c, kWhole));
  CHECK(whole.plan.num_merge == 0);
  CHECK(whole.out == expected);
}

// One token a step (decode) and a few (prefill).
void check_chunks(AttentionCase c, const std::vector<uint16_t>& expected) {
  const int64_t cols = int64_t{c.num_q_heads} * c.head_dim;
  const int first = kWhole.length - kWhole.new_tokens;
  for (const int chunk : {1, 9}) {
    for (const int num_sms : {1, 200}) {
      c.num_sms = num_sms;
      for (const int end : {first + chunk, 654, kWhole.length}) {
        const AttentionRun run = run_attention(alone(c, {kWhole.id, chunk, end}));
        CHECK((run.plan.num_prefill == 0) == (chunk == 1));
        const auto at = expected.begin() + (end - chunk - first) * cols;
        CHECK(run.out == std::vector<uint16_t>(at, at + chunk * cols));
      }
    }
  }
}

}  // namespace

TEST_CASE("Attention of a ragged batch matches float64 in every type and head size") {
  for (const Kinds& kinds : kKinds) {
    for (const int head_dim : {16, 64, 80, 128, 256}) {
      AttentionCase c;
      c.type = kinds.type;
      c.kv = kinds.kv;
      c.head_dim = head_dim;
      c.num_q_heads = 4;
      c.num_kv_heads = 2;
      c.sequences = {{0, 1, 1}, {1, 1, 77}, {2, 20, 20}, {3, 0, 50}, {4, 5, 130}, {5, 40, 300}};
      INFO("type " << static_cast<int>(kinds.type) << " kv " << static_cast<int>(kinds.kv)
                   << " head_dim " << head_dim);
      check_attention(c);
    }
  }
}

TEST_CASE("Attention with window softcap and sinks matches float64 at every block size") {
  int index = 0;
  for (const int block_size : {1, 5, 16, 48, 64, 256}) {
    for (const int window : {0, 1, 70, 300}) {
      AttentionCase c;
      c.seed = static_cast<uint64_t>(++index);
      c.table_seed = c.seed;
      c.block_size = block_size;
      c.window = window;
      c.softcap = index % 2 == 0 ? 3 : 0;
      c.sinks = index % 3 == 0;
      c.num_q_heads = 6;
      c.num_kv_heads = 2;
      c.head_dim = 32;
      c.sequences = {{0, 1, 330}, {1, 6, 100}, {2, 30, 290}, {3, 1, 16}};
      INFO("block_size " << block_size << " window " << window);
      check_attention(c);
    }
  }
}

TEST_CASE("Attention matches float64 whatever the number of query heads to a KV head") {
  for (const int group : {1, 2, 3, 7, 16, 17, 40}) {
    AttentionCase c;
    c.num_kv_heads = group == 1 ? 3 : 1;
    c.num_q_heads = group * c.num_kv_heads;
    c.sequences = {{0, 1, 90}, {1, 3, 70}, {2, 1, 400}};
    INFO("group " << group);
    check_attention(c);
  }
}

TEST_CASE("Attention of random shapes matches float64") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    INFO("seed " << seed);
    check_attention(random_case(seed));
  }
}

TEST_CASE("Attention of many random shapes matches float64", "[long]") {
  for (uint64_t seed = 1000; seed < 1300; ++seed) {
    INFO("seed " << seed);
    check_attention(random_case(seed));
  }
}

TEST_CASE("A row's bits depend on its sequence alone") {
  for (const size_t index : {0, 3, 4}) {
    const Kinds& kinds = kKinds[index];
    for (const int head_dim : {64, 128, 256}) {
      if (index > 0 && head_dim == 256) continue;
      AttentionCase c;
      c.type = kinds.type;
      c.kv = kinds.kv;
      c.head_dim = head_dim;
      c.num_q_heads = 4;
      c.num_kv_heads = 2;
      c.sinks = true;
      c.window = head_dim == 64 ? 333 : 0;
      INFO("type " << static_cast<int>(kinds.type) << " kv " << static_cast<int>(kinds.kv)
                   << " head_dim " << head_dim);
      const std::vector<uint16_t> expected = run_attention(alone(c, kWhole)).out;
      check_in_batch(c, expected);
      check_split(c, expected);
      check_chunks(c, expected);
    }
  }
}

TEST_CASE("Sequences without new tokens give no rows and padded ones zeros") {
  AttentionCase c;
  c.sequences = {{0, 0, 0}, {1, 1, 0}, {2, 1, 40}, {3, 0, 300}, {4, 30, 0}, {5, 1, 0}};
  for (const bool sinks : {false, true}) {
    c.sinks = sinks;
    c.pad = sinks;
    const AttentionRun run = run_attention(c);
    for (const int id : {1, 4, 5}) {
      for (const uint16_t bits : rows_of(c, run, id)) REQUIRE(bits == 0);
    }
    CHECK(rows_of(c, run, 2) == run_attention(alone(c, {2, 1, 40})).out);
  }
}

TEST_CASE("Splits that follow the batch match float64 too") {
  AttentionCase c;
  c.batch_invariant = false;
  c.num_sms = 30;
  c.sequences = {{0, 1, 1000}, {1, 2, 300}, {2, 40, 500}, {3, 1, 9}};
  check_attention(c);
}

TEST_CASE("What lies beyond a sequence in its last block is not seen") {
  AttentionCase c;  // what no sequence wrote is NaN in the cache
  c.block_size = 256;
  c.sequences = {{0, 1, 3}, {1, 33, 259}};
  check_attention(c);
}

TEST_CASE("What no kernel exists for is refused") {
  PagedAttentionParams p;
  p.num_q_heads = 4;
  p.scale = 1;
  p.kv.shape = {KvType::kBF16, 16, 2, 64};
  CHECK(paged_attention(p, nullptr) == cudaSuccess);  // and nothing to do
  p.kv.shape.head_dim = 20;
  CHECK(paged_attention(p, nullptr) == cudaErrorInvalidValue);
  p.kv.shape.head_dim = 264;
  CHECK(paged_attention(p, nullptr) == cudaErrorInvalidValue);
  p.kv.shape.head_dim = 64;
  p.kv.shape.type = KvType::kF16;  // beside bf16 activations
  CHECK(paged_attention(p, nullptr) == cudaErrorInvalidValue);
  p.kv.shape.type = KvType::kBF16;
  p.num_q_heads = 5;
  CHECK(paged_attention(p, nullptr) == cudaErrorInvalidValue);
  p.num_q_heads = 4;
  p.scale = 0;
  CHECK(paged_attention(p, nullptr) == cudaErrorInvalidValue);
}

}  // namespace pelton::cuda::test
