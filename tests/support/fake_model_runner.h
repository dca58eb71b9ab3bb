// A model without weights: the next token is a hash of the whole token history, read back from a
// paged cache through slot mapping and block tables, so that any error of paging changes tokens.
// Can give NaN rows, fail, and be slow. For engine tests; one thread at a time.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/drawn_tokens.h"
#include "model/model_runner.h"
#include "tests/support/fake_kv_memory.h"

namespace pelton {

class FakeModelRunner : public ModelRunner {
 public:
  FakeModelRunner(int vocab_size, KvGeometry geometry, std::vector<int> num_blocks)
      : vocab_size_(vocab_size),
        geometry_(std::move(geometry)),
        num_blocks_(std::move(num_blocks)),
        memory_(geometry_, num_blocks_) {}

  // Called at the start of each forward(): may block (a slow step) or return an error.
  std::function<Status(const Batch&)> before_forward;
  std::function<Status()> before_collect;  // likewise
  // Says for which last token a row is not a number.
  std::function<bool(TokenId)> is_nan = [](TokenId) { return false; };
  // May answer for the model: a token >= 0 that follows (last token, position).
  std::function<TokenId(TokenId, int)> script = [](TokenId, int) { return -1; };

  int vocab_size() const override { return vocab_size_; }
  const KvGeometry& kv_geometry() const override { return geometry_; }
  const std::vector<int>& num_blocks() const override { return num_blocks_; }
  const std::string& error() const { return memory_.error(); }
  int max_logit_rows_seen() const { return max_rows_; }
  int64_t overlapped() const { return overlapped_; }      // tokens that came as Batch::drawn
  int64_t sampled_rows() const { return sampled_rows_; }  // over all steps

  Status forward(const Batch& given) override {
    if (before_forward) {
      Status status = before_forward(given);
      if (!status.ok()) return status;
    }
    Batch batch = given;
    overlapped_ += static_cast<int64_t>(batch.drawn.size());
    if (Status status = fill_drawn_tokens(sampled_, batch); !status.ok()) return status;
    memory_.write(batch);
    rows_.clear();
    int seq = 0;
    for (const int32_t row : batch.logit_rows) {
      while (batch.query_start_loc[static_cast<size_t>(seq) + 1] <= row) ++seq;
      const auto at = static_cast<size_t>(row);
      rows_.push_back(
          {memory_.read(batch, seq, batch.positions[at]), batch.tokens[at], batch.positions[at]});
    }
    max_rows_ = std::max(max_rows_, static_cast<int>(rows_.size()));
    return absl::OkStatus();
  }

  Status sample(std::span<const SampleRow> rows) override {
    if (std::exchange(to_collect_, true)) return absl::InternalError("the last was not collected");
    sampled_.clear();
    sampled_rows_ += static_cast<int64_t>(rows.size());
    for (const SampleRow& row : rows) {
      const Row& from = rows_[static_cast<size_t>(row.logit_row)];
      SampledToken out;
      out.nan = is_nan(from.token);
      out.token = row.forced_token >= 0 ? row.forced_token : choose(from, row);
      if (row.logprobs >= 0) out.logprobs = logprobs(from.history, out.token, row.logprobs);
      sampled_.push_back(std::move(out));
    }
    return absl::OkStatus();
  }

  StatusOr<std::vector<SampledToken>> collect() override {
    if (before_collect) {
      Status status = before_collect();
      if (!status.ok()) return status;
    }
    if (!std::exchange(to_collect_, false)) return absl::InternalError("nothing to collect");
    return std::exchange(sampled_, {});
  }

  // The token that follows `tokens`, without any cache: the truth that paging is held to.
  TokenId truth(std::span<const TokenId> tokens, SampleRow row) const {
    const int position = static_cast<int>(tokens.size()) - 1;
    row.position = tokens.size();
    return choose({expected_history(geometry_, tokens, position), tokens.back(), position}, row);
  }
  // The log probabilities of tokens[position + 1], likewise.
  PositionLogprobs true_logprobs(std::span<const TokenId> tokens, int position, int count) const {
    return logprobs(expected_history(geometry_, tokens, position),
                    tokens[static_cast<size_t>(position) + 1], count);
  }

 private:
  struct Row {
    uint64_t history;
    TokenId token;
    int position;
  };

  TokenId choose(const Row& from, const SampleRow& row) const {
    if (const TokenId scripted = script(from.token, from.position); scripted >= 0) return scripted;
    uint64_t state = from.history;
    if (row.temperature > 0) state = mix64(state ^ mix64(row.seed)) ^ row.position;
    for (int tries = 0; tries < 1000; ++tries) {
      state = mix64(state);
      const auto token = static_cast<TokenId>(state % static_cast<uint64_t>(vocab_size_));
      if (std::find(row.banned.begin(), row.banned.end(), token) == row.banned.end()) return token;
    }
    return -1;
  }

  PositionLogprobs logprobs(uint64_t history, TokenId chosen, int count) const {
    const auto score = [history](TokenId token) {
      return -static_cast<float>(mix64(history ^ static_cast<uint64_t>(token)) % 1000) / 100;
    };
    PositionLogprobs out;
    out.chosen = {chosen, score(chosen), 1};
    for (int i = 0; i < count; ++i) out.top.push_back({i, score(i), i + 1});
    return out;
  }

  const int vocab_size_;
  const KvGeometry geometry_;
  const std::vector<int> num_blocks_;
  FakeKvMemory memory_;
  std::vector<Row> rows_;
  std::vector<SampledToken> sampled_;
  bool to_collect_ = false;
  int max_rows_ = 0;
  int64_t overlapped_ = 0;
  int64_t sampled_rows_ = 0;
};

}  // namespace pelton
