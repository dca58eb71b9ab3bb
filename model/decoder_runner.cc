#include "model/decoder_runner.h"

#include <algorithm>
#include <utility>

#include "backend/drawn_tokens.h"
#include "core/check.h"

namespace pelton {
namespace {

// A decode step of sequences that hold nothing: it reads and writes no KV.
Batch idle_batch(int seqs, size_t kv_groups) {
  Batch batch;
  const auto count = static_cast<size_t>(seqs);
  batch.tokens.assign(count, 0);
  batch.positions.assign(count, 0);
  batch.seq_lens.assign(count, 0);
  for (int s = 0; s <= seqs; ++s) batch.query_start_loc.push_back(s);
  for (int s = 0; s < seqs; ++s) batch.logit_rows.push_back(s);
  GroupBatch group;
  group.slot_mapping.assign(count, -1);
  group.block_tables.assign(count, -1);
  group.max_blocks_per_seq = 1;
  batch.kv.assign(kv_groups, group);
  return batch;
}

}  // namespace

DecoderRunner::DecoderRunner(std::unique_ptr<Decoder> decoder, std::unique_ptr<KvCache> cache,
                             std::vector<int> num_blocks, Backend& backend)
    : backend_(backend),
      cache_(std::move(cache)),
      decoder_(std::move(decoder)),
      num_blocks_(std::move(num_blocks)) {}

Status DecoderRunner::warm_up() {
  for (const int seqs : backend_.recordable_steps()) {
    const Batch batch = idle_batch(seqs, cache_->geometry().groups.size());
    // First as it is: what a kernel's first run sets up cannot be set up while it is recorded.
    PELTON_RETURN_IF_ERROR(decoder_->forward(batch, *cache_));
    PELTON_RETURN_IF_ERROR(backend_.synchronize());
    backend_.record(true);
    const Status recorded = decoder_->forward(batch, *cache_);
    backend_.record(false);
    PELTON_RETURN_IF_ERROR(recorded);
  }
  return backend_.seal();
}

Status DecoderRunner::forward(const Batch& batch) {
  if (in_parts_ && !batch.drawn.empty()) {  // the results are here, not on the device
    Batch filled = batch;
    PELTON_RETURN_IF_ERROR(fill_drawn_tokens(sampled_, filled));
    PELTON_RETURN_IF_ERROR(decoder_->forward(filled, *cache_));
  } else {
    PELTON_RETURN_IF_ERROR(decoder_->forward(batch, *cache_));
  }
  num_logit_rows_ = static_cast<int>(batch.logit_rows.size());
  logits_ = {};
  if (num_logit_rows_ > 0 && num_logit_rows_ <= decoder_->limits().max_logit_rows) {
    logits_ = decoder_->logits(0, num_logit_rows_);
  }
  return Status();
}

Status DecoderRunner::sample(std::span<const SampleRow> rows) {
  in_parts_ = !logits_.defined();
  if (in_parts_) return sample_in_parts(rows);
  return backend_.sample(logits_, rows);
}

Status DecoderRunner::sample_in_parts(std::span<const SampleRow> rows) {
  sampled_.assign(rows.size(), {});
  const int part = decoder_->limits().max_logit_rows;
  for (int begin = 0; begin < num_logit_rows_; begin += part) {
    const int count = std::min(part, num_logit_rows_ - begin);
    std::vector<SampleRow> mine;
    std::vector<size_t> index;  // into rows
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].logit_row < begin || rows[i].logit_row >= begin + count) continue;
      mine.push_back(rows[i]);
      mine.back().logit_row -= begin;
      index.push_back(i);
    }
    if (mine.empty()) continue;
    PELTON_RETURN_IF_ERROR(backend_.sample(decoder_->logits(begin, count), mine));
    PELTON_ASSIGN_OR_RETURN(std::vector<SampledToken> tokens, backend_.collect());
    PELTON_CHECK(tokens.size() == mine.size(), "one result a sampled row");
    for (size_t i = 0; i < mine.size(); ++i) sampled_[index[i]] = std::move(tokens[i]);
  }
  return Status();
}

StatusOr<std::vector<SampledToken>> DecoderRunner::collect() {
  if (!in_parts_) return backend_.collect();
  // Nothing was asked of the device since, or it has answered already; its errors come out here.
  PELTON_RETURN_IF_ERROR(backend_.synchronize());
  return std::exchange(sampled_, {});
}

}  // namespace pelton
