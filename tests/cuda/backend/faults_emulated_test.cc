// What only an emulated card can show: every device call failed in turn, memory that is taken once,
// orders of streams, and machines that lack something.
#include <map>
#include <set>

#include "cuda/emulator/emulator.h"
#include "tests/cuda/backend/cuda_fixture.h"
#include "tests/model/engine_runs.h"
#include "tests/model/tiny_models.h"

namespace pelton::test {
namespace {

namespace emulator = cuda::emulator;

class Outputs final : public OutputSink {
 public:
  void deliver(std::vector<RequestOutput> outputs) override {
    for (RequestOutput& output : outputs) {
      std::vector<TokenId>& mine = tokens[output.id.value];
      mine.insert(mine.end(), output.tokens.begin(), output.tokens.end());
      if (!output.finished()) continue;
      ++finished;
      if (output.finish_reason == FinishReason::kError) errors.push_back(output.status);
    }
  }
  std::map<uint64_t, std::vector<TokenId>> tokens;
  std::vector<Status> errors;
  int finished = 0;
};

struct Outcome {
  Status loaded;
  std::vector<Status> errors;  // of requests
  std::vector<std::vector<TokenId>> answers;
  int steps = 0;
  int64_t allocations_in_steps = 0;
};

// Loads a tiny model and answers a few requests with graphs and overlap.
Outcome serve(CudaOptions options, int count) {
  Outcome outcome;
  auto backend = make_cuda_backend(options);
  outcome.loaded = backend.status();
  if (!backend.ok()) return outcome;
  LoadOptions load = tiny_options();
  load.max_num_seqs = 2;
  load.max_num_batched_tokens = 16;
  load.max_model_len = 32;
  load.kv_cache_memory_bytes = 1 << 17;
  StatusOr<LoadedModel> model = load_tiny(tiny_config("mistral"), **backend, load);
  outcome.loaded = model.status();
  if (!model.ok()) return outcome;
  const int64_t allocations = emulator::device_allocations_made();
  EngineOptions engine_options;
  engine_options.max_model_len = model->facts.max_model_len;
  engine_options.max_num_seqs = load.max_num_seqs;
  engine_options.max_num_batched_tokens = load.max_num_batched_tokens;
  engine_options.async_scheduling = true;
  engine_options.check_integrity = true;
  const SteadyClock clock;
  auto sink = std::make_shared<Outputs>();
  Engine engine(engine_options, std::move(model->runner), nullptr, &clock);
  std::vector<uint64_t> ids;
  const std::vector<TestRequest> requests = mixed_requests(count, 200, 20, 5, 3);
  for (const TestRequest& of : requests) {
    Request request;
    request.id = engine.mint_request_id();
    request.prompt = {{of.prompt}};
    request.params = of.params;
    ids.push_back(request.id.value);
    REQUIRE(engine.submit(std::move(request), sink).ok());
  }
  while (sink->finished < count && outcome.steps < 1000) {
    engine.step();
    ++outcome.steps;
  }
  outcome.errors = sink->errors;
  for (const uint64_t id : ids) outcome.answers.push_back(sink->tokens[id]);
  outcome.allocations_in_steps = emulator::device_allocations_made() - allocations;
  return outcome;
}

void fail_every(int64_t stride, bool sticky) {
  const CudaCard card;
  const CudaOptions options = CudaCard::default_options();
  const Outcome good = serve(options, 3);
  REQUIRE(good.loaded.ok());
  REQUIRE(good.errors.empty());
  const int64_t calls = emulator::calls();
  REQUIRE(calls > 200);
  std::set<std::string> failed;
  int64_t harmless = 0;
  for (int64_t n = 1; n <= calls; n += stride) {
    emulator::reset();
    emulator::fail_call(n, sticky ? cudaErrorIllegalAddress : cudaErrorUnknown, sticky);
    const Outcome outcome = serve(options, 3);
    INFO("call " << n << " of " << calls << ": " << emulator::failed_call());
    failed.insert(emulator::failed_call());
    CHECK(emulator::live_objects().none());
    CHECK(outcome.steps < 1000);  // everything ended
    if (!outcome.loaded.ok()) {
      CHECK_FALSE(outcome.loaded.message().empty());
    } else if (outcome.errors.empty()) {
      CHECK(outcome.answers == good.answers);
      ++harmless;  // a call that gives something back
    } else {
      for (const Status& status : outcome.errors) {
        CHECK(status.code() == absl::StatusCode::kUnavailable);
      }
      for (size_t i = 0; i < good.answers.size(); ++i) {  // no wrong token before the end
        CHECK(outcome.answers[i].size() <= good.answers[i].size());
        CHECK(std::equal(outcome.answers[i].begin(), outcome.answers[i].end(),
                         good.answers[i].begin()));
      }
    }
  }
  if (stride == 1) {
    WARN(calls << " calls failed in turn" << (sticky ? ", with all after them" : "") << ": "
               << failed.size() << " kinds, " << harmless << " that the answers do not need");
  }
  CHECK(failed.size() > 10);
  CHECK(harmless * 2 < calls / stride);
  emulator::reset();
}

}  // namespace

TEST_CASE("each device call that fails gives a typed error and leaves nothing behind") {
  fail_every(7, false);
  fail_every(11, true);
}

TEST_CASE("every device call that fails gives a typed error and leaves nothing behind", "[long]") {
  fail_every(1, false);
  fail_every(1, true);
}

TEST_CASE("the card's memory is taken once and no step takes more") {
  const CudaCard card;
  CudaOptions options = CudaCard::default_options();
  const Outcome apart = serve(options, 5);
  CHECK(apart.allocations_in_steps == 0);
  options.separate_allocations = false;
  emulator::reset();
  const Outcome together = serve(options, 5);
  CHECK(emulator::device_allocations_made() == 1);
  CHECK(together.answers == apart.answers);
}

TEST_CASE("a step is recorded of kernels that have run before") {
  const CudaCard card;
  CudaOptions options = CudaCard::default_options();
  for (const bool batch_invariant : {true, false}) {
    emulator::reset();
    options.batch_invariant = batch_invariant;
    options.own_product_handicap = 1e6F;
    const auto backend = card.backend(options);
    LoadOptions load = tiny_options();
    load.max_num_seqs = 40;  // products of one, a few and many rows
    load.max_num_batched_tokens = 40;
    load.max_model_len = 32;
    REQUIRE(load_tiny(tiny_config("mistral"), *backend, load).ok());
    CHECK(emulator::live_objects().executable_graphs == 8);
    CHECK(emulator::first_in_captures() == std::vector<std::string>{});
  }
}

TEST_CASE("answers do not depend on the order in which streams get on") {
  const CudaCard card;
  const CudaOptions options = CudaCard::default_options();
  const Outcome late = serve(options, 5);
  REQUIRE(late.errors.empty());
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    emulator::set_stream_order(seed);
    CHECK(serve(options, 5).answers == late.answers);
  }
  emulator::set_stream_order(0);
}

