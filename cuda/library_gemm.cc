#include "cuda/library_gemm.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cuda/cuda_status.h"
#include "cuda/kernels/fp8_rows.h"

namespace pelton::cuda {
namespace {

constexpr int64_t kWorkspaceLimit = int64_t{32} << 20;
constexpr int kCandidates = 8;
constexpr int kTimedRuns = 3;
constexpr std::string_view kCacheVersion = "pelton-gemm-3";
constexpr int kAlignment = 16;  // bytes, of a product's operands
constexpr int kFp8Rows = 16;    // the library's fp8 products take such multiples

// UNIMPLEMENTED: it does not do this product so, and has done nothing.
Status library_status(int status, std::string_view what) {
  if (status == cublaslt::kSuccess) return Status();
  const std::string text = fmt::format("{}: cuBLASLt's status {}", what, status);
  const bool refused = status == cublaslt::kInvalidValue || status == cublaslt::kArchMismatch ||
                       status == cublaslt::kNotSupported;
  return refused ? absl::UnimplementedError(text) : absl::InternalError(text);
}

cudaDataType data_type(ElementType type) {
  return type == ElementType::kBF16 ? CUDA_R_16BF : CUDA_R_16F;
}

bool is_fp8(const LinearParams& params) {
  return params.format == WeightFormat::kF8_128;
}

// An fp8 product's operands as the library takes them, at the start of the workspace.
struct Fp8Operands {
  Fp8Operands(void* memory, int n, int k, int m) {
    auto* at = static_cast<std::byte*>(memory);
    const auto take = [&at](int64_t bytes) {
      return std::exchange(at, at + (bytes + 255) / 256 * 256);
    };
    w = reinterpret_cast<uint8_t*>(take(int64_t{n} * k));
    x = reinterpret_cast<uint8_t*>(take(int64_t{m} * k));
    w_scales = reinterpret_cast<float*>(take(int64_t{4} * n * (k / kFp8Group)));
    x_scales = reinterpret_cast<float*>(take(int64_t{4} * m * (k / kFp8Group)));
    end = at;
  }
  cudaError_t fill(const LinearParams& p, cudaStream_t stream) const {
    const cudaError_t error = unpack_fp8({p.weights, w, w_scales, p.n, p.k}, stream);
    if (error != cudaSuccess) return error;
    return quantize_fp8({p.type, p.x, p.x_stride, x, x_scales, p.m, p.k}, stream);
  }
  uint8_t *w, *x;              // [n, k], [m, k]
  float *w_scales, *x_scales;  // [k / 128, n], [k / 128, m]
  std::byte* end;
};

int64_t operand_bytes(const LibraryGemm::Shape& shape, int m) {
  if (!shape.fp8) return 0;
  const Fp8Operands from_zero(nullptr, shape.n, shape.k, m);
  return reinterpret_cast<intptr_t>(from_zero.end);
}

// The layouts of one product, column-major as the library has it: out [n, m] = w [k, n]^T x [k, m].
class Layouts {
 public:
  explicit Layouts(const CublasLt& library) : library_(library) {}
  ~Layouts() {
    for (void* layout : {w, x, out}) {
      if (layout != nullptr) library_.MatrixLayoutDestroy(layout);
    }
  }
  Layouts(const Layouts&) = delete;
  Layouts& operator=(const Layouts&) = delete;
  Status make(const LinearParams& p) {
    const auto m = static_cast<uint64_t>(p.m), n = static_cast<uint64_t>(p.n);
    const auto k = static_cast<uint64_t>(p.k);
    const cudaDataType type = data_type(p.type);
    const bool fp8 = is_fp8(p);
    const cudaDataType in = fp8 ? CUDA_R_8F_E4M3 : type;
    int status = library_.MatrixLayoutCreate(&w, in, k, n, fp8 ? p.k : row_elements_16(p.k));
    if (status == 0) status = library_.MatrixLayoutCreate(&x, in, k, m, fp8 ? p.k : p.x_stride);
    if (status == 0) {
      status = library_.MatrixLayoutCreate(&out, p.out_f32 ? CUDA_R_32F : type, n, m, p.out_stride);
    }
    return library_status(status, "describing a product");
  }
  void* w = nullptr;
  void* x = nullptr;
  void* out = nullptr;

