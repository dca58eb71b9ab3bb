// Tiles of 16 rows: four warps share the rows, each with a quarter of the keys and of head_dim.
#include "cuda/kernels/attention_launch.h"
#include "cuda/kernels/attention_variants.h"

namespace pelton::cuda {
namespace {

template <class Element, class Code>
struct DecodeVariants {
  static constexpr int kWideHalves = sizeof(Code) == 1 ? 4 : 2;
  using Head64 = AttentionTile<Element, Code, 64, 1, 4, 4, 4>;
  using Head128 = AttentionTile<Element, Code, 128, 1, 4, 4, 3>;
  using Head256 = AttentionTile<Element, Code, 256, 1, 4, kWideHalves, 2>;
  static_assert(Head64::kRows == kDecodeTileRows && Head256::kRows == kDecodeTileRows);

  static cudaError_t launch(const AttentionArgs& args, int items, cudaStream_t stream) {
    return launch_head<Head64, Head128, Head256>(args, items, stream);
  }
};

}  // namespace

cudaError_t launch_attention_decode(const AttentionArgs& args, ElementType type, KvType kv,
                                    int items, cudaStream_t stream) {
  return launch_by_type<DecodeVariants>(args, type, kv, items, stream);
}

}  // namespace pelton::cuda
