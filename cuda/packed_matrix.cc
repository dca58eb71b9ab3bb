#include "cuda/packed_matrix.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/check.h"
#include "cuda/cuda_status.h"
#include "cuda/kernels/random_rows.h"
#include "cuda/kernels/repack.h"

namespace pelton::cuda {

struct StoredAs {
  WeightFormat format;
  SourceType source;
  bool operator==(const StoredAs&) const = default;
};

// Rows of several sources, one after the other.
class RowWalk {
 public:
  explicit RowWalk(std::span<const RowSource* const> sources) : sources_(sources) {}
  // Up to `count` rows in parts: take(source, first row, rows, rows before it). How many there
  // were.
  template <typename Take>
  int64_t next(int64_t count, Take take) {
    int64_t done = 0;
    while (done < count && !sources_.empty()) {
      const RowSource& source = *sources_.front();
      const int64_t part = std::min(count - done, source.rows() - row_);
      take(source, row_, part, done);
      done += part;
      row_ += part;
      if (row_ == source.rows()) {
        source.release();
        sources_ = sources_.subspan(1);
        row_ = 0;
      }
    }
    return done;
  }

 private:
  std::span<const RowSource* const> sources_;
  int64_t row_ = 0;
};

namespace {

constexpr int64_t kVectorBufferBytes = int64_t{1} << 20;

std::optional<StoredAs> stored_as(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return StoredAs{WeightFormat::k16Bit, SourceType::kF32};
    case DType::kF16:
      return StoredAs{WeightFormat::k16Bit, SourceType::kF16};
    case DType::kBF16:
      return StoredAs{WeightFormat::k16Bit, SourceType::kBF16};
    case DType::kQ8_0:
      return StoredAs{WeightFormat::kQ8_0, SourceType::kBlocks};
    case DType::kQ4_0:
      return StoredAs{WeightFormat::kQ4_0, SourceType::kBlocks};
    case DType::kQ4_1:
      return StoredAs{WeightFormat::kQ4_1, SourceType::kBlocks};
    case DType::kQ5_0:
      return StoredAs{WeightFormat::kQ5_0, SourceType::kBlocks};
    case DType::kQ5_1:
      return StoredAs{WeightFormat::kQ5_1, SourceType::kBlocks};
    case DType::kQ4_K:
      return StoredAs{WeightFormat::kQ4_K, SourceType::kBlocks};
    case DType::kQ5_K:
      return StoredAs{WeightFormat::kQ5_K, SourceType::kBlocks};
    case DType::kQ6_K:
      return StoredAs{WeightFormat::kQ6_K, SourceType::kBlocks};
    case DType::kF8_128:
      return StoredAs{WeightFormat::kF8_128, SourceType::kBlocks};
    case DType::kI4_128:
      return StoredAs{WeightFormat::kI4_128, SourceType::kBlocks};
    default:
      return std::nullopt;
  }
}

bool all_random(std::span<const RowSource* const> sources) {
  return std::all_of(sources.begin(), sources.end(),
                     [](const RowSource* source) { return source->random_rows().has_value(); });
}

}  // namespace

bool has_weight_format(DType dtype) {
  return stored_as(dtype).has_value();
}

PackedMatrix::PackedMatrix(int64_t rows, int64_t cols, std::vector<Segment> segments)
    : rows_(rows), cols_(cols), segments_(std::move(segments)) {
  for (const Segment& segment : segments_) bytes_ += segment.data.bytes();
}

StatusOr<std::unique_ptr<WeightLoader>> WeightLoader::make(std::shared_ptr<DeviceArena> arena,
                                                           ElementType type, cudaStream_t compute,
                                                           int64_t buffer_bytes) {
  std::unique_ptr<WeightLoader> loader(
      new WeightLoader(std::move(arena), type, compute, buffer_bytes));
  PELTON_ASSIGN_OR_RETURN(loader->stream_, make_stream());
  PELTON_ASSIGN_OR_RETURN(loader->order_, make_event());
  PELTON_ASSIGN_OR_RETURN(loader->vectors_free_, make_event());
  for (Half& half : loader->halves_) {
    PELTON_ASSIGN_OR_RETURN(half.free, make_event());
  }
  return loader;
}

