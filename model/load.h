// From what the user named as MODEL to a runner that an engine can drive: files, weights, KV cache.
// One call for the server, pelton-bench and tests; call it off the engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/status.h"
#include "model/decoder_runner.h"
#include "model/model_files.h"
#include "model/step_budget.h"
#include "model/weights.h"

namespace pelton {

class GgufFile;

struct LoadOptions {
  std::string path;  // a Hugging Face folder or a .gguf file; dummy: a config.json or its folder
  LoadFormat load_format = LoadFormat::kAuto;
  std::optional<DType> dummy_dtype;  // of dummy weights; none: the config's
  uint64_t seed = 0;                 // of dummy weights

  int max_model_len = 0;                // tokens; 0: the model's own, or what the KV cache holds
  int max_num_seqs = 64;                // sequences of one step
  int max_num_batched_tokens = 2048;    // tokens of one step; 0: as measured (step_budget.h)
  int block_size = 32;                  // tokens of a KV block
  std::optional<DType> kv_cache_dtype;  // none: the backend's activation dtype
  int64_t kv_cache_memory_bytes = 0;    // 0: as kv_budget.h says
  LoadProgress progress;                // may be null
};

struct LoadFacts {
  std::string architecture;      // "llama"
  std::string weight_format;     // dtype of most of the weights' bytes: "q4_1"
  int64_t parameters = 0;        // weights counted once, tied or not
  int64_t weight_bytes = 0;      // resident in the backend
  int64_t kv_cache_bytes = 0;    //
  int64_t kv_cache_tokens = 0;   // that fit in it
  int64_t activation_bytes = 0;  // of one step, logits included
  int max_model_len = 0;         // tokens of prompt and answer together
  int max_num_batched_tokens = 0;
  StepBudget step_budget;  // where max_num_batched_tokens was left open
  bool shortened = false;  // max_model_len is less than the model's: the KV cache is small
  int vocab_size = 0;
  double load_seconds = 0;
  std::vector<TokenId> eos_ids;
  TokenId bos_id = -1;                // -1: none
  std::vector<std::string> warnings;  // for the log
};

struct LoadedModel {
  ModelConfig config;
  std::unique_ptr<DecoderRunner> runner;
  LoadFacts facts;
  // Where tokenizer and chat template come from: the file's own fields, or the folder's files.
  // Neither with dummy weights from a lone config.json.
  std::shared_ptr<const GgufFile> gguf;
  std::string folder;
};

// INVALID_ARGUMENT with the option's name as error_field where it is out of bounds; otherwise the
// errors of model_files.h, weights.h, kv_budget.h and the backend. `backend` outlives the model.
StatusOr<LoadedModel> load_model(const LoadOptions& options, Backend& backend);

}  // namespace pelton
