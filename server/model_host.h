// Maps served names to loaded models: weights, engine, tokenizer, chat template. Built at start,
// read by all threads afterwards.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "scheduler/engine.h"

namespace pelton {

class ChatTemplate;
class ModelMetrics;
class Tokenizer;

struct ModelFacts {
  std::string name;           // as served
  std::string architecture;   // "llama"
  std::string weight_format;  // "q4_1"
  std::string device;
  int64_t created_unix_s = 0;
  int64_t parameters = 0;
  int64_t weight_bytes = 0;  // resident
  int max_model_len = 0;
  int vocab_size = 0;
  int max_waiting_requests = 1024;  // as the engine's options have it
};

// One loaded model with its engine running. Tokenizer and template are null where the model brings
// none (dummy weights): then only token ids go in and out.
class ServedModel {
 public:
  virtual ~ServedModel() = default;
  virtual const ModelFacts& facts() const = 0;
  virtual Engine& engine() = 0;
  virtual const Tokenizer* tokenizer() const = 0;
  virtual const ChatTemplate* chat_template() const = 0;
  virtual ModelMetrics* metrics() { return nullptr; }  // null: nobody counts
};

class ModelHost {
 public:
  Status add(std::shared_ptr<ServedModel> model);  // ALREADY_EXISTS for a name twice
  // Empty: the default model, the first one added. NOT_FOUND (MODEL_NOT_FOUND) names the model.
  StatusOr<std::shared_ptr<ServedModel>> find(std::string_view name) const;
  const std::vector<std::shared_ptr<ServedModel>>& all() const { return models_; }

 private:
  std::vector<std::shared_ptr<ServedModel>> models_;
};

}  // namespace pelton
