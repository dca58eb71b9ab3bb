// The body of each kernels_*.cc: everything in a namespace of the instruction set and unnamed, so
// that no function compiled for it can be linked into code that runs elsewhere.
#define PELTON_CONCAT_INNER(a, b) a##b
#define PELTON_CONCAT(a, b) PELTON_CONCAT_INNER(a, b)
#define PELTON_STRING_INNER(a) #a
#define PELTON_STRING(a) PELTON_STRING_INNER(a)

namespace pelton::cpu {
namespace PELTON_SIMD_ISA {
namespace {

#include "cpu/kernels/math.inl.h"
//
#include "cpu/kernels/attention_reading.inl.h"
//
#include "cpu/kernels/attention.inl.h"
//
#include "cpu/kernels/attention_tile.inl.h"
//
#include "cpu/kernels/formats.inl.h"
#include "cpu/kernels/linear.inl.h"
#include "cpu/kernels/rows.inl.h"

template <DType kDType>
constexpr void add_format(KernelTable& table) {
  table.gemv[static_cast<int>(kDType)] = gemv<kDType>;
  table.dequantize[static_cast<int>(kDType)] = dequantize_group<kDType>;
}

constexpr KernelTable make_table() {
  KernelTable table = {};
  table.name = PELTON_STRING(PELTON_SIMD_ISA);
  table.gemm_groups = kGemmGroups;
  table.gemm_tokens = kGemmTokens;
  table.gemv_groups = kGemvGroups;
  table.attention_rows = kAttentionRows;
  add_format<DType::kF32>(table);
  add_format<DType::kF16>(table);
  add_format<DType::kBF16>(table);
  add_format<DType::kQ8_0>(table);
  add_format<DType::kQ4_0>(table);
  add_format<DType::kQ4_1>(table);
  add_format<DType::kQ5_0>(table);
  add_format<DType::kQ5_1>(table);
  add_format<DType::kQ4_K>(table);
  add_format<DType::kQ5_K>(table);
  add_format<DType::kQ6_K>(table);
  table.gemm = gemm;
  table.attend = attend;
  table.attend_tile = attend_tile;
  table.merge_attention = merge_attention;
  table.finish_attention = finish_attention;
  table.norm_row = norm_row;
  table.rope_row = rope_row;
  table.activate = activate;
  table.softcap = softcap;
  table.axpy = axpy;
  table.row_max = row_max;
  table.divide = divide;
  table.sampler_weights = sampler_weights;
  table.exp_sum = exp_sum;
  return table;
}

constexpr KernelTable kTable = make_table();

}  // namespace
}  // namespace PELTON_SIMD_ISA

const KernelTable& PELTON_CONCAT(kernels_, PELTON_SIMD_ISA)() {
  return PELTON_SIMD_ISA::kTable;
}

}  // namespace pelton::cpu
