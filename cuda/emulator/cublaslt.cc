// cuBLASLt's matrix product in float32, as far as Pelton calls it: column-major, A transposed or
// not, bf16, f16 and f32 data, and e4m3 with a scale for each 128 of k as sm_90 has it. Under the
// library's own names and ABI, where a program that opens the library finds them. An attribute that
// is not emulated is refused. Thread-safe.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime_api.h>
#include <library_types.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "cuda/emulator/emulator.h"
#include "cuda/emulator/runtime_state.h"
#include "cuda/emulator/stream_work.h"

namespace pelton::cuda::emulator {
namespace {

struct LtAlgorithm {  // cublasLtMatmulAlgo_t
  uint64_t data[8];
};
struct LtHeuristic {  // cublasLtMatmulHeuristicResult_t
  LtAlgorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};

// cublasStatus_t
constexpr int kSuccess = 0, kNotInitialized = 1, kInvalidValue = 7, kExecutionFailed = 13,
              kNotSupported = 15;
constexpr int kCompute32F = 68;
// Every algorithm wants this much, so that a missing workspace shows.
constexpr size_t kWorkspaceBytes = 1024;
constexpr uint64_t kAlgorithmMark = 0x50454C544F4E0000ULL;

struct Handle {
  int unused = 0;
};
constexpr int32_t kScaleOf128 = 4;
constexpr uint64_t kScaled = 128;
struct Desc {
  bool transpose_a = false;
  int32_t scale_mode[2] = {0, 0};  // of a and b
  const float* scales[2] = {nullptr, nullptr};
  bool scaled() const { return scale_mode[0] == kScaleOf128 && scale_mode[1] == kScaleOf128; }
};
struct Layout {
  cudaDataType type;
  uint64_t rows, cols;
  int64_t ld;

  size_t element_bytes() const { return type == CUDA_R_32F ? 4 : type == CUDA_R_8F_E4M3 ? 1 : 2; }
  size_t span_bytes() const {
    return rows == 0 || cols == 0
               ? 0
               : ((cols - 1) * static_cast<uint64_t>(ld) + rows) * element_bytes();
  }
};
constexpr int kOperands = 4;  // a, b, c, d
struct Preference {
  size_t workspace_bytes = 0;
  uint32_t alignment[kOperands] = {256, 256, 256, 256};  // bytes, the library's own default
};

// Columns of a product that is refused; 0: none.
std::atomic<uint64_t>& refused_product() {
  static std::atomic<uint64_t> columns = 0;
  return columns;
}

bool known_type(cudaDataType type) {
  return type == CUDA_R_16BF || type == CUDA_R_16F || type == CUDA_R_32F || type == CUDA_R_8F_E4M3;
}

float load(const void* data, cudaDataType type, uint64_t index) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[index];
  if (type == CUDA_R_8F_E4M3) {
    const __nv_fp8_storage_t code = static_cast<const __nv_fp8_storage_t*>(data)[index];
    return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3)));
  }
  uint16_t bits;
  std::memcpy(&bits, static_cast<const uint16_t*>(data) + index, sizeof(bits));
  if (type == CUDA_R_16BF) {
    __nv_bfloat16_raw raw;
    raw.x = bits;
    return __bfloat162float(raw);
  }
  __half_raw raw;
  raw.x = bits;
  return __half2float(raw);
}

void store(void* data, cudaDataType type, uint64_t index, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[index] = value;
    return;
  }
  uint16_t bits;
  if (type == CUDA_R_16BF) {
    bits = static_cast<__nv_bfloat16_raw>(__float2bfloat16(value)).x;
  } else {
    bits = static_cast<__half_raw>(__float2half_rn(value)).x;
  }
  std::memcpy(static_cast<uint16_t*>(data) + index, &bits, sizeof(bits));
}

// d [rows, cols] = op(a) b, column-major; one chain of float32 sums an element.
struct Product {
  Desc desc;
  const void* a;
  Layout a_layout;
  const void* b;
  Layout b_layout;
  void* d;
  Layout d_layout;

