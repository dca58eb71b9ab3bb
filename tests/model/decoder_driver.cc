#include "tests/model/decoder_driver.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "core/check.h"

namespace pelton {

StepList chunks_of(int total, int chunk, int sequence) {
  StepList steps;
  for (int begin = 0; begin < total; begin += chunk) {
    steps.push_back({{sequence, std::min(chunk, total - begin)}});
  }
  return steps;
}

DecoderDriver::DecoderDriver(LoadedModel& model, Backend& backend, uint32_t block_seed)
    : model_(model), backend_(backend), block_seed_(block_seed) {}

DecoderDriver::Tables DecoderDriver::make_tables(
    std::span<const std::vector<TokenId>> sequences) const {
  Tables tables;
  std::mt19937 random(block_seed_);
  const int block_size = model_.runner->kv_geometry().block_size;
  for (const int num_blocks : model_.runner->num_blocks()) {
    std::vector<int32_t> blocks(num_blocks);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), random);
    size_t used = 0;
    tables.emplace_back();
    for (const std::vector<TokenId>& tokens : sequences) {
      const size_t need = (tokens.size() + block_size - 1) / block_size;
      PELTON_CHECK(used + need <= blocks.size(), "the test's KV cache is too small");
      tables.back().emplace_back(blocks.begin() + used, blocks.begin() + used + need);
      used += need;
    }
  }
  return tables;
}

Batch DecoderDriver::make_batch(std::span<const std::vector<TokenId>> sequences,
                                const Tables& tables, const std::vector<int>& computed,
                                const std::vector<StepPart>& step) const {
  const KvGeometry& geometry = model_.runner->kv_geometry();
  Batch batch;
  batch.kv.resize(geometry.groups.size());
  batch.query_start_loc.push_back(0);
  for (const StepPart& part : step) {
    const int begin = computed[part.sequence];
    for (int position = begin; position < begin + part.count; ++position) {
      batch.logit_rows.push_back(batch.num_tokens());
      batch.tokens.push_back(sequences[part.sequence][position]);
      batch.positions.push_back(position);
    }
    batch.query_start_loc.push_back(batch.num_tokens());
    batch.seq_lens.push_back(begin + part.count);
  }
  for (size_t g = 0; g < batch.kv.size(); ++g) {
    GroupBatch& group = batch.kv[g];
    for (const StepPart& part : step) {
      group.max_blocks_per_seq =
          std::max(group.max_blocks_per_seq, static_cast<int>(tables[g][part.sequence].size()));
    }
    for (const StepPart& part : step) {
      const std::vector<int32_t>& table = tables[g][part.sequence];
      const int begin = computed[part.sequence];
      for (int position = begin; position < begin + part.count; ++position) {
        group.slot_mapping.push_back(table[position / geometry.block_size] * geometry.block_size +
                                     position % geometry.block_size);
      }
      // Blocks that no query can see: before the window, and past the sequence.
      const int window = geometry.groups[g].window;
      const int first = window > 0 ? std::max(0, begin - window + 1) / geometry.block_size : 0;
      const int last = (begin + part.count - 1) / geometry.block_size;
      for (int b = 0; b < group.max_blocks_per_seq; ++b) {
        group.block_tables.push_back(b < first || b > last ? -1 : table[b]);
      }
    }
  }
  return batch;
}

std::vector<float> DecoderDriver::logits(int count) {
  Decoder& decoder = model_.runner->decoder();
  const int vocab = model_.runner->vocab_size();
  std::vector<float> out(static_cast<size_t>(count) * vocab);
  for (int begin = 0; begin < count; begin += decoder.limits().max_logit_rows) {
    const int rows = std::min(decoder.limits().max_logit_rows, count - begin);
    const Status status = backend_.download(
        decoder.logits(begin, rows),
        std::as_writable_bytes(std::span(out).subspan(static_cast<size_t>(begin) * vocab,
                                                      static_cast<size_t>(rows) * vocab)));
    PELTON_CHECK(status.ok(), "download of logits");
  }
  return out;
}

std::vector<std::vector<float>> DecoderDriver::run(std::span<const std::vector<TokenId>> sequences,
                                                   const StepList& steps) {
  const Tables tables = make_tables(sequences);
  std::vector<int> computed(sequences.size(), 0);
  std::vector<std::vector<float>> out(sequences.size());
  const int vocab = model_.runner->vocab_size();
  for (const std::vector<StepPart>& step : steps) {
    const Batch batch = make_batch(sequences, tables, computed, step);
    const Status status = model_.runner->decoder().forward(batch, model_.runner->cache());
    PELTON_CHECK(status.ok(), "forward");
    const std::vector<float> rows = logits(batch.num_tokens());
    for (size_t i = 0; i < step.size(); ++i) {
      out[step[i].sequence].insert(out[step[i].sequence].end(),
                                   rows.begin() + int64_t{batch.query_start_loc[i]} * vocab,
                                   rows.begin() + int64_t{batch.query_start_loc[i + 1]} * vocab);
      computed[step[i].sequence] += step[i].count;
    }
  }
  return out;
}

std::vector<float> DecoderDriver::run(const std::vector<TokenId>& tokens, int chunk) {
  return run(std::span(&tokens, 1), chunks_of(static_cast<int>(tokens.size()), chunk))[0];
}

double relative_error(std::span<const float> values, std::span<const float> reference, int cols) {
  if (values.size() != reference.size()) return INFINITY;
  double worst = 0;
  for (size_t row = 0; row < reference.size(); row += cols) {
    double difference = 0;
    double scale = 0;
    for (size_t i = row; i < row + cols; ++i) {
      if (!std::isfinite(values[i])) return INFINITY;
      difference = std::max(difference, std::abs(double{values[i]} - reference[i]));
      scale = std::max(scale, std::abs(double{reference[i]}));
    }
    worst = std::max(worst, difference / scale);
  }
  return worst;
}

}  // namespace pelton
