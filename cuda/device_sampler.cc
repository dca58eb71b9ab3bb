#include "cuda/device_sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/random.h"
#include "cuda/cuda_status.h"

namespace pelton::cuda {
namespace {

constexpr int kBannedPerRow = 16;  // in the mean; a row with more takes a mask

int64_t aligned(int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}
int64_t mask_words(int vocab) {
  return (vocab + 31) / 32;
}

}  // namespace

StatusOr<std::unique_ptr<DeviceSampler>> DeviceSampler::make(std::shared_ptr<DeviceArena> arena,
                                                             cudaStream_t stream) {
  std::unique_ptr<DeviceSampler> sampler(new DeviceSampler(std::move(arena), stream));
  PELTON_ASSIGN_OR_RETURN(sampler->done_, make_event());
  return sampler;
}

DeviceSampler::DeviceSampler(std::shared_ptr<DeviceArena> arena, cudaStream_t stream)
    : arena_(std::move(arena)), stream_(stream) {}

DeviceSampler::Layout DeviceSampler::layout_of(int max_rows, int vocab, int max_banned) {
  const int64_t rows = max_rows;
  Layout layout;
  layout.banned = aligned(rows * static_cast<int64_t>(sizeof(SampleTask)));
  layout.masks = layout.banned + aligned(max_banned * int64_t{4});
  layout.input_bytes = layout.masks + aligned(rows * mask_words(vocab) * 4);
  layout.top = aligned(rows * static_cast<int64_t>(sizeof(SampleResult)));
  layout.output_bytes =
      layout.top + rows * kMaxTopLogprobs * static_cast<int64_t>(sizeof(TopLogprob));
  return layout;
}

Status DeviceSampler::reserve(int max_rows, int vocab) {
  return grow(max_rows, vocab);
}

Status DeviceSampler::grow(int rows, int vocab) {
  if (rows <= max_rows_ && vocab <= vocab_) return Status();
  if (sealed_) return absl::InternalError("more rows are to be sampled than was reserved for");
  PELTON_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_), "sampling");
  rows = std::max(rows, max_rows_);
  vocab = std::max(vocab, vocab_);
  const int banned = rows * kBannedPerRow;
  const Layout layout = layout_of(rows, vocab, banned);
  max_rows_ = 0;  // should one of these fail
  PELTON_ASSIGN_OR_RETURN(host_input_, Pinned::make(layout.input_bytes));
  PELTON_ASSIGN_OR_RETURN(host_output_, Pinned::make(layout.output_bytes));
  input_.reset();
  output_.reset();
  work_.reset();
  token_piece_.reset();
  PELTON_ASSIGN_OR_RETURN(input_, arena_->allocate(layout.input_bytes));
  PELTON_ASSIGN_OR_RETURN(output_, arena_->allocate(layout.output_bytes));
  PELTON_ASSIGN_OR_RETURN(token_piece_, arena_->allocate(rows * int64_t{4}));
  PELTON_ASSIGN_OR_RETURN(work_, arena_->allocate(sample_workspace_bytes(rows, vocab)));
  tokens_ = token_piece_.as<int32_t>();
  layout_ = layout;
  max_rows_ = rows;
  vocab_ = vocab;
  max_banned_ = banned;
  return Status();
}

// Banned ids beyond the room for them go into a mask of the row.
Status DeviceSampler::write_tasks(std::span<const SampleRow> rows, int vocab,
                                  SampleParams& params) {
  auto* out = reinterpret_cast<SampleTask*>(host_input_.data());
  auto* banned = reinterpret_cast<int32_t*>(host_input_.data() + layout_.banned);
  auto* masks = reinterpret_cast<uint32_t*>(host_input_.data() + layout_.masks);
  const int64_t words = mask_words(vocab);
  int num_banned = 0, num_masks = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const SampleRow& row = rows[i];
    SampleTask task;
    task.logit_row = row.logit_row;
    task.temperature = row.temperature;
    task.top_k = row.top_k;
    task.top_p = row.top_p;
    task.min_weight = static_cast<uint32_t>(
        std::ceil(static_cast<double>(std::clamp(row.min_p, 0.0F, 1.0F)) * kSamplerOne));
    task.uniform = counter_uniform(row.seed, row.position);
    task.logprobs = std::min(row.logprobs, kMaxTopLogprobs);
    task.forced_token = row.forced_token;
    const auto count = static_cast<int>(row.banned.size());
    const bool listed = num_banned + count <= max_banned_;
    if (!row.mask.empty() || !listed) {
      uint32_t* mask = masks + num_masks * words;
      task.mask = num_masks++;
      if (row.mask.empty()) {
        std::fill_n(mask, words, ~uint32_t{0});
      } else {
        if (static_cast<int64_t>(row.mask.size()) < words) {
          return absl::InternalError("a mask of another vocabulary");
        }
        std::copy_n(row.mask.begin(), words, mask);
      }
      if (!listed) {
        for (const TokenId id : row.banned) mask[id / 32] &= ~(uint32_t{1} << (id % 32));
      }
    }
    task.banned_begin = num_banned;
    if (listed) {
      std::copy(row.banned.begin(), row.banned.end(), banned + num_banned);
      num_banned += count;
    }
    task.banned_end = num_banned;
    out[i] = task;
    logprobs_.push_back(task.logprobs);
    params.max_top = std::max(params.max_top, task.logprobs);
  }
  const int64_t used = num_masks > 0 ? layout_.masks + num_masks * words * 4
                                     : layout_.banned + num_banned * int64_t{4};
  return cuda_status(cudaMemcpyAsync(input_.data(), host_input_.data(), static_cast<size_t>(used),
                                     cudaMemcpyHostToDevice, stream_),
                     "sampling");
}