WeightLoader::WeightLoader(std::shared_ptr<DeviceArena> arena, ElementType type,
                           cudaStream_t compute, int64_t buffer_bytes)
    : arena_(std::move(arena)), type_(type), compute_(compute), buffer_bytes_(buffer_bytes) {}

Status WeightLoader::take_buffers(int64_t bytes) {
  for (Half& half : halves_) {
    if (half.host.bytes() >= bytes) continue;
    if (half.used) {
      PELTON_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(half.free.get()), "loading weights");
    }
    half.used = false;
    half.device.reset();
    PELTON_ASSIGN_OR_RETURN(half.host, Pinned::make(bytes));
    PELTON_ASSIGN_OR_RETURN(half.device, arena_->allocate_at_end(bytes));
  }
  return Status();
}

Status WeightLoader::finish() {
  PELTON_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_.get()), "loading weights");
  for (Half& half : halves_) {
    half.used = false;
    half.host = Pinned();
    half.device.reset();
  }
  vectors_ = Pinned();
  vectors_used_ = 0;
  return Status();
}

// What used this memory before may still run.
Status WeightLoader::begin() {
  PELTON_RETURN_IF_CUDA_ERROR(cudaEventRecord(order_.get(), compute_), "loading weights");
  return cuda_status(cudaStreamWaitEvent(stream_.get(), order_.get(), 0), "loading weights");
}

Status WeightLoader::end() {
  PELTON_RETURN_IF_CUDA_ERROR(cudaEventRecord(order_.get(), stream_.get()), "loading weights");
  return cuda_status(cudaStreamWaitEvent(compute_, order_.get(), 0), "loading weights");
}

// Not from the caller's memory: a copy out of memory that is not pinned may make the host wait for
// the stream.
Status WeightLoader::upload(std::span<const std::byte> host, std::byte* device) {
  if (host.empty()) return Status();
  if (vectors_.data() == nullptr) {
    PELTON_ASSIGN_OR_RETURN(vectors_, Pinned::make(kVectorBufferBytes));
  }
  PELTON_RETURN_IF_ERROR(begin());
  Status status = copy_vector(host, device);
  if (status.ok()) status = end();
  if (!status.ok()) cudaStreamSynchronize(stream_.get());  // before the memory goes back
  return status;
}

Status WeightLoader::copy_vector(std::span<const std::byte> host, std::byte* device) {
  for (size_t done = 0; done < host.size();) {
    if (vectors_used_ == vectors_.bytes()) {
      PELTON_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(vectors_free_.get()), "loading vectors");
      vectors_used_ = 0;
    }
    const size_t part =
        std::min(host.size() - done, static_cast<size_t>(vectors_.bytes() - vectors_used_));
    std::byte* staged = vectors_.data() + vectors_used_;
    std::copy_n(host.data() + done, part, staged);
    PELTON_RETURN_IF_CUDA_ERROR(
        cudaMemcpyAsync(device + done, staged, part, cudaMemcpyHostToDevice, stream_.get()),
        "copying vectors to the card");
    PELTON_RETURN_IF_CUDA_ERROR(cudaEventRecord(vectors_free_.get(), stream_.get()),
                                "loading vectors");
    vectors_used_ += static_cast<int64_t>(part);
    done += part;
  }
  return Status();
}

