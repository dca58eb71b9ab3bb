#include "cpu/attention.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/check.h"
#include "cpu/kv_cache.h"

namespace pelton::cpu {
namespace {

constexpr int kMaxHeadDim = 512;
constexpr int kMaxDecodeRows = 8;
constexpr int kMaxKept = 256;  // states of one call
constexpr int kMinTileRows = 24;
// Items a thread, so that none waits long for the last one.
constexpr int kItemsPerThread = 8;

int round_up(int value, int unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

struct Attention::BlockRows {
  const float* q[kMaxTileRows];
  int32_t begin[kMaxTileRows];
  int32_t end[kMaxTileRows];
};

void Attention::add_blocks(const Work& work, int seq, int rows_at_once) {
  const Batch& batch = work.plan->batch;
  const int tokens = work.plan->new_tokens(seq);
  const int first_token = batch.query_start_loc[seq];
  const int rows = tokens * work.group;
  for (int row = 0; row < rows; row += rows_at_once) {
    AttentionBlock block;
    block.seq = seq;
    block.first_row = row;
    block.rows = std::min(rows_at_once, rows - row);
    if (work.causal) {
      const int first = batch.positions[first_token + row / work.group];
      const int last = batch.positions[first_token + (row + block.rows - 1) / work.group];
      const int begin = work.window > 0 ? std::max(0, first - work.window + 1) : 0;
      block.first_split = begin / kSplitTokens;
      block.last_split = last / kSplitTokens + 1;
    } else {
      block.last_split = (tokens + kSplitTokens - 1) / kSplitTokens;
    }
    for (block.kv_head = 0; block.kv_head < work.num_kv_heads; ++block.kv_head) {
      blocks_.push_back(block);
    }
  }
}

// Sequences with few rows (decode) are read by attend(), with many by attend_tile(), in tiles small
// enough to go round. Then work is measured in splits times rows: a block of attend() that has more
// than its share is cut along the context.
void Attention::plan_items(const Work& work) {
  const PlanKey key = {work.plan->serial, work.num_kv_heads, work.group, work.window, work.causal};
  if (key == planned_) return;
  planned_ = key;
  blocks_.clear();
  const int few = kernels_.attention_rows;
  int64_t many_rows = 0;
  for (int seq = 0; seq < work.plan->batch.num_seqs(); ++seq) {
    const int rows = work.plan->new_tokens(seq) * work.group;
    if (rows > few) many_rows += static_cast<int64_t>(rows) * work.num_kv_heads;
  }
  int tile = attention_tile_rows(work.args.head_dim);
  while (tile / 2 >= kMinTileRows && many_rows / tile < kItemsPerThread * pool_.threads()) {
    tile /= 2;
  }
  for (int seq = 0; seq < work.plan->batch.num_seqs(); ++seq) {
    const bool many = work.plan->new_tokens(seq) * work.group > few;
    add_blocks(work, seq, many ? tile : few);
  }
  // A split read for one row costs about as much as for four: memory's share.
  const auto cost_of = [](int splits, int rows) { return int64_t{splits} * std::max(rows, 4); };
  int64_t total = 0;
  for (const AttentionBlock& b : blocks_) total += cost_of(b.last_split - b.first_split, b.rows);
  const int64_t share = std::max<int64_t>(total / (kItemsPerThread * pool_.threads()), 1);
  items_.clear();
  num_pieces_ = 0;
  for (int i = 0; i < static_cast<int>(blocks_.size()); ++i) {
    const AttentionBlock& b = blocks_[i];
    const int splits = b.last_split - b.first_split;
    const int pieces = static_cast<int>(
        std::clamp<int64_t>(cost_of(splits, b.rows) / share, 1, pool_.threads() > 1 ? splits : 1));
    if (b.rows > few || pieces == 1) {
      items_.push_back({i, b.first_split, b.last_split, -1});
      continue;
    }
    for (int p = 0; p < pieces; ++p) {
      const int from = splits * p / pieces, to = splits * (p + 1) / pieces;
      items_.push_back({i, b.first_split + from, b.first_split + to, num_pieces_ + from});
    }
    num_pieces_ += splits;
  }
  if (ready_.size() < items_.size()) ready_ = std::vector<std::atomic<int>>(items_.size() * 2);
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

AttentionState Attention::kept_state(const Work& work, int64_t piece, int row) const {
  const int stride = round_up(work.args.head_dim, kLanes);
  float* at = kept_ + (piece * kernels_.attention_rows + row) * (stride + kLanes);
  return {at[stride], at[stride + 1], at};
}

void Attention::keep_apart(const Work& work, const Item& item, AttentionArgs args) const {
  const int stride = round_up(work.args.head_dim, kLanes);
  std::array<AttentionState, kMaxKept> states;
  const int at_once = kMaxKept / args.rows;
  args.apart = true;
  for (int first = item.first; first < item.last; first += at_once) {
    const int last = std::min(first + at_once, item.last);
    const int64_t piece = item.piece + first - item.first;
    const int count = (last - first) * args.rows;
    for (int i = 0; i < count; ++i) {
      states[i] = {0, 0, kept_state(work, piece + i / args.rows, i % args.rows).acc};
    }
    kernels_.attend(args, first, last, states.data());
    for (int i = 0; i < count; ++i) {
      states[i].acc[stride] = states[i].max;
      states[i].acc[stride + 1] = states[i].sum;
    }
  }
}

// The sum of a block lies in the state of its first split.
void Attention::merge_kept(const Work& work, const Item& item) const {
  const AttentionBlock& block = blocks_[item.block];
  const int stride = round_up(work.args.head_dim, kLanes);
  const int64_t sum_piece = item.piece - (item.first - block.first_split);
  for (int r = 0; r < block.rows; ++r) {
    AttentionState sum = kept_state(work, sum_piece, r);
    for (int64_t i = 0; i < item.last - item.first; ++i) {
      kernels_.merge_attention(sum, kept_state(work, item.piece + i, r), work.args.head_dim);
    }
    sum.acc[stride] = sum.max;
    sum.acc[stride + 1] = sum.sum;
  }
}

void Attention::run_cut(const Work& work, int index, AttentionArgs args) {
  const Item* item = &items_[index];
  const AttentionBlock& block = blocks_[item->block];
  const int stride = round_up(work.args.head_dim, kLanes);
  const int64_t sum_piece = item->piece - (item->first - block.first_split);
  if (ready_[index].load(std::memory_order_acquire) == 1) {
    std::array<AttentionState, kMaxDecodeRows> sum;
    for (int r = 0; r < block.rows; ++r) {
      sum[r] = kept_state(work, sum_piece, r);
      if (item->first == block.first_split) sum[r].sum = 0;
    }
    kernels_.attend(args, item->first, item->last, sum.data());
    for (int r = 0; r < block.rows; ++r) {
      sum[r].acc[stride] = sum[r].max;
      sum[r].acc[stride + 1] = sum[r].sum;
    }
  } else {
    keep_apart(work, *item, args);
    if (ready_[index].fetch_add(1, std::memory_order_acq_rel) == 0) return;
    merge_kept(work, *item);
  }
  // On with those that were done before their turn.
  while (item->last < block.last_split) {
    item = &items_[++index];
    if (ready_[index].fetch_add(1, std::memory_order_acq_rel) == 0) return;
    merge_kept(work, *item);
  }
  std::array<AttentionState, kMaxDecodeRows> sum;
  for (int r = 0; r < block.rows; ++r) sum[r] = kept_state(work, sum_piece, r);
  finish_rows(work, block, sum.data());
}

void Attention::run_whole(const Work& work, const Item& item, const AttentionArgs& args,
                          int worker) {
  const int stride = round_up(work.args.head_dim, kLanes);
  std::array<AttentionState, kMaxTileRows> states;
  const int64_t sums = static_cast<int64_t>(args.rows) * stride;
  float* acc = scratch_[worker].floats(attention_tile_floats(args.rows, args.head_dim) + sums);
  for (int r = 0; r < args.rows; ++r) states[r].acc = acc + r * stride;
  if (args.rows > kernels_.attention_rows) {
    kernels_.attend_tile(args, item.first, item.last, states.data(), acc + sums);
  } else {
    kernels_.attend(args, item.first, item.last, states.data());
  }
  finish_rows(work, blocks_[item.block], states.data());
}

template <typename SetKeys>
void Attention::set_next(const Work& work, const Item& item, const Item& next,
                         const SetKeys& set_keys, AttentionArgs& args) const {
  const AttentionBlock& block = blocks_[next.block];
  AttentionArgs other;
  set_keys(block, other);
  args.next_keys = other.keys;
  args.next_block_table = other.block_table;
  args.next_shift = (next.first - (item.last - 1)) * kSplitTokens;
  args.next_end = std::min(next.last * kSplitTokens, work.plan->batch.seq_lens[block.seq]);
}

template <typename SetKeys>
void Attention::add_items(Job& job, const SetKeys& set_keys) {
  const Work& work = work_;
  plan_items(work);
  const int stride = round_up(work.args.head_dim, kLanes);
  kept_ = kept_scratch_.floats(num_pieces_ * kernels_.attention_rows * (stride + kLanes));
  const auto count = static_cast<int64_t>(items_.size());
  for (int64_t i = 0; i < count; ++i) {
    const bool begins = items_[i].first == blocks_[items_[i].block].first_split;
    ready_[i].store(begins ? 1 : 0, std::memory_order_relaxed);
  }
  const int64_t grain = std::clamp<int64_t>(count / (2 * kItemsPerThread * pool_.threads()), 1, 64);
  job.add(count, grain, [=, this, &work](int64_t begin, int64_t end, int worker) {
    BlockRows rows;
    for (int64_t i = begin; i < end; ++i) {
      const AttentionBlock& block = blocks_[items_[i].block];
      fill_rows(work, block, rows);
      AttentionArgs args = work.args;
      args.q = rows.q;
      args.begin = rows.begin;
      args.end = rows.end;
      args.rows = block.rows;
      set_keys(block, args);
      if (work.causal && i + 1 < count) set_next(work, items_[i], items_[i + 1], set_keys, args);
      if (items_[i].piece < 0) {
        run_whole(work, items_[i], args, worker);
      } else {
        run_cut(work, static_cast<int>(i), args);
      }
    }
  });
}

void Attention::run(const AttentionParams& p) {
  job_.clear();
  add(job_, p);
  pool_.run(job_);
}

void Attention::add(Job& job, const AttentionParams& p) {
  const auto& plan = static_cast<const CpuStepPlan&>(*p.plan);
  const auto& cache = static_cast<const CpuKvCache&>(*p.kv.cache);
  const KvGroup& group = cache.geometry().groups[p.kv.group];
  const GroupBatch& paged = plan.batch.kv[p.kv.group];
  PELTON_CHECK(p.head_dim == group.head_dim && p.head_dim <= kMaxHeadDim, "attention: head size");
  PELTON_CHECK(p.num_q_heads % group.num_kv_heads == 0, "attention: query heads");
  Work& work = work_;
  work = {};
  work.plan = &plan;
  work.q = p.q;
  work.out = p.out;
  work.group = p.num_q_heads / group.num_kv_heads;
  work.num_kv_heads = group.num_kv_heads;
  work.window = group.window;
  work.causal = true;
  work.sinks = p.sinks;
  work.args.head_dim = p.head_dim;
  work.args.kv_dtype = group.dtype;
  work.args.value_offset = cache.value_offset(p.kv.group);
  work.args.scale_offset = cache.scale_offset(p.kv.group);
  work.args.block_bytes = cache.geometry().bytes_per_block(p.kv.group);
  work.args.block_size = cache.geometry().block_size;
  work.args.key_stride = work.args.block_size;
  work.args.scale = p.scale;
  work.args.softcap = p.softcap;
  const uint8_t* layer = cache.block(p.kv.group, 0) + cache.layer_offset(p.kv);
  const int64_t head_bytes = cache.head_bytes(p.kv.group);
  add_items(job, [=, &paged](const AttentionBlock& block, AttentionArgs& args) {
    args.keys = layer + block.kv_head * head_bytes;
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
  Work& work = work_;
  work = {};
  work.plan = &plan;
  work.q = p.qkv;
  work.out = p.out;
  work.group = p.num_q_heads / p.num_kv_heads;
  work.num_kv_heads = p.num_kv_heads;
  work.window = 0;
  work.causal = false;
  work.sinks = nullptr;
  work.args.head_dim = p.head_dim;
  work.args.kv_dtype = DType::kF32;
  work.args.scale = p.scale;
  const int32_t only_block = 0;
  job_.clear();
  add_items(job_, [&](const AttentionBlock& block, AttentionArgs& args) {
    const int stride = round_up(plan.new_tokens(block.seq), kLanes);
    args.keys = reinterpret_cast<const uint8_t*>(head_kv(block.seq, block.kv_head));
    args.value_offset = static_cast<int64_t>(stride) * p.head_dim * sizeof(float);
    args.block_table = &only_block;
    args.block_size = stride;
    args.key_stride = stride;
  });
  pool_.run(job_);
}

}  // namespace pelton::cpu
