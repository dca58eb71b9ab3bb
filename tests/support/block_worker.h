// Holds a service's tokenizer thread in a job.
#pragma once

#include <future>
#include <memory>

#include "server/inference_service.h"
#include "tests/support/catch.h"

namespace pelton {

// Occupies the only worker until the returned promise is set; the job shares what it waits on,
// since it may still be waking when the test has gone on.
inline std::shared_ptr<std::promise<void>> block_worker(InferenceService& service) {
  const auto release = std::make_shared<std::promise<void>>();
  const auto running = std::make_shared<std::promise<void>>();
  REQUIRE(service
              .detokenize({},
                          [release, running](const auto&) {
                            running->set_value();
                            release->get_future().wait();
                          })
              .ok());
  running->get_future().wait();
  return release;
}

}  // namespace pelton
