#include "model/kv_budget.h"

#include "tests/support/catch.h"

namespace pelton {
namespace {

ModelConfig gemma_like() {
  ModelConfig config;
  config.num_layers = 6;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.sliding_window = 512;
  config.window_layer = {1, 1, 0, 1, 1, 0};
  return config;
}

KvGeometry one_kib_a_token() {
  return {.block_size = 16,
          .groups = {{.layers = {0, 1}, .num_kv_heads = 2, .head_dim = 32, .dtype = DType::kF32}}};
}

}  // namespace

TEST_CASE("Window layers and full layers are two KV groups, full first") {
  const auto geometry = make_kv_geometry(gemma_like(), DType::kF32, 16);
  REQUIRE(geometry.ok());
  REQUIRE(geometry->groups.size() == 2);
  CHECK(geometry->groups[0].layers == std::vector<int>{2, 5});
  CHECK(geometry->groups[0].window == 0);
  CHECK(geometry->groups[1].layers == std::vector<int>{0, 1, 3, 4});
  CHECK(geometry->groups[1].window == 512);
  CHECK(geometry->bytes_per_token() == 6 * 2 * 2 * 16 * 4);
}

TEST_CASE("A model whose layers are all alike has one KV group") {
  ModelConfig config = gemma_like();
  config.window_layer.assign(6, 0);
  CHECK(make_kv_geometry(config, DType::kF32, 16)->groups.size() == 1);
  config.window_layer.assign(6, 1);
  const auto geometry = make_kv_geometry(config, DType::kF32, 16);
  REQUIRE(geometry->groups.size() == 1);
  CHECK(geometry->groups[0].window == 512);
}

TEST_CASE("A block size out of bounds names its field") {
  for (const int size : {0, -16, 2048}) {
    const auto geometry = make_kv_geometry(gemma_like(), DType::kF32, size);
    CHECK(error_field(geometry.status()) == "block_size");
  }
}

TEST_CASE("By default the cache holds eight sequences of max_model_len") {
  const auto plan = plan_kv_cache(one_kib_a_token(), {.free_bytes = 1 << 30, .max_model_len = 100});
  REQUIRE(plan.ok());
  CHECK(plan->num_blocks == std::vector<int>{8 * 7});  // 100 tokens take 7 blocks of 16
  CHECK(plan->bytes == 8 * 7 * 16 * 1024);
  CHECK(plan->max_model_len == 100);
}

TEST_CASE("By default the cache takes at most a quarter of free memory") {
  const auto plan = plan_kv_cache(one_kib_a_token(), {.free_bytes = 1 << 20, .max_model_len = 100});
  REQUIRE(plan.ok());
  CHECK(plan->bytes <= (1 << 20) / 4);
  CHECK(plan->num_blocks == std::vector<int>{16});
}

TEST_CASE("Given bytes are used up and never exceeded") {
  const auto plan = plan_kv_cache(
      one_kib_a_token(), {.bytes = 1000 * 1024, .free_bytes = 1 << 30, .max_model_len = 100});
  REQUIRE(plan.ok());
  CHECK(plan->num_blocks == std::vector<int>{62});
  CHECK(plan->bytes <= 1000 * 1024);
}

TEST_CASE("Every group gets the same number of blocks") {
  const auto geometry = make_kv_geometry(gemma_like(), DType::kF32, 16);
  const auto plan = plan_kv_cache(*geometry, {.free_bytes = 1 << 30, .max_model_len = 100});
  REQUIRE(plan.ok());
  CHECK(plan->num_blocks == std::vector<int>{56, 56});
}

TEST_CASE("More bytes than the device has are refused by name") {
  const auto plan = plan_kv_cache(one_kib_a_token(),
                                  {.bytes = 1 << 30, .free_bytes = 1 << 20, .max_model_len = 100});
  CHECK(plan.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(error_field(plan.status()) == "kv_cache_memory_bytes");
}

TEST_CASE("A cache that can not hold one sequence is refused or the sequence shortened") {
  KvBudget budget{.bytes = 64 * 1024, .free_bytes = 1 << 30, .max_model_len = 100};
  const auto refused = plan_kv_cache(one_kib_a_token(), budget);
  CHECK(refused.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(error_field(refused.status()) == "max_model_len");
  budget.may_shorten = true;
  const auto shortened = plan_kv_cache(one_kib_a_token(), budget);
  REQUIRE(shortened.ok());
  CHECK(shortened->max_model_len == 64);
  budget.bytes = 1024;  // not even a block
  CHECK_FALSE(plan_kv_cache(one_kib_a_token(), budget).ok());
}

}  // namespace pelton
