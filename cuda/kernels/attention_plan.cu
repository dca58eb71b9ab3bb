#include "cuda/kernels/attention_plan.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace pelton::cuda {
namespace {

enum class Kind : uint8_t { kDecode, kPrefill };

// Blocks an SM that decode wants in flight to reach the card's bandwidth; prefill fills an SM
// alone.
constexpr int kDecodeBlocksPerSm = 3;
constexpr int kPrefillBlocksPerSm = 1;
constexpr int kSmallestSplitTiles = 2;  // where splits follow the batch

int ceil_of(int64_t a, int64_t b) {
  return static_cast<int>((a + b - 1) / b);
}

int tile_rows(const AttentionShape& shape, Kind kind) {
  if (kind == Kind::kDecode) return kDecodeTileRows;
  return shape.head_dim > 128 ? kWideHeadTileRows : kPrefillTileRows;
}

// Items beyond one a tile that splitting may give.
int extra_items(const AttentionShape& shape, Kind kind) {
  const int blocks = kind == Kind::kDecode ? kDecodeBlocksPerSm : kPrefillBlocksPerSm;
  return ceil_of(static_cast<int64_t>(std::max(1, shape.num_sms)) * blocks, shape.num_kv_heads);
}

// One tile of rows and the positions [begin, end) that its rows see.
struct Tile {
  AttentionItem item;
  int begin = 0;
  int end = 0;
};

class Planner {
 public:
  Planner(const AttentionShape& shape, const AttentionBatch& batch, AttentionPlan& plan)
      : shape_(shape), batch_(batch), plan_(plan), group_(shape.num_q_heads / shape.num_kv_heads) {}

  // Appends the items of one kind; returns how many.
  int add_items(Kind kind) {
    const size_t before = plan_.items.size();
    collect_tiles(kind);
    cut_into_splits(kind);
    const int per_item = splits_per_item(kind);
    const size_t first_merge = merges_.size();
    for (const Tile& tile : tiles_) add_tile(tile, per_item);
    if (batch_.pad) pad(kind, before, first_merge);
    // The longest first, so that none is left for the end.
    std::sort(plan_.items.begin() + static_cast<int64_t>(before), plan_.items.end(),
              [](const AttentionItem& a, const AttentionItem& b) {
                const auto key = [](const AttentionItem& item) {
                  return std::tuple(item.first_split - item.end_split, item.token, item.first_row,
                                    item.first_split);
                };
                return key(a) < key(b);
              });
    return static_cast<int>(plan_.items.size() - before);
  }

  int add_merges() {
    plan_.items.insert(plan_.items.end(), merges_.begin(), merges_.end());
    return static_cast<int>(merges_.size());
  }

 private:
  void collect_tiles(Kind kind) {
    tiles_.clear();
    for (size_t seq = 0; seq < batch_.seq_lens.size(); ++seq) {
      const int first_token = batch_.query_start_loc[seq];
      const int new_tokens = batch_.query_start_loc[seq + 1] - first_token;
      const int rows = new_tokens * group_;
      if ((rows <= kDecodeTileRows) != (kind == Kind::kDecode)) continue;
      const int step = tile_rows(shape_, kind);
      for (int row = 0; row < rows; row += step) {
        Tile tile;
        tile.item.token = first_token;
        tile.item.table = static_cast<int32_t>(seq) * batch_.max_blocks_per_seq;
        tile.item.position = batch_.seq_lens[seq] - new_tokens;
        tile.item.first_row = row;
        tile.item.rows = static_cast<int16_t>(std::min(step, rows - row));
        const int first = tile.item.position + row / group_;
        const int last = tile.item.position + (row + tile.item.rows - 1) / group_;
        tile.begin = shape_.window > 0 ? std::max(0, first - shape_.window + 1) : 0;
        tile.end = std::max(0, last + 1);
        tiles_.push_back(tile);
      }
    }
  }

  int split_tiles(Kind kind) const {
    if (shape_.batch_invariant) return kSplitTokens / kKvTileTokens;
    int64_t tokens = 0;
    for (const Tile& tile : tiles_) tokens += tile.end - tile.begin;
    const int even = ceil_of(tokens, int64_t{extra_items(shape_, kind)} * kKvTileTokens);
    return std::clamp(even, kSmallestSplitTiles, int{INT16_MAX});
  }

  void cut_into_splits(Kind kind) {
    const int split = split_tiles(kind);
    for (Tile& tile : tiles_) {
      tile.item.split_tiles = static_cast<int16_t>(split);
      if (tile.end == 0) continue;
      tile.item.first_split = tile.begin / (split * kKvTileTokens);
      tile.item.end_split = ceil_of(tile.end, int64_t{split} * kKvTileTokens);
    }
  }

