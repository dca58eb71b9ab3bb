#include "cpu/attention.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "cpu/kv_cache.h"

namespace pelton::cpu {
namespace {

constexpr int kMaxRows = 8;
constexpr int kMaxHeadDim = 512;

int round_up(int value, int unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

struct Attention::BlockRows {
  const float* q[kMaxRows];
  int32_t begin[kMaxRows];
  int32_t end[kMaxRows];
};

void Attention::plan_blocks(const Work& work, int num_kv_heads) {
  blocks_.clear();
  const Batch& batch = work.plan->batch;
  for (int seq = 0; seq < batch.num_seqs(); ++seq) {
    const int tokens = work.plan->new_tokens(seq);
    const int first_token = batch.query_start_loc[seq];
    const int rows = tokens * work.group;
    for (int head = 0; head < num_kv_heads; ++head) {
      for (int row = 0; row < rows; row += kernels_.attention_rows) {
        AttentionBlock block;
        block.seq = seq;
        block.kv_head = head;
        block.first_row = row;
        block.rows = std::min(kernels_.attention_rows, rows - row);
        if (work.causal) {
          const int first = batch.positions[first_token + row / work.group];
          const int last = batch.positions[first_token + (row + block.rows - 1) / work.group];
          const int begin = work.window > 0 ? std::max(0, first - work.window + 1) : 0;
          block.first_split = begin / kSplitTokens;
          block.last_split = last / kSplitTokens + 1;
        } else {
          block.last_split = (tokens + kSplitTokens - 1) / kSplitTokens;
        }
        blocks_.push_back(block);
      }
    }
  }
}

void Attention::fill_rows(const Work& work, const AttentionBlock& block, BlockRows& rows) const {
  const Batch& batch = work.plan->batch;
  const int first_token = batch.query_start_loc[block.seq];
  for (int r = 0; r < block.rows; ++r) {
    const int token = first_token + (block.first_row + r) / work.group;
    const int head = block.kv_head * work.group + (block.first_row + r) % work.group;
    rows.q[r] = work.q.row<const float>(token) + static_cast<int64_t>(head) * work.args.head_dim;
    if (work.causal) {
      const int position = batch.positions[token];
      rows.begin[r] = work.window > 0 ? std::max(0, position - work.window + 1) : 0;
      rows.end[r] = position + 1;
    } else {
      rows.begin[r] = 0;
      rows.end[r] = work.plan->new_tokens(block.seq);
    }
  }
}

void Attention::finish_rows(const Work& work, const AttentionBlock& block,
                            const AttentionState* states) const {
  const int first_token = work.plan->batch.query_start_loc[block.seq];
  for (int r = 0; r < block.rows; ++r) {
    const int token = first_token + (block.first_row + r) / work.group;
    const int head = block.kv_head * work.group + (block.first_row + r) % work.group;
    kernels_.finish_attention(
        states[r], work.sinks != nullptr ? work.sinks + head : nullptr, work.args.head_dim,
        work.out.row<float>(token) + static_cast<int64_t>(head) * work.args.head_dim);
  }
}

// Either a task runs all splits of a block, merging as it goes, or (few blocks, long contexts) each
// split is a task of its own and a second pass merges: the same merges in the same order.
template <typename SetKeys>
void Attention::run_blocks(const Work& work, const SetKeys& set_keys) {
  const int stride = round_up(work.args.head_dim, kLanes);
  const auto count = static_cast<int64_t>(blocks_.size());
  first_piece_.assign(1, 0);
  for (const AttentionBlock& block : blocks_) {
    first_piece_.push_back(first_piece_.back() + block.last_split - block.first_split);
  }
  const int64_t pieces = first_piece_.back();
  const auto attend = [&](const AttentionBlock& block, int first, int last,
                          AttentionState* states) {
    BlockRows rows;
    fill_rows(work, block, rows);
    AttentionArgs args = work.args;
    args.q = rows.q;
    args.begin = rows.begin;
    args.end = rows.end;
    args.rows = block.rows;
    set_keys(block, args);
    kernels_.attend(args, first, last, states);
  };
  if (count >= 4 * pool_.threads() || pieces == count || pool_.threads() == 1) {
    const int64_t grain = std::clamp<int64_t>(count / (8 * pool_.threads()), 1, 64);
    pool_.run(count, grain, [&](int64_t begin, int64_t end, int) {
      alignas(64) float acc[kMaxRows * kMaxHeadDim];
      for (int64_t b = begin; b < end; ++b) {
        AttentionState states[kMaxRows];
        for (int r = 0; r < blocks_[b].rows; ++r) states[r].acc = acc + r * stride;
        attend(blocks_[b], blocks_[b].first_split, blocks_[b].last_split, states);
        finish_rows(work, blocks_[b], states);
      }
    });
    return;
  }
  // Of each piece and row: max, sum, acc.
  const int64_t row_floats = stride + kLanes;
  const int64_t piece_floats = kernels_.attention_rows * row_floats;
  float* saved = states_.floats(pieces * piece_floats);
  const auto state_at = [&](int64_t piece, int row) {
    float* at = saved + piece * piece_floats + row * row_floats;
    return AttentionState{at[stride], at[stride + 1], at};
  };
  pool_.run(pieces, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const auto next = std::upper_bound(first_piece_.begin(), first_piece_.end(), piece);
      const int64_t b = next - first_piece_.begin() - 1;
      const int split = blocks_[b].first_split + static_cast<int>(piece - first_piece_[b]);
      AttentionState states[kMaxRows];
      for (int r = 0; r < blocks_[b].rows; ++r) {
        states[r].acc = saved + piece * piece_floats + r * row_floats;
      }
      attend(blocks_[b], split, split + 1, states);
      for (int r = 0; r < blocks_[b].rows; ++r) {
        states[r].acc[stride] = states[r].max;
        states[r].acc[stride + 1] = states[r].sum;
      }
    }
  });
  for (int64_t b = 0; b < count; ++b) {
    AttentionState states[kMaxRows];
    for (int r = 0; r < blocks_[b].rows; ++r) {
      states[r] = state_at(first_piece_[b], r);
      for (int64_t piece = first_piece_[b] + 1; piece < first_piece_[b + 1]; ++piece) {
        kernels_.merge_attention(states[r], state_at(piece, r), work.args.head_dim);
      }
    }
    finish_rows(work, blocks_[b], states);
  }
}

void Attention::run(const AttentionParams& p) {
  const auto& plan = static_cast<const CpuStepPlan&>(*p.plan);
  const auto& cache = static_cast<const CpuKvCache&>(*p.kv.cache);
  const KvGroup& group = cache.geometry().groups[p.kv.group];
  const GroupBatch& paged = plan.batch.kv[p.kv.group];
  PELTON_CHECK(p.head_dim == group.head_dim && p.head_dim <= kMaxHeadDim, "attention: head size");
  PELTON_CHECK(p.num_q_heads % group.num_kv_heads == 0, "attention: query heads");
  Work work;
  work.plan = &plan;
  work.q = p.q;
  work.out = p.out;
  work.group = p.num_q_heads / group.num_kv_heads;
  work.window = group.window;
  work.causal = true;
  work.sinks = p.sinks;
  work.args.head_dim = p.head_dim;
  work.args.kv_dtype = group.dtype;
  work.args.value_offset = cache.head_bytes(p.kv.group) / 2;
  work.args.block_bytes = cache.geometry().bytes_per_block(p.kv.group);
  work.args.block_size = cache.geometry().block_size;
  work.args.key_stride = work.args.block_size;
  work.args.scale = p.scale;
  work.args.softcap = p.softcap;
  plan_blocks(work, group.num_kv_heads);
  const uint8_t* layer = cache.block(p.kv.group, 0) + cache.layer_offset(p.kv);
  run_blocks(work, [&](const AttentionBlock& block, AttentionArgs& args) {
    args.keys = layer + block.kv_head * cache.head_bytes(p.kv.group);
    args.block_table =
        paged.block_tables.data() + static_cast<int64_t>(block.seq) * paged.max_blocks_per_seq;
  });
}

// Each sequence and head gets its keys transposed and its values copied into one block that holds
// the whole sequence.
void Attention::run_encoder(const EncoderAttentionParams& p) {
  const auto& plan = static_cast<const CpuStepPlan&>(*p.plan);
  PELTON_CHECK(p.head_dim <= kMaxHeadDim && p.num_q_heads % p.num_kv_heads == 0,
               "encoder attention: heads");
  const int num_seqs = plan.batch.num_seqs();
  std::vector<int64_t> first(num_seqs + 1, 0);  // floats of the sequences before
  for (int s = 0; s < num_seqs; ++s) {
    const int64_t tokens = round_up(plan.new_tokens(s), kLanes);
    first[s + 1] = first[s] + 2 * tokens * p.num_kv_heads * p.head_dim;
  }
  float* kv = encoder_kv_.floats(first[num_seqs]);
  const auto head_kv = [&](int seq, int head) {
    return kv + first[seq] + (first[seq + 1] - first[seq]) / p.num_kv_heads * head;
  };
  pool_.run(static_cast<int64_t>(num_seqs) * p.num_kv_heads, 1,
            [&](int64_t begin, int64_t end, int) {
              for (int64_t item = begin; item < end; ++item) {
                const int seq = static_cast<int>(item / p.num_kv_heads);
                const int head = static_cast<int>(item % p.num_kv_heads);
                const int tokens = plan.new_tokens(seq);
                const int stride = round_up(tokens, kLanes);
                float* keys = head_kv(seq, head);
                float* values = keys + static_cast<int64_t>(stride) * p.head_dim;
                for (int t = 0; t < tokens; ++t) {
                  const float* k = p.qkv.row<const float>(plan.batch.query_start_loc[seq] + t) +
                                   static_cast<int64_t>(p.num_q_heads + head) * p.head_dim;
                  const float* v = k + static_cast<int64_t>(p.num_kv_heads) * p.head_dim;
                  for (int d = 0; d < p.head_dim; ++d)
                    keys[static_cast<int64_t>(d) * stride + t] = k[d];
                  std::copy_n(v, p.head_dim, values + static_cast<int64_t>(t) * p.head_dim);
                }
                for (int d = 0; d < p.head_dim; ++d) {
                  std::fill(keys + static_cast<int64_t>(d) * stride + tokens,
                            keys + static_cast<int64_t>(d + 1) * stride, 0.0F);
                }
              }
            });
  Work work;
  work.plan = &plan;
  work.q = p.qkv;
  work.out = p.out;
  work.group = p.num_q_heads / p.num_kv_heads;
  work.window = 0;
  work.causal = false;
  work.sinks = nullptr;
  work.args.head_dim = p.head_dim;
  work.args.kv_dtype = DType::kF32;
  work.args.scale = p.scale;
  plan_blocks(work, p.num_kv_heads);
  const int32_t only_block = 0;
  run_blocks(work, [&](const AttentionBlock& block, AttentionArgs& args) {
    const int stride = round_up(plan.new_tokens(block.seq), kLanes);
    args.keys = reinterpret_cast<const uint8_t*>(head_kv(block.seq, block.kv_head));
    args.value_offset = static_cast<int64_t>(stride) * p.head_dim * sizeof(float);
    args.block_table = &only_block;
    args.block_size = stride;
    args.key_stride = stride;
  });
}

}  // namespace pelton::cpu