 private:
  const CublasLt& library_;
};

}  // namespace

int LibraryGemm::bucket(int m) {
  int size = 16;
  while (size < m) size *= 2;
  return size;
}

StatusOr<std::unique_ptr<LibraryGemm>> LibraryGemm::make(const CublasLt& library, ElementType type,
                                                         cudaStream_t stream,
                                                         std::string cache_file, std::string card) {
  std::unique_ptr<LibraryGemm> out(
      new LibraryGemm(library, type, stream, std::move(cache_file), std::move(card)));
  PELTON_RETURN_IF_ERROR(out->open());
  out->load();
  return out;
}

LibraryGemm::LibraryGemm(const CublasLt& library, ElementType type, cudaStream_t stream,
                         std::string cache_file, std::string card)
    : library_(library),
      type_(type),
      stream_(stream),
      cache_file_(std::move(cache_file)),
      card_(std::move(card)) {}

LibraryGemm::~LibraryGemm() {
  if (preference_ != nullptr) library_.MatmulPreferenceDestroy(preference_);
  for (void* desc : {desc_, desc_fp8_}) {
    if (desc != nullptr) library_.MatmulDescDestroy(desc);
  }
  if (handle_ != nullptr) library_.Destroy(handle_);
}

Status LibraryGemm::open() {
  const auto ok = [](int status) { return library_status(status, "starting cuBLASLt"); };
  PELTON_RETURN_IF_ERROR(ok(library_.Create(&handle_)));
  PELTON_RETURN_IF_ERROR(make_desc(desc_));
  PELTON_RETURN_IF_ERROR(ok(library_.MatmulPreferenceCreate(&preference_)));
  const uint64_t limit = kWorkspaceLimit;
  PELTON_RETURN_IF_ERROR(ok(library_.MatmulPreferenceSetAttribute(
      preference_, cublaslt::kPrefMaxWorkspaceBytes, &limit, sizeof(limit))));
  const uint32_t ordered = cublaslt::kOrderedReductions;
  PELTON_RETURN_IF_ERROR(ok(library_.MatmulPreferenceSetAttribute(
      preference_, cublaslt::kPrefReductionSchemeMask, &ordered, sizeof(ordered))));
  // Unless told so it offers what needs 256 bytes; a step's rows begin anywhere at 16.
  const uint32_t alignment = kAlignment;
  for (const int attribute : cublaslt::kPrefMinAlignments) {
    PELTON_RETURN_IF_ERROR(ok(library_.MatmulPreferenceSetAttribute(
        preference_, attribute, &alignment, sizeof(alignment))));
  }
  PELTON_ASSIGN_OR_RETURN(start_, make_timing_event());
  PELTON_ASSIGN_OR_RETURN(stop_, make_timing_event());
  return Status();
}

Status LibraryGemm::make_desc(void*& desc) {
  const auto ok = [](int status) { return library_status(status, "starting cuBLASLt"); };
  PELTON_RETURN_IF_ERROR(ok(library_.MatmulDescCreate(&desc, cublaslt::kCompute32F, CUDA_R_32F)));
  const int32_t transposed = cublaslt::kOpT;
  return ok(library_.MatmulDescSetAttribute(desc, cublaslt::kDescTransA, &transposed,
                                            sizeof(transposed)));
}

// The library wants to know where scales are before it offers anything.
Status LibraryGemm::set_scales(const LinearParams& params, void* workspace) {
  const Fp8Operands operands(workspace, params.n, params.k, params.m);
  if (desc_fp8_ == nullptr) PELTON_RETURN_IF_ERROR(make_desc(desc_fp8_));
  int status = 0;
  const auto set = [&](int attribute, const auto& value) {
    if (status == 0) {
      status = library_.MatmulDescSetAttribute(desc_fp8_, attribute, &value, sizeof(value));
    }
  };
  set(cublaslt::kDescScaleModeA, cublaslt::kScaleOf128);
  set(cublaslt::kDescScaleModeB, cublaslt::kScaleOf128);
  set(cublaslt::kDescScalePointerA, operands.w_scales);
  set(cublaslt::kDescScalePointerB, operands.x_scales);
  return library_status(status, "the scales of an fp8 product");
}

std::vector<cublaslt::Heuristic> LibraryGemm::candidates(const LinearParams& params,
                                                         void* workspace) {
  const bool fp8 = is_fp8(params);
  if (fp8 && !set_scales(params, workspace).ok()) return {};  // an older library
  Layouts layouts(library_);
  if (!layouts.make(params).ok()) return {};
  std::vector<cublaslt::Heuristic> results(kCandidates);
  int found = 0;
  const int status = library_.MatmulAlgoGetHeuristic(
      handle_, fp8 ? desc_fp8_ : desc_, layouts.w, layouts.x, layouts.out, layouts.out, preference_,
      kCandidates, results.data(), &found);
  results.resize(static_cast<size_t>(status == cublaslt::kSuccess ? found : 0));
  std::erase_if(results, [](const cublaslt::Heuristic& h) {
    return h.state != 0 || h.workspace_bytes > static_cast<size_t>(kWorkspaceLimit);
  });
  return results;
}

Status LibraryGemm::multiply(const LinearParams& params, const Choice& choice, void* workspace) {
  if (!choice.library) return cuda_status(linear(params, stream_), "linear");
  Layouts layouts(library_);
  PELTON_RETURN_IF_ERROR(layouts.make(params));
  const void *w = params.weights, *x = params.x;
  if (is_fp8(params)) {
    const Fp8Operands operands(workspace, params.n, params.k, params.m);
    PELTON_RETURN_IF_CUDA_ERROR(operands.fill(params, stream_), "the operands of an fp8 product");
    PELTON_RETURN_IF_ERROR(set_scales(params, workspace));
    w = operands.w;
    x = operands.x;
    workspace = operands.end;
  }
  const float one = 1, zero = 0;
  // C is not read: beta is 0.
  return library_status(
      library_.Matmul(handle_, is_fp8(params) ? desc_fp8_ : desc_, &one, w, layouts.w, x, layouts.x,
                      &zero, params.out, layouts.out, params.out, layouts.out, &choice.algorithm,
                      workspace, choice.workspace_bytes, stream_),
      "a product by cuBLASLt");
}

StatusOr<float> LibraryGemm::time(const LinearParams& params, const Choice& choice,
                                  void* workspace) {
  float best = 0;
  for (int run = 0; run <= kTimedRuns; ++run) {  // the first warms up
    PELTON_RETURN_IF_CUDA_ERROR(cudaEventRecord(start_.get(), stream_), "timing a product");
    PELTON_RETURN_IF_ERROR(multiply(params, choice, workspace));
    PELTON_RETURN_IF_CUDA_ERROR(cudaEventRecord(stop_.get(), stream_), "timing a product");
    PELTON_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(stop_.get()), "timing a product");
    float ms = 0;
    PELTON_RETURN_IF_CUDA_ERROR(cudaEventElapsedTime(&ms, start_.get(), stop_.get()),
                                "timing a product");
    if (run == 1 || (run > 1 && ms < best)) best = ms;
  }
  return best * 1000;
}

