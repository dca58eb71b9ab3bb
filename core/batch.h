// One step's work for the model: a ragged batch over the paged KV cache. Built by the scheduler,
// passed explicitly to every rank that runs the step; never a global. A plain value.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ids.h"

namespace pelton {

struct BlockCopy {
  BlockId from;
  BlockId to;
};

// The paged view of one KV group (kv_geometry.h).
struct GroupBatch {
  std::vector<int32_t> slot_mapping;  // [num_tokens] block_id * block_size + offset; -1: no write
  // [num_seqs, max_blocks_per_seq], -1 padded. With a sliding window the entries of blocks that lie
  // wholly before it may be -1: no kernel reads them.
  std::vector<int32_t> block_tables;
  int32_t max_blocks_per_seq = 0;
  std::vector<BlockCopy> copies;  // copy-on-write, to be done before anything is written
};

// A token that the step before drew. Its id need not have come to the host yet.
struct DrawnToken {
  int32_t index;  // into Batch::tokens, which holds 0 there
  int32_t row;    // of the last sample(), whose result is the id
};

struct Batch {
  std::vector<TokenId> tokens;           // [num_tokens] the new tokens, sequence after sequence
  std::vector<int32_t> positions;        // [num_tokens] position of each in its sequence
  std::vector<int32_t> query_start_loc;  // [num_seqs + 1] prefix sum of new tokens per sequence
  std::vector<int32_t> seq_lens;         // [num_seqs] cached plus new tokens
  std::vector<int32_t> logit_rows;       // [num_logit_rows] indices into tokens, ascending
  std::vector<AdapterId> adapters;       // [num_seqs], or empty: base model everywhere
  std::vector<DrawnToken> drawn;         // ascending by index; empty unless steps overlap
  std::vector<GroupBatch> kv;            // [num_kv_groups]

  int num_tokens() const { return static_cast<int>(tokens.size()); }
  int num_seqs() const { return static_cast<int>(seq_lens.size()); }
  bool empty() const { return tokens.empty(); }
};

}  // namespace pelton