  bool fits() const {
    const uint64_t m = desc.transpose_a ? a_layout.cols : a_layout.rows;
    const uint64_t k = desc.transpose_a ? a_layout.rows : a_layout.cols;
    return m == d_layout.rows && k == b_layout.rows && b_layout.cols == d_layout.cols;
  }
  // As the library has it for e4m3, and nothing scaled for the other types.
  bool supported() const {
    const bool fp8 = a_layout.type == CUDA_R_8F_E4M3;
    if (d_layout.type == CUDA_R_8F_E4M3 || fp8 != (b_layout.type == CUDA_R_8F_E4M3)) return false;
    if (!fp8) return desc.scale_mode[0] == 0 && desc.scale_mode[1] == 0;
    const uint64_t sizes = a_layout.rows | a_layout.cols | b_layout.cols;
    return desc.scaled() && desc.scales[0] != nullptr && desc.scales[1] != nullptr &&
           desc.transpose_a && sizes % 16 == 0 && Runtime::get().card.major == 9;
  }
  // Scales of one group of 128: those of all rows of an operand, back to back.
  float scale(int operand, uint64_t group, uint64_t rows, uint64_t row) const {
    return desc.scaled() ? desc.scales[operand][group * rows + row] : 1;
  }
  bool holds_scales(const DeviceMemory& memory) const {
    if (!desc.scaled()) return true;
    const uint64_t groups = (b_layout.rows + kScaled - 1) / kScaled;
    const uint64_t rows[2] = {d_layout.rows, d_layout.cols};
    for (int i = 0; i < 2; ++i) {
      if (!memory.holds(const_cast<float*>(desc.scales[i]), 4 * groups * rows[i])) return false;
    }
    return true;
  }
  cudaError_t run() const {
    const DeviceMemory& memory = Runtime::get().memory;
    if (!holds_scales(memory)) return cudaErrorIllegalAddress;
    if (!memory.holds(const_cast<void*>(a), a_layout.span_bytes()) ||
        !memory.holds(const_cast<void*>(b), b_layout.span_bytes()) ||
        !memory.holds(d, d_layout.span_bytes())) {
      return cudaErrorIllegalAddress;
    }
    const auto a_ld = static_cast<uint64_t>(a_layout.ld), b_ld = static_cast<uint64_t>(b_layout.ld);
    for (uint64_t col = 0; col < d_layout.cols; ++col) {
      for (uint64_t row = 0; row < d_layout.rows; ++row) {
        float sum = 0;
        for (uint64_t begin = 0; begin < b_layout.rows; begin += kScaled) {
          float part = desc.scaled() ? 0 : sum;  // one chain where nothing is scaled
          for (uint64_t k = begin; k < std::min(begin + kScaled, b_layout.rows); ++k) {
            const uint64_t at = desc.transpose_a ? row * a_ld + k : k * a_ld + row;
            part += load(a, a_layout.type, at) * load(b, b_layout.type, col * b_ld + k);
          }
          const uint64_t group = begin / kScaled;
          sum = desc.scaled() ? sum + part * scale(0, group, d_layout.rows, row) *
                                          scale(1, group, d_layout.cols, col)
                              : part;
        }
        store(d, d_layout.type, col * static_cast<uint64_t>(d_layout.ld) + row, sum);
      }
    }
    return cudaSuccess;
  }
};

template <typename Object>
int make(const char* call_name, void** out, Object object) {
  const Call call(call_name);
  if (call.failed()) return kNotInitialized;
  *out = new Object(object);
  Runtime::get().library_handles.insert(*out);
  return kSuccess;
}
template <typename Object>
int drop(const char* call_name, void* object) {
  const Call call(call_name);
  if (Runtime::get().library_handles.erase(object) == 0) return kInvalidValue;
  delete static_cast<Object*>(object);
  return call.failed() ? kExecutionFailed : kSuccess;
}
bool exists(void* object) {
  return Runtime::get().library_handles.count(object) != 0;
}

}  // namespace

void refuse_product(int columns) {
  refused_product() = static_cast<uint64_t>(columns);
}

extern "C" {

size_t cublasLtGetVersion() {
  return 130100;
}
int cublasLtCreate(void** handle) {
  return make("cublasLtCreate", handle, Handle{});
}
int cublasLtDestroy(void* handle) {
  return drop<Handle>("cublasLtDestroy", handle);
}

int cublasLtMatmulDescCreate(void** desc, int compute_type, cudaDataType scale_type) {
  if (compute_type != kCompute32F || scale_type != CUDA_R_32F) return kNotSupported;
  return make("cublasLtMatmulDescCreate", desc, Desc{});
}
int cublasLtMatmulDescDestroy(void* desc) {
  return drop<Desc>("cublasLtMatmulDescDestroy", desc);
}
int cublasLtMatmulDescSetAttribute(void* desc, int attribute, const void* value, size_t bytes) {
  const Call call("cublasLtMatmulDescSetAttribute");
  if (call.failed() || !exists(desc)) return kInvalidValue;
  Desc& of = *static_cast<Desc*>(desc);
  if (attribute == 17 || attribute == 18) {  // A_SCALE_POINTER, B_SCALE_POINTER
    if (bytes != sizeof(void*)) return kInvalidValue;
    std::memcpy(&of.scales[attribute - 17], value, bytes);
    return kSuccess;
  }
  if (bytes != sizeof(int32_t)) return kInvalidValue;
  int32_t operation = 0;
  std::memcpy(&operation, value, sizeof(operation));
  if (attribute == 31 || attribute == 32) {  // A_SCALE_MODE, B_SCALE_MODE
    if (operation != 0 && operation != kScaleOf128) return kNotSupported;
    of.scale_mode[attribute - 31] = operation;
    return kSuccess;
  }
  if (operation != 0 && operation != 1) return kInvalidValue;
  if (attribute == 3) {  // TRANSA
    of.transpose_a = operation == 1;
    return kSuccess;
  }
  return attribute == 4 && operation == 0 ? kSuccess : kNotSupported;  // TRANSB
}

int cublasLtMatrixLayoutCreate(void** layout, cudaDataType type, uint64_t rows, uint64_t cols,
                               int64_t ld) {
  if (!known_type(type)) return kNotSupported;
  if (ld < static_cast<int64_t>(rows)) return kInvalidValue;
  return make("cublasLtMatrixLayoutCreate", layout, Layout{type, rows, cols, ld});
}
int cublasLtMatrixLayoutDestroy(void* layout) {
  return drop<Layout>("cublasLtMatrixLayoutDestroy", layout);
}

int cublasLtMatmulPreferenceCreate(void** preference) {
  return make("cublasLtMatmulPreferenceCreate", preference, Preference{});
}
int cublasLtMatmulPreferenceDestroy(void* preference) {
  return drop<Preference>("cublasLtMatmulPreferenceDestroy", preference);
}
int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value,
                                         size_t bytes) {
  const Call call("cublasLtMatmulPreferenceSetAttribute");
  if (call.failed() || !exists(preference)) return kInvalidValue;
  if (attribute == 1 && bytes == sizeof(uint64_t)) {  // MAX_WORKSPACE_BYTES
    std::memcpy(&static_cast<Preference*>(preference)->workspace_bytes, value, bytes);
    return kSuccess;
  }
  if (bytes != sizeof(uint32_t)) return kNotSupported;
  if (attribute >= 5 && attribute < 5 + kOperands) {  // MIN_ALIGNMENT_A_BYTES ..
    std::memcpy(&static_cast<Preference*>(preference)->alignment[attribute - 5], value, bytes);
    return kSuccess;
  }
  return attribute == 3 ? kSuccess : kNotSupported;  // REDUCTION_SCHEME
}