// A candidate that the library offers and then refuses is passed over; the device's errors are not.
StatusOr<LibraryGemm::Choice> LibraryGemm::measure(const LinearParams& params, void* workspace) {
  Choice best;
  PELTON_ASSIGN_OR_RETURN(float best_us, time(params, best, workspace));
  best_us *= own_handicap_;
  for (const cublaslt::Heuristic& candidate : candidates(params, workspace)) {
    const Choice choice = {true, candidate.algorithm, candidate.workspace_bytes};
    const StatusOr<float> us = time(params, choice, workspace);
    if (!us.ok()) {
      PELTON_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_), "timing a product");
      continue;
    }
    if (*us < best_us) {
      best = choice;
      best_us = *us;
    }
  }
  return best;
}

Status LibraryGemm::tune(const Shape& shape, const void* weights, int max_m,
                         std::shared_ptr<DeviceArena> arena) {
  const int last = bucket(max_m);
  const auto known = [&](int size) { return choices_.count({shape, size}) != 0; };
  bool missing = false;
  for (int size = bucket(kMinRows); size <= last; size *= 2) missing = missing || !known(size);
  if (max_m < kMinRows) return Status();
  largest_[shape] = last;
  if (!missing) return Status();

  const int64_t x_bytes = int64_t{2} * last * row_elements_16(shape.k);
  const int64_t out_bytes = int64_t{shape.out_f32 ? 4 : 2} * last * shape.n;
  PELTON_ASSIGN_OR_RETURN(const DevicePiece x, arena->allocate_at_end(x_bytes));
  PELTON_ASSIGN_OR_RETURN(const DevicePiece out, arena->allocate_at_end(out_bytes));
  const StatusOr<DevicePiece> workspace =
      arena->allocate_at_end(operand_bytes(shape, last) + kWorkspaceLimit);
  if (!workspace.ok()) return shape.fp8 ? Status() : workspace.status();  // the own kernels do
  PELTON_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(x.data(), 0, static_cast<size_t>(x_bytes), stream_),
                              "timing products");
  LinearParams params;
  params.type = type_;
  params.format = shape.fp8 ? WeightFormat::kF8_128 : WeightFormat::k16Bit;
  params.weights = weights;
  params.x = x.data();
  params.x_stride = row_elements_16(shape.k);
  params.out = out.data();
  params.out_stride = shape.n;
  params.out_f32 = shape.out_f32;
  params.n = shape.n;
  params.k = shape.k;
  Status status;
  for (int size = bucket(kMinRows); size <= last && status.ok(); size *= 2) {
    if (known(size)) continue;
    params.m = size;
    StatusOr<Choice> choice = measure(params, workspace->data());
    status = choice.status();
    if (choice.ok()) choices_[{shape, size}] = *choice;
    changed_ = true;
  }
  const Status waited = cuda_status(cudaStreamSynchronize(stream_), "timing products");
  return status.ok() ? waited : status;
}