TEST_CASE("a machine without what a card needs is told what is missing") {
  const auto missing = [](emulator::Card card) {
    emulator::reset(card);
    const auto backend = make_cuda_backend({});
    CHECK(backend.status().code() == absl::StatusCode::kFailedPrecondition);
    CHECK(check_cuda({}) == backend.status());
    return std::string(backend.status().message());
  };
  CHECK(missing(emulator::card_named("no_driver")).find("no CUDA driver") != std::string::npos);
  CHECK(missing(emulator::card_named("none")).find("no card") != std::string::npos);
  emulator::Card old = emulator::card_named("sm_90");
  old.major = 7, old.minor = 5;
  CHECK(missing(old).find("compute capability is 7.5") != std::string::npos);
  emulator::Card other = emulator::card_named("sm_86");
  other.has_code = false;
  CHECK(missing(other).find("compute capability 8.6 (make cuda ARCHITECTURES=86-real)") !=
        std::string::npos);
  for (const char* name : {"sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"}) {
    emulator::reset(emulator::card_named(name));
    CHECK(make_cuda_backend({}).status().ToString() == "OK");
  }
  CudaOptions greedy;
  greedy.memory_utilization = 1.5;
  CHECK(make_cuda_backend(greedy).status().code() == absl::StatusCode::kInvalidArgument);
  void* taken = nullptr;
  REQUIRE(cudaMalloc(&taken, size_t{100} << 20) == cudaSuccess);
  CHECK(make_cuda_backend({}).status().code() == absl::StatusCode::kResourceExhausted);
  emulator::reset(emulator::card_named("sm_90"));
}

}  // namespace pelton::test
