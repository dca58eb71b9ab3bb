// A KV cache in tests: each slot remembers which token was written into it, and at which position.
// What a query sees is read back through the block tables, so any paging error changes it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/kv_geometry.h"

namespace pelton {

inline uint64_t mix64(uint64_t x) {  // splitmix64's finaliser
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

// What a query at `position` sees of `tokens` in a cache without fault.
inline uint64_t expected_history(const KvGeometry& geometry, std::span<const TokenId> tokens,
                                 int position) {
  uint64_t hash = 0;
  for (const KvGroup& group : geometry.groups) {
    const int from = group.window == 0 ? 0 : std::max(0, position + 1 - group.window);
    for (int p = from; p <= position; ++p) {
      hash = mix64(hash ^ static_cast<uint64_t>(tokens[static_cast<size_t>(p)]));
    }
  }
  return hash;
}

class FakeKvMemory {
 public:
  FakeKvMemory(KvGeometry geometry, std::span<const int> num_blocks)
      : geometry_(std::move(geometry)) {
    for (const int blocks : num_blocks) {
      slots_.emplace_back(static_cast<size_t>(blocks) * geometry_.block_size);
    }
  }

  // Does the batch's copies, then its writes.
  void write(const Batch& batch) {
    const auto size = static_cast<size_t>(geometry_.block_size);
    for (size_t g = 0; g < slots_.size(); ++g) {
      std::vector<Slot>& slots = slots_[g];
      for (const BlockCopy& copy : batch.kv[g].copies) {
        const auto from = slots.begin() + static_cast<int64_t>(copy.from.value * size);
        std::copy(from, from + static_cast<int64_t>(size),
                  slots.begin() + static_cast<int64_t>(copy.to.value * size));
      }
      ++round_;
      for (size_t t = 0; t < batch.tokens.size(); ++t) {
        const int32_t slot = batch.kv[g].slot_mapping[t];
        if (slot < 0 || slot >= static_cast<int32_t>(slots.size())) {
          fail("slot out of range");
          continue;
        }
        Slot& s = slots[static_cast<size_t>(slot)];
        if (s.round == round_) fail("a slot is written twice in a step");
        s = {batch.tokens[t], batch.positions[t], round_};
      }
    }
  }

  // What a query of sequence `seq` at `position` sees.
  uint64_t read(const Batch& batch, int seq, int position) {
    uint64_t hash = 0;
    for (size_t g = 0; g < slots_.size(); ++g) {
      const int window = geometry_.groups[g].window;
      const int from = window == 0 ? 0 : std::max(0, position + 1 - window);
      const GroupBatch& kv = batch.kv[g];
      for (int p = from; p <= position; ++p) {
        const int index = p / geometry_.block_size;
        const int32_t block =
            index < kv.max_blocks_per_seq
                ? kv.block_tables[static_cast<size_t>(seq) * kv.max_blocks_per_seq + index]
                : -1;
        if (block < 0) {
          fail("no block for a position that is seen");
          continue;
        }
        const Slot& s =
            slots_[g][static_cast<size_t>(block) * geometry_.block_size + p % geometry_.block_size];
        if (s.position != p) fail("a slot holds another position");
        hash = mix64(hash ^ static_cast<uint64_t>(s.token));
      }
    }
    return hash;
  }

  const std::string& error() const { return error_; }  // the first fault seen; empty: none

 private:
  struct Slot {
    TokenId token = -1;
    int position = -1;
    uint64_t round = 0;
  };
  void fail(const char* what) {
    if (error_.empty()) error_ = what;
  }

  KvGeometry geometry_;
  std::vector<std::vector<Slot>> slots_;
  uint64_t round_ = 0;
  std::string error_;
};

}  // namespace pelton