Status DeviceSampler::sample(const Tensor& logits, std::span<const SampleRow> rows,
                             StepClock* clock) {
  num_rows_ = 0;
  logprobs_.clear();
  if (rows.empty()) return Status();
  const auto vocab = static_cast<int>(logits.cols);
  const auto count = static_cast<int>(rows.size());
  vocab_of_last_ = vocab;
  PELTON_RETURN_IF_ERROR(grow(count, vocab));
  SampleParams params;
  PELTON_RETURN_IF_ERROR(write_tasks(rows, vocab, params));
  params.logits = static_cast<const float*>(logits.data);
  params.logits_stride = logits.row_stride;
  params.vocab = vocab;
  params.tasks = input_.as<SampleTask>();
  params.num_tasks = count;
  params.banned = reinterpret_cast<const int32_t*>(input_.data() + layout_.banned);
  params.masks = reinterpret_cast<const uint32_t*>(input_.data() + layout_.masks);
  params.tokens = tokens_;
  params.results = output_.as<SampleResult>();
  params.top = reinterpret_cast<TopLogprob*>(output_.data() + layout_.top);
  params.workspace = work_.data();
  PELTON_RETURN_IF_CUDA_ERROR(sample_tokens(params, stream_), "sampling");
  if (clock != nullptr) PELTON_RETURN_IF_ERROR(clock->end(stream_));
  const int64_t bytes =
      params.max_top > 0
          ? layout_.top + int64_t{count} * params.max_top * static_cast<int64_t>(sizeof(TopLogprob))
          : count * static_cast<int64_t>(sizeof(SampleResult));
  PELTON_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(host_output_.data(), output_.data(), static_cast<size_t>(bytes),
                      cudaMemcpyDeviceToHost, stream_),
      "reading sampled tokens");
  PELTON_RETURN_IF_CUDA_ERROR(cudaEventRecord(done_.get(), stream_), "sampling");
  num_rows_ = count;
  return Status();
}

StatusOr<std::vector<SampledToken>> DeviceSampler::collect() {
  const int count = std::exchange(num_rows_, 0);
  std::vector<SampledToken> out(static_cast<size_t>(count));
  if (count == 0) return out;
  PELTON_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(done_.get()), "waiting for sampled tokens");
  const auto* results = reinterpret_cast<const SampleResult*>(host_output_.data());
  const auto* top = reinterpret_cast<const TopLogprob*>(host_output_.data() + layout_.top);
  const int columns = std::max(0, *std::max_element(logprobs_.begin(), logprobs_.end()));
  for (int i = 0; i < count; ++i) {
    SampledToken& token = out[static_cast<size_t>(i)];
    token.token = results[i].token;
    token.nan = results[i].nan != 0;
    if (token.nan || logprobs_[static_cast<size_t>(i)] < 0) continue;
    token.logprobs.chosen = {results[i].token, results[i].logprob, results[i].rank};
    const int wanted = std::min(logprobs_[static_cast<size_t>(i)], vocab_of_last_);
    for (int j = 0; j < wanted; ++j) {
      const TopLogprob& likely = top[int64_t{i} * columns + j];
      token.logprobs.top.push_back({likely.token, likely.logprob, j + 1});
    }
  }
  return out;
}

}  // namespace pelton::cuda
