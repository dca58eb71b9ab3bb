// Tiles of 128 rows: eight warps with 16 rows each; 32 rows where head_dim is above 128, four warps
// to 16 rows, so that sums fit the registers and tiles the shared memory of every card.
#include "cuda/kernels/attention_launch.h"
#include "cuda/kernels/attention_variants.h"

namespace pelton::cuda {
namespace {

template <class Element, class Code>
struct PrefillVariants {
  static constexpr int kWideHalves = sizeof(Code) == 1 ? 4 : 2;
  using Head64 = AttentionTile<Element, Code, 64, 8, 1, 4, 1>;
  using Head128 = AttentionTile<Element, Code, 128, 8, 1, 4, 1>;
  using Head256 = AttentionTile<Element, Code, 256, 2, 4, kWideHalves, 1>;
  static_assert(Head64::kRows == kPrefillTileRows && Head128::kRows == kPrefillTileRows);
  static_assert(Head256::kRows == kWideHeadTileRows);

  static cudaError_t launch(const AttentionArgs& args, int items, cudaStream_t stream) {
    return launch_head<Head64, Head128, Head256>(args, items, stream);
  }
};

}  // namespace

cudaError_t launch_attention_prefill(const AttentionArgs& args, ElementType type, KvType kv,
                                     int items, cudaStream_t stream) {
  return launch_by_type<PrefillVariants>(args, type, kv, items, stream);
}

}  // namespace pelton::cuda
