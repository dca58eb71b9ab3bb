// Products of 16-bit and fp8 weights by cuBLASLt where it is faster than the own kernels: for each
// shape and size of batch the candidates are timed once at start and the choice is kept on disk. A
// row's result then depends on the number of rows: used only without --batch-invariant. Engine
// thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/status.h"
#include "cuda/cublaslt_api.h"
#include "cuda/device_arena.h"
#include "cuda/gemm_choices.h"
#include "cuda/handles.h"
#include "cuda/kernels/linear.h"

namespace pelton::cuda {

class LibraryGemm {
 public:
  // `cache_file`: where choices are kept; empty: nowhere. `card`: what they were measured on.
  static StatusOr<std::unique_ptr<LibraryGemm>> make(const CublasLt& library, ElementType type,
                                                     cudaStream_t stream, std::string cache_file,
                                                     std::string card);
  ~LibraryGemm();
  LibraryGemm(const LibraryGemm&) = delete;
  LibraryGemm& operator=(const LibraryGemm&) = delete;

  // Choices for a matrix of the model; m goes up to `max_m`. `weights` are read while timing,
  // memory for x and out is taken from the arena and given back. Waits for the stream.
  // fp8: weights of kF8_128. Activations are rounded to e4m3 too, with a scale for each 128 of a
  // row; the weights are laid out in rows for the product, which counts in its time.
  using Shape = GemmShape;
  Status tune(const Shape& shape, const void* weights, int max_m, std::shared_ptr<DeviceArena>);
  // The workspace of all algorithms that were chosen; once, after the last tune().
  Status reserve(std::shared_ptr<DeviceArena> arena);
  // Writes new choices to the cache file.
  void save();

  // False: not chosen for this product or refused by the library, nothing was done. fp8: whole
  // sixteens of rows, the others by the own kernels.
  StatusOr<bool> run(const LinearParams& params);

  // The own kernels count as so many times slower than they were measured: tests, whose times on
  // the host mean nothing, make the library win by it.
  void set_own_handicap(float times) { own_handicap_ = times; }

  static constexpr int kMinRows = 9;  // fewer are the narrow kernel's: it reads each weight once
  static int bucket(int m);           // the size of batch that stands for m: a power of two
  int chosen() const;                 // shapes and sizes that go to the library, for tests

 private:
  using Key = GemmKey;
  using Choice = GemmChoice;
  // Bytes that a product of this choice needs beside its operands' own memory.
  static int64_t workspace_of(const Key& key, const Choice& choice);
  LibraryGemm(const CublasLt& library, ElementType type, cudaStream_t stream,
              std::string cache_file, std::string card);
  Status open();
  std::string cache_header() const;
  void load();
  Status make_desc(void*& desc);
  Status set_scales(const LinearParams& params, void* workspace);
  std::vector<cublaslt::Heuristic> candidates(const LinearParams& params, void* workspace);
  Status multiply(const LinearParams& params, const Choice& choice, void* workspace);
  // Microseconds of one product, the best of a few.
  StatusOr<float> time(const LinearParams& params, const Choice& choice, void* workspace);
  StatusOr<Choice> measure(const LinearParams& params, void* workspace);

  const CublasLt& library_;
  const ElementType type_;
  const cudaStream_t stream_;
  const std::string cache_file_, card_;
  void* handle_ = nullptr;
  void* desc_ = nullptr;        // w transposed
  void* desc_fp8_ = nullptr;    // the same with scales
  void* preference_ = nullptr;  // kWorkspaceLimit
  Event start_, stop_;          // with timing
  GemmChoices choices_;
  std::set<std::pair<Key, int>> refused_;  // numbers of rows that the library did not do after all
  std::map<Shape, int> largest_;           // of the model's shapes: the largest bucket
  float own_handicap_ = 1;
  bool changed_ = false;
  DevicePiece workspace_;
};

}  // namespace pelton::cuda