int cublasLtMatmulAlgoGetHeuristic(void* handle, void* desc, void* a, void* b, void* c, void* d,
                                   void* preference, int wanted, LtHeuristic* results, int* found) {
  const Call call("cublasLtMatmulAlgoGetHeuristic");
  for (void* object : {handle, desc, a, b, c, d, preference}) {
    if (!exists(object)) return kInvalidValue;
  }
  if (call.failed()) return kExecutionFailed;
  *found = 0;
  const Product product = {*static_cast<Desc*>(desc), nullptr, *static_cast<Layout*>(a), nullptr,
                           *static_cast<Layout*>(b),  nullptr, *static_cast<Layout*>(d)};
  if (!product.supported() ||
      static_cast<Preference*>(preference)->workspace_bytes < kWorkspaceBytes) {
    return kNotSupported;
  }
  for (; *found < std::min(wanted, 2); ++*found) {
    LtHeuristic& result = results[*found];
    result = {};
    result.algorithm.data[0] = kAlgorithmMark + static_cast<uint64_t>(*found);
    for (int i = 0; i < kOperands; ++i) {
      result.algorithm.data[1 + i] = static_cast<Preference*>(preference)->alignment[i];
    }
    result.workspace_bytes = kWorkspaceBytes;
  }
  return kSuccess;
}

int cublasLtMatmul(void* handle, void* desc, const void* alpha, const void* a, void* a_layout,
                   const void* b, void* b_layout, const void* beta, const void* c, void* c_layout,
                   void* d, void* d_layout, const LtAlgorithm* algorithm, void* workspace,
                   size_t workspace_bytes, cudaStream_t stream) {
  {
    const Call call("cublasLtMatmul");
    for (void* object : {handle, desc, a_layout, b_layout, c_layout, d_layout}) {
      if (!exists(object)) return kInvalidValue;
    }
    if (call.failed()) return kExecutionFailed;
  }
  float one = 0, zero = 1;
  std::memcpy(&one, alpha, sizeof(one));
  std::memcpy(&zero, beta, sizeof(zero));
  if (one != 1 || zero != 0 || c != d) return kNotSupported;
  if (algorithm == nullptr || (algorithm->data[0] & ~uint64_t{0xFFFF}) != kAlgorithmMark ||
      workspace == nullptr || workspace_bytes < kWorkspaceBytes) {
    return kInvalidValue;
  }
  const Product product = {*static_cast<Desc*>(desc),       a, *static_cast<Layout*>(a_layout), b,
                           *static_cast<Layout*>(b_layout), d, *static_cast<Layout*>(d_layout)};
  if (!product.fits()) return kInvalidValue;
  if (!product.supported() || product.d_layout.cols == refused_product().load()) {
    return kNotSupported;
  }
  const void* operands[kOperands] = {a, b, c, d};
  for (int i = 0; i < kOperands; ++i) {  // an algorithm that needs more than it is given
    const uint64_t alignment = algorithm->data[1 + i];
    if (alignment == 0 || reinterpret_cast<uintptr_t>(operands[i]) % alignment != 0) {
      return kNotSupported;
    }
  }
  Work work;
  work.name = "cublasLtMatmul";
  work.kernel = reinterpret_cast<const void*>(&cublasLtMatmul);
  work.run = [product] { return product.run(); };
  return enqueue(stream, std::move(work)) == cudaSuccess ? kSuccess : kExecutionFailed;
}

}  // extern "C"

}  // namespace pelton::cuda::emulator
