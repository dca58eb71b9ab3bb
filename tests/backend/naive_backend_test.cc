// The naive backend, which others are compared with, against the float64 references of each op.
#include "tests/support/naive_backend.h"
#include "tests/support/backend_cases.h"
#include "tests/support/catch.h"

namespace pelton::test {
namespace {

void on_naive(void (*check)(Backend&)) {
  NaiveBackend backend;
  check(backend);
}

}  // namespace

TEST_CASE("the naive backend's products and embeddings agree with float64") {
  on_naive(check_linear);
  on_naive(check_stacked_sources);
  on_naive(check_embedding);
}
TEST_CASE("the naive backend's attention agrees with float64") {
  on_naive(check_attention);
  on_naive(check_encoder_attention);
}
TEST_CASE("the naive backend's routed experts agree with float64") {
  on_naive(check_experts);
}
TEST_CASE("the naive backend's row ops agree with float64") {
  on_naive(check_norm);
  on_naive(check_activation);
  on_naive(check_pooling);
  on_naive(check_logit_rows);
}
TEST_CASE("the naive backend embeds a drawn token before it is collected") {
  on_naive(check_drawn_tokens);
}

}  // namespace pelton::test
