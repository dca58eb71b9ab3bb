// Products of 16-bit weights by cuBLASLt where it is faster than the own kernels: for each shape
// and size of batch the candidates are timed once at start and the choice is kept on disk. A row's
// result then depends on the number of rows: used only without --batch-invariant. Engine thread.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "cuda/cublaslt_api.h"
#include "cuda/device_arena.h"
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
  struct Shape {
    int n = 0, k = 0;
    bool out_f32 = false;
    auto operator<=>(const Shape&) const = default;
  };
  Status tune(const Shape& shape, const void* weights, int max_m, std::shared_ptr<DeviceArena>);
  // The workspace of all algorithms that were chosen; once, after the last tune().
  Status reserve(std::shared_ptr<DeviceArena> arena);
  // Writes new choices to the cache file. Not being able to is no error: they are measured again.
  void save() const;

  // False: not chosen for this product, nothing was done.
  StatusOr<bool> run(const LinearParams& params);

  static constexpr int kMinRows = 9;  // fewer are the narrow kernel's: it reads each weight once
  static int bucket(int m);           // the size of batch that stands for m: a power of two
  int chosen() const;                 // shapes and sizes that go to the library, for tests

 private:
  struct Key {
    Shape shape;
    int bucket = 0;
    auto operator<=>(const Key&) const = default;
  };
  struct Choice {
    bool library = false;
    cublaslt::Algorithm algorithm{};
    size_t workspace_bytes = 0;
  };
  LibraryGemm(const CublasLt& library, ElementType type, cudaStream_t stream,
              std::string cache_file, std::string card);
  Status open();
  std::string cache_header() const;
  void load();
  std::vector<cublaslt::Heuristic> candidates(const LinearParams& params);
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
  void* preference_ = nullptr;  // kWorkspaceLimit
  Event start_, stop_;          // with timing
  std::map<Key, Choice> choices_;
  mutable bool changed_ = false;
  DevicePiece workspace_;
};

}  // namespace pelton::cuda
