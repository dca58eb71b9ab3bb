// Cuts the attention of one step into work items, once for all layers of a KV group. Host code, any
// thread, no CUDA calls. The cut decides who computes what, never the bits of a result: see
// attention.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pelton::cuda {

inline constexpr int kKvTileTokens = 64;    // keys that enter the running softmax together
inline constexpr int kSplitTokens = 256;    // of --batch-invariant; a multiple of the tile
inline constexpr int kDecodeTileRows = 16;  // one matrix tile of rows
inline constexpr int kPrefillTileRows = 128;
inline constexpr int kWideHeadTileRows = 32;  // the same where head_dim > 128

// Rows of one tile: row r of a sequence is query token r / group, query head kv_head * group +
// r % group, where group = num_q_heads / num_kv_heads. The item holds for every KV head.
// Splits are runs of split_tiles * kKvTileTokens positions, counted from position 0.
struct AttentionItem {
  int32_t token = 0;     // first new token of the sequence, a row of q and out
  int32_t table = 0;     // where the sequence's block table starts; of an encoder its length
  int32_t position = 0;  // of that token in its sequence
  int32_t first_row = 0;
  int16_t rows = 0;  // 0: nothing to do (padding)
  int16_t split_tiles = 0;
  int32_t first_split = 0;
  int32_t end_split = 0;
  // First row of the partial results of first_split, then rows a split; -1: the item holds every
  // split that its rows see and writes `out`.
  int32_t partial = -1;
};
static_assert(sizeof(AttentionItem) == 32);

// What stays the same from step to step.
struct AttentionShape {
  int num_q_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int window = 0;   // positions that a query looks back over, itself included; 0: all
  int num_sms = 0;  // of the card
  bool batch_invariant = true;
  int64_t max_partial_rows = 0;  // room in the workspace; beyond it tiles are not split
};

struct AttentionBatch {
  std::span<const int32_t> query_start_loc;  // [num_seqs + 1]
  std::span<const int32_t> seq_lens;         // [num_seqs]; 0 with new tokens: their output is 0
  int max_blocks_per_seq = 0;                // row stride of the block tables
  // Pads the items with empty ones so that the numbers of them depend on query_start_loc alone:
  // for a captured graph whose items are replaced.
  bool pad = false;
};

// items: decode, then prefill, then merge (one a row: first_row is that row, partial its first
// partial row, rows the step to its next); to be copied to the device in one go.
struct AttentionPlan {
  std::vector<AttentionItem> items;
  int num_decode = 0;
  int num_prefill = 0;
  int num_merge = 0;
  int64_t partial_rows = 0;  // in use; at most shape.max_partial_rows
};

// Keeps the capacity of `plan`.
void plan_attention(const AttentionShape& shape, const AttentionBatch& batch, AttentionPlan& plan);

// The same for uncached_attention.h: every token sees its whole sequence; one item a tile, never
// split.
void plan_uncached_attention(const AttentionShape& shape, std::span<const int32_t> query_start_loc,
                             AttentionPlan& plan);

// The most items that any batch of so many sequences and new tokens can give.
int max_attention_items(const AttentionShape& shape, int num_seqs, int num_tokens);

// Partial rows that let every decoding sequence be split when `kv_tokens` are in the cache and at
// most `num_seqs` sequences run (attention_workspace_bytes says what they take).
int64_t wanted_partial_rows(int64_t kv_tokens, int num_seqs);

}  // namespace pelton::cuda