  // So that all items together are at most extra_items more than the tiles.
  int splits_per_item(Kind kind) const {
    int64_t splits = 0;
    for (const Tile& tile : tiles_) splits += tile.item.end_split - tile.item.first_split;
    return std::max(1, ceil_of(splits, extra_items(shape_, kind)));
  }

  void add_tile(const Tile& tile, int per_item) {
    const AttentionItem& whole = tile.item;
    const int splits = whole.end_split - whole.first_split;
    const int64_t partial_rows = int64_t{splits} * whole.rows;
    if (splits <= per_item || plan_.partial_rows + partial_rows > shape_.max_partial_rows) {
      plan_.items.push_back(whole);
      return;
    }
    const auto partial = static_cast<int32_t>(plan_.partial_rows);
    plan_.partial_rows += partial_rows;
    const int parts = ceil_of(splits, per_item);
    for (int part = 0; part < parts; ++part) {
      AttentionItem item = whole;
      item.first_split = whole.first_split + splits * part / parts;
      item.end_split = whole.first_split + splits * (part + 1) / parts;
      item.partial = partial + (item.first_split - whole.first_split) * whole.rows;
      plan_.items.push_back(item);
    }
    for (int row = 0; row < whole.rows; ++row) {
      AttentionItem item = whole;
      item.first_row = whole.first_row + row;
      item.partial = partial + row;
      merges_.push_back(item);
    }
  }

  void pad(Kind kind, size_t first_item, size_t first_merge) {
    if (tiles_.empty()) return;
    const int extra = extra_items(shape_, kind);
    const int tiles = static_cast<int>(tiles_.size());
    plan_.items.resize(first_item + tiles + extra);
    int rows = 0;
    for (int i = 0; i < std::min(tiles, extra); ++i) rows += tile_rows(shape_, kind);
    merges_.resize(first_merge + rows);
  }

  const AttentionShape& shape_;
  const AttentionBatch& batch_;
  AttentionPlan& plan_;
  const int group_;
  std::vector<Tile> tiles_;
  std::vector<AttentionItem> merges_;
};

}  // namespace

void plan_attention(const AttentionShape& shape, const AttentionBatch& batch, AttentionPlan& plan) {
  plan.items.clear();
  plan.partial_rows = 0;
  Planner planner(shape, batch, plan);
  plan.num_decode = planner.add_items(Kind::kDecode);
  plan.num_prefill = planner.add_items(Kind::kPrefill);
  plan.num_merge = planner.add_merges();
}

void plan_uncached_attention(const AttentionShape& shape, std::span<const int32_t> query_start_loc,
                             AttentionPlan& plan) {
  plan = {std::move(plan.items)};
  plan.items.clear();
  const int group = shape.num_q_heads / shape.num_kv_heads;
  const int step = tile_rows(shape, Kind::kPrefill);
  for (size_t seq = 0; seq + 1 < query_start_loc.size(); ++seq) {
    AttentionItem item;
    item.token = query_start_loc[seq];
    item.table = query_start_loc[seq + 1] - item.token;
    item.split_tiles = kSplitTokens / kKvTileTokens;
    item.end_split = ceil_of(item.table, kSplitTokens);
    const int rows = item.table * group;
    for (item.first_row = 0; item.first_row < rows; item.first_row += step) {
      item.rows = static_cast<int16_t>(std::min(step, rows - item.first_row));
      plan.items.push_back(item);
    }
  }
  plan.num_prefill = static_cast<int>(plan.items.size());
}

int max_attention_items(const AttentionShape& shape, int num_seqs, int num_tokens) {
  const int group = shape.num_q_heads / shape.num_kv_heads;
  const int wide_rows = tile_rows(shape, Kind::kPrefill);
  const int tiles = num_seqs + ceil_of(int64_t{num_tokens} * group, wide_rows);
  int items = tiles;
  for (const Kind kind : {Kind::kDecode, Kind::kPrefill}) {
    const int extra = extra_items(shape, kind);
    items += extra + std::min(tiles, extra) * tile_rows(shape, kind);
  }
  return items;
}

int64_t wanted_partial_rows(int64_t kv_tokens, int num_seqs) {
  constexpr int kRows = 2 * kDecodeTileRows;
  return (kv_tokens / kSplitTokens + 2 * int64_t{num_seqs}) * kRows;
}

}  // namespace pelton::cuda
