// The card's time a step: every step of a run is measured, however steps are launched.
#include "cuda/step_clock.h"

#include "tests/cuda/backend/cuda_fixture.h"
#include "tests/model/engine_runs.h"
#include "tests/model/tiny_models.h"

namespace pelton::test {

TEST_CASE("every step is measured and the card's idle time before the next") {
  for (const bool graphs : {true, false}) {
    for (const bool overlap : {true, false}) {
      const CudaCard card;
      const auto clock = std::make_shared<cuda::StepClock>();
      CudaOptions options = CudaCard::default_options();
      options.graphs = graphs;
      options.step_clock = clock;
      const auto backend = card.backend(options);
      LoadOptions load = tiny_options();
      load.max_num_seqs = 4;
      load.max_num_batched_tokens = 16;
      load.max_model_len = 64;
      StatusOr<LoadedModel> model = load_tiny(tiny_config("mistral"), *backend, load);
      REQUIRE(model.ok());
      clock->take();
      RunOptions run;
      run.concurrency = 3;
      run.max_num_seqs = 4;
      run.max_num_batched_tokens = 16;
      run.async_scheduling = overlap;
      const RunResult result =
          run_engine(*std::move(model), mixed_requests(3, 200, 40, 12, 5), run);
      const std::vector<cuda::StepTimes> times = clock->take();
      INFO(graphs << overlap << " " << result.stats.steps);
      // All but the last, whose next never came; chunks of prompts are steps too.
      CHECK(times.size() + 1 >= static_cast<size_t>(result.stats.steps) - 1);
      CHECK(times.size() < static_cast<size_t>(result.stats.steps));
      for (const cuda::StepTimes& step : times) {
        CHECK(step.busy_us >= 0);
        CHECK(step.idle_us >= 0);
      }
      CHECK(clock->take().empty());
      CHECK(cudaGetLastError() == cudaSuccess);  // asking for steps that are not over left nothing
    }
  }
}

}  // namespace pelton::test
