// A served model for tests of the front ends: the real engine, tokenizer and chat template over a
// model without weights, whose steps a test can hold up. Thread-safe where a test needs it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/metrics.h"
#include "scheduler/engine.h"
#include "server/model_host.h"
#include "tests/support/fake_model_runner.h"
#include "text/chat_template.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace pelton {

// Waits until `holds()`, for as long as a very slow machine may take.
template <typename Condition>
bool eventually(Condition holds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// Holds up what passes through while it is closed.
class Gate {
 public:
  void close() { set(false); }
  void open() { set(true); }
  void pass() {
    std::unique_lock lock(mutex_);
    ++held_;
    changed_.wait(lock, [this] { return open_; });
    --held_;
  }
  bool holds_one() {
    const std::lock_guard lock(mutex_);
    return !open_ && held_ > 0;
  }

 private:
  void set(bool open) {
    const std::lock_guard lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int held_ = 0;
};

struct CountingMetrics final : ModelMetrics {
  std::atomic<int> first_tokens = 0, gaps = 0, finished = 0, aborted = 0;
  void observe_time_to_first_token(double) override { ++first_tokens; }
  void observe_inter_token_latency(double, int tokens) override { gaps += tokens; }
  void observe_finished(double, const Timing&, FinishReason reason) override {
    ++finished;
    aborted += reason == FinishReason::kAbort;
  }
};

// One token a byte, "<0x00>" onward from id 3; <unk>, <s> (put before every text), </s>; a space.
inline GgufTokenizerFields byte_tokenizer_fields() {
  constexpr char kHex[] = "0123456789ABCDEF";
  GgufTokenizerFields fields;
  fields.model = "llama";
  fields.tokens = {"<unk>", "<s>", "</s>"};
  fields.token_types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    fields.tokens.push_back(std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">");
    fields.token_types.push_back(6);
  }
  fields.tokens.push_back("\u2581");  // how SentencePiece spells a space
  fields.token_types.push_back(1);
  fields.scores.assign(fields.tokens.size(), 0.0F);
  fields.unknown_token_id = 0;
  fields.bos_token_id = 1;
  fields.eos_token_id = 2;
  fields.add_bos_token = true;
  fields.add_space_prefix = false;
  return fields;
}
inline constexpr int kFakeVocab = 260;
inline constexpr TokenId kFakeEos = 2;
inline constexpr TokenId byte_token(char c) {
  return 3 + static_cast<unsigned char>(c);
}

struct FakeModelOptions {
  std::string name = "fake";
  bool text = true;  // with tokenizer and chat template
  bool own_thread = true;
  int num_blocks = 512;  // of 16 tokens
  std::chrono::microseconds step_time{0};
  EngineOptions engine;

  FakeModelOptions() {
    engine.max_model_len = 512;
    engine.max_num_seqs = 8;
    engine.max_waiting_requests = 64;
  }
};

// It writes the bytes a to z in turn, so that its text is readable and never ends by itself.
class FakeServedModel final : public ServedModel {
 public:
  explicit FakeServedModel(FakeModelOptions options = {}) : options_(std::move(options)) {
    facts_.name = options_.name;
    facts_.architecture = "fake";
    facts_.max_model_len = options_.engine.max_model_len;
    facts_.vocab_size = kFakeVocab;
    facts_.max_waiting_requests = options_.engine.max_waiting_requests;
    if (options_.text) {
      tokenizer_ = Tokenizer::from_gguf(byte_tokenizer_fields()).value();
      chat_template_ = ChatTemplate::from_source(kTemplate, *tokenizer_).value();
      detokenizer_ = std::make_unique<Detokenizer>(*tokenizer_);
    }
    KvGeometry geometry;
    geometry.block_size = 16;
    geometry.groups.push_back({.layers = {0}, .num_kv_heads = 1, .head_dim = 1});
    auto runner = std::make_unique<FakeModelRunner>(kFakeVocab, geometry,
                                                    std::vector<int>{options_.num_blocks});
    runner->before_forward = [this](const Batch&) {
      gate.pass();
      if (options_.step_time.count() > 0) std::this_thread::sleep_for(options_.step_time);
      const std::lock_guard lock(mutex_);
      return device_;
    };
    runner->script = [](TokenId, int position) {
      return byte_token("abcdefghijklmnopqrstuvwxyz"[position % 26]);
    };
    options_.engine.eos_token_ids = {kFakeEos};
    options_.engine.check_integrity = true;
    engine_ =
        std::make_unique<Engine>(options_.engine, std::move(runner), detokenizer_.get(), &clock_);
    if (options_.own_thread) engine_->start();
  }
  ~FakeServedModel() override { gate.open(); }

  const ModelFacts& facts() const override { return facts_; }
  Engine& engine() override { return *engine_; }
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  const ChatTemplate* chat_template() const override { return chat_template_.get(); }
  ModelMetrics* metrics() override { return &counts; }

  void fail_device(Status status) {
    const std::lock_guard lock(mutex_);
    device_ = std::move(status);
  }

  Gate gate;  // before each step's forward pass
  CountingMetrics counts;

 private:
  static constexpr char kTemplate[] =
      "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
      "{% if tools %}[tools]{{ tools | tojson }}\n{% endif %}"
      "{% if add_generation_prompt %}[assistant]{% endif %}";

  FakeModelOptions options_;
  ModelFacts facts_;
  SteadyClock clock_;
  std::mutex mutex_;
  Status device_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::unique_ptr<Detokenizer> detokenizer_;
  std::unique_ptr<Engine> engine_;  // first to go: it uses the rest
};

}  // namespace pelton