int64_t LibraryGemm::workspace_of(const Key& key, const Choice& choice) {
  if (!choice.library) return 0;
  return operand_bytes(key.shape, key.bucket) + static_cast<int64_t>(choice.workspace_bytes);
}

Status LibraryGemm::reserve(std::shared_ptr<DeviceArena> arena) {
  int64_t bytes = 0;
  for (const auto& [key, choice] : choices_) {
    const auto used = largest_.find(key.shape);  // not what another model left in the file
    if (used == largest_.end() || key.bucket > used->second) continue;
    bytes = std::max(bytes, workspace_of(key, choice));
  }
  PELTON_ASSIGN_OR_RETURN(workspace_, arena->allocate(bytes));
  return Status();
}

StatusOr<bool> LibraryGemm::run(const LinearParams& params) {
  // The library's choice was made for rows that start at 16 bytes, and it adds no float32 bias.
  const auto aligned = [](const void* data, int64_t stride) {
    return reinterpret_cast<uintptr_t>(data) % kAlignment == 0 && stride % 8 == 0;
  };
  const bool fp8 = is_fp8(params);
  const bool fits = (params.format == WeightFormat::k16Bit || fp8) && params.bias == nullptr &&
                    params.m >= (fp8 ? kFp8Rows : kMinRows) && aligned(params.x, params.x_stride) &&
                    aligned(params.out, params.out_stride);
  if (!fits) return false;
  const auto found = choices_.find({{params.n, params.k, params.out_f32, fp8}, bucket(params.m)});
  if (found == choices_.end() || !found->second.library ||
      workspace_of(found->first, found->second) > workspace_.bytes() ||
      refused_.contains({found->first, params.m})) {
    return false;
  }
  LinearParams whole = params;
  if (fp8) whole.m = params.m / kFp8Rows * kFp8Rows;
  const Status done = multiply(whole, found->second, workspace_.data());
  if (done.code() == absl::StatusCode::kUnimplemented) {
    // What it offered for the largest batch of this size it need not do for this one.
    refused_.insert({found->first, params.m});
    return false;
  }
  PELTON_RETURN_IF_ERROR(done);
  if (whole.m == params.m) return true;
  LinearParams rest = params;
  rest.m = params.m - whole.m;
  rest.x = static_cast<const std::byte*>(params.x) + 2 * whole.m * params.x_stride;
  rest.out =
      static_cast<std::byte*>(params.out) + (params.out_f32 ? 4 : 2) * whole.m * params.out_stride;
  PELTON_RETURN_IF_CUDA_ERROR(linear(rest, stream_), "linear");
  return true;
}

int LibraryGemm::chosen() const {
  return static_cast<int>(std::count_if(choices_.begin(), choices_.end(),
                                        [](const auto& entry) { return entry.second.library; }));
}

std::string LibraryGemm::cache_header() const {
  return fmt::format("{} {} {} {}", kCacheVersion, library_.GetVersion(),
                     type_ == ElementType::kBF16 ? "bf16" : "f16", card_);
}

void LibraryGemm::load() {
  if (!cache_file_.empty()) {
    choices_ = read_gemm_choices(cache_file_, cache_header(), kWorkspaceLimit);
  }
}

void LibraryGemm::save() {
  if (cache_file_.empty() || !changed_) return;
  write_gemm_choices(cache_file_, cache_header(), choices_);
  changed_ = false;
}

}  // namespace pelton::cuda