StatusOr<std::unique_ptr<PackedMatrix>> WeightLoader::pack(
    std::span<const RowSource* const> sources) {
  if (sources.empty()) return absl::InvalidArgumentError("a matrix of no rows");
  const int64_t cols = sources[0]->cols();
  std::vector<PackedMatrix::Segment> segments;
  std::vector<std::span<const RowSource* const>> runs;
  int64_t rows = 0;
  std::optional<StoredAs> last;
  for (size_t i = 0; i < sources.size(); ++i) {
    const RowSource& source = *sources[i];
    const std::optional<StoredAs> stored = stored_as(source.dtype());
    if (!stored || source.cols() != cols) {
      return absl::InvalidArgumentError("a weight of a type or width that has no kernel");
    }
    if (stored == last) {
      segments.back().rows += source.rows();
      runs.back() = {runs.back().data(), runs.back().size() + 1};
    } else {
      segments.push_back({stored->format, rows, source.rows(), {}});
      runs.push_back(sources.subspan(i, 1));
    }
    last = stored;
    rows += source.rows();
  }
  for (PackedMatrix::Segment& segment : segments) {
    PELTON_ASSIGN_OR_RETURN(segment.data,
                            arena_->allocate(packed_bytes(segment.format, segment.rows, cols)));
  }
  PELTON_RETURN_IF_ERROR(begin());
  Status status;
  for (size_t i = 0; i < segments.size() && status.ok(); ++i) {
    status = load(runs[i], segments[i], cols);
  }
  if (status.ok()) status = end();
  if (!status.ok()) {
    cudaStreamSynchronize(stream_.get());  // before the memory goes back
    return status;
  }
  return std::make_unique<PackedMatrix>(rows, cols, std::move(segments));
}

StatusOr<int64_t> WeightLoader::copy_rows(RowWalk& walk, int64_t row_bytes, int64_t wanted,
                                          const Half& half) {
  const int64_t count =
      walk.next(wanted, [&](const RowSource& source, int64_t first, int64_t rows, int64_t before) {
        source.read_rows(first, first + rows, half.host.data() + before * row_bytes);
      });
  PELTON_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(half.device.data(), half.host.data(), static_cast<size_t>(count * row_bytes),
                      cudaMemcpyHostToDevice, stream_.get()),
      "copying weights to the card");
  return count;
}

StatusOr<int64_t> WeightLoader::make_random(RowWalk& walk, const StoredAs& stored, int64_t cols,
                                            int64_t wanted, const Half& half) {
  Status status;
  const int64_t count =
      walk.next(wanted, [&](const RowSource& source, int64_t first, int64_t rows, int64_t before) {
        const RandomRows random = *source.random_rows();
        RandomRowsParams params;
        params.format = stored.format;
        params.source = stored.source;
        params.seed = random.seed;
        params.amplitude = random.amplitude;
        params.row_begin = first;
        params.num_rows = rows;
        params.k = cols;
        params.rows = half.device.data() + before * dtype_bytes(source.dtype(), cols);
        if (status.ok()) {
          status = cuda_status(random_rows(params, stream_.get()), "making dummy weights");
        }
      });
  if (!status.ok()) return status;
  return count;
}

Status WeightLoader::load(std::span<const RowSource* const> sources,
                          const PackedMatrix::Segment& segment, int64_t cols) {
  const StoredAs stored = *stored_as(sources[0]->dtype());
  const int64_t row_bytes = dtype_bytes(sources[0]->dtype(), cols);
  const int64_t tile_bytes = row_bytes * kTileRows;
  const int64_t step = std::max<int64_t>(1, buffer_bytes_ / tile_bytes) * kTileRows;
  PELTON_RETURN_IF_ERROR(take_buffers(std::max(buffer_bytes_, tile_bytes)));
  RowWalk walk(sources);
  const bool random = all_random(sources);
  for (int64_t begin = 0; begin < segment.rows; begin += step) {
    Half& half = halves_[next_];
    next_ = 1 - next_;
    if (half.used) {
      PELTON_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(half.free.get()), "loading weights");
    }
    int64_t count = 0;
    if (random) {
      PELTON_ASSIGN_OR_RETURN(
          count, make_random(walk, stored, cols, std::min(step, segment.rows - begin), half));
    } else {
      PELTON_ASSIGN_OR_RETURN(
          count, copy_rows(walk, row_bytes, std::min(step, segment.rows - begin), half));
    }
    RepackParams params;
    params.format = segment.format;
    params.type = type_;
    params.source = stored.source;
    params.rows = half.device.data();
    params.row_begin = begin;
    params.num_rows = count;
    params.k = cols;
    params.packed = segment.data.data();
    PELTON_RETURN_IF_CUDA_ERROR(repack(params, stream_.get()), "repacking weights");
    PELTON_RETURN_IF_CUDA_ERROR(cudaEventRecord(half.free.get(), stream_.get()), "loading weights");
    half.used = true;
  }
  return Status();
}

}  // namespace pelton::cuda
