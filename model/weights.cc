#include "model/weights.h"

#include <fmt/format.h>

#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace pelton {
namespace {

class Loader {
 public:
  Loader(const WeightSource& source, Backend& backend, const LoadProgress& progress,
         DecoderWeights& out)
      : source_(source), backend_(backend), progress_(progress), out_(out) {}

  Status load(const ModelConfig& config) {
    PELTON_RETURN_IF_ERROR(check_dtypes());
    PELTON_RETURN_IF_ERROR(pack(out_.embedding, -1, {TensorRole::kTokenEmbedding}));
    PELTON_RETURN_IF_ERROR(pack(out_.positions, -1, {TensorRole::kPositionEmbedding}));
    for (int layer = 0; layer < config.num_layers; ++layer) {
      out_.layers.emplace_back();
      PELTON_RETURN_IF_ERROR(load_layer(layer, out_.layers.back()));
    }
    PELTON_RETURN_IF_ERROR(
        norm(out_.final_norm, -1, TensorRole::kFinalNorm, TensorRole::kFinalNormBias));
    return pack(out_.lm_head, -1, {TensorRole::kLmHead});
  }

 private:
  using Roles = std::initializer_list<TensorRole>;

  Status check_dtypes() const {
    for (const auto& tensor : source_.tensors()) {
      const DType dtype = tensor->dtype();
      if (tensor_role_info(tensor->role()).vector || backend_.supports_weights(dtype)) continue;
      Status status = absl::UnimplementedError(
          fmt::format("tensor {}: {} has no kernel for weights of type {}", tensor->name(),
                      backend_.description(), dtype_info(dtype).name));
      set_error_field(status, tensor->name());
      return status;
    }
    return Status();
  }

  Status load_layer(int l, LayerWeights& w) {
    using R = TensorRole;
    PELTON_RETURN_IF_ERROR(norm(w.attn_norm, l, R::kAttnNorm, R::kAttnNormBias));
    PELTON_RETURN_IF_ERROR(pack(w.qkv, l, {R::kQ, R::kK, R::kV}));
    PELTON_RETURN_IF_ERROR(vector(w.qkv_bias, l, {R::kQBias, R::kKBias, R::kVBias}));
    PELTON_RETURN_IF_ERROR(vector(w.q_norm, l, {R::kQNorm}));
    PELTON_RETURN_IF_ERROR(vector(w.k_norm, l, {R::kKNorm}));
    PELTON_RETURN_IF_ERROR(pack(w.o, l, {R::kO}));
    PELTON_RETURN_IF_ERROR(vector(w.o_bias, l, {R::kOBias}));
    PELTON_RETURN_IF_ERROR(vector(w.post_attn_norm.weight, l, {R::kPostAttnNorm}));
    PELTON_RETURN_IF_ERROR(norm(w.mlp_norm, l, R::kMlpNorm, R::kMlpNormBias));
    PELTON_RETURN_IF_ERROR(pack(w.up, l, {R::kGate, R::kUp}));
    PELTON_RETURN_IF_ERROR(vector(w.up_bias, l, {R::kGateBias, R::kUpBias}));
    PELTON_RETURN_IF_ERROR(pack(w.down, l, {R::kDown}));
    PELTON_RETURN_IF_ERROR(vector(w.down_bias, l, {R::kDownBias}));
    return vector(w.post_mlp_norm.weight, l, {R::kPostMlpNorm});
  }

  Status norm(NormWeights& out, int layer, TensorRole weight, TensorRole bias) {
    PELTON_RETURN_IF_ERROR(vector(out.weight, layer, {weight}));
    return vector(out.bias, layer, {bias});
  }

  // The roles that the model has, stacked by rows; `out` stays null where it has none of them.
  Status pack(std::unique_ptr<Matrix>& out, int layer, Roles roles) {
    std::vector<const RowSource*> sources;
    std::string names;
    for (TensorRole role : roles) {
      const WeightTensor* tensor = source_.find(role, layer);
      if (tensor == nullptr) continue;
      sources.push_back(tensor);
      count(*tensor, names);
    }
    if (sources.empty()) return Status();
    auto matrix = backend_.pack(sources);
    if (!matrix.ok()) return annotate(matrix.status(), names);
    out = *std::move(matrix);
    out_.bytes += out->bytes();
    report();
    return Status();
  }

  // The same for vectors, end to end in one buffer.
  Status vector(const float*& out, int layer, Roles roles) {
    std::vector<float> values;
    std::string names;
    for (TensorRole role : roles) {
      const WeightTensor* tensor = source_.find(role, layer);
      if (tensor == nullptr) continue;
      const std::vector<float> part = read_vector(*tensor);
      values.insert(values.end(), part.begin(), part.end());
      count(*tensor, names);
    }
    if (values.empty()) return Status();
    auto buffer = backend_.upload(std::as_bytes(std::span(values)));
    if (!buffer.ok()) return annotate(buffer.status(), names);
    out_.bytes += (*buffer)->bytes();
    out = static_cast<const float*>((*buffer)->data());
    out_.vectors.push_back(*std::move(buffer));
    report();
    return Status();
  }

  void count(const WeightTensor& tensor, std::string& names) {
    done_bytes_ += tensor.bytes();
    out_.parameter_count += tensor.rows() * tensor.cols();
    names += (names.empty() ? "" : ", ") + tensor.name();
  }
  void report() const {
    if (progress_) progress_(done_bytes_, source_.total_bytes());
  }

  const WeightSource& source_;
  Backend& backend_;
  const LoadProgress& progress_;
  DecoderWeights& out_;
  int64_t done_bytes_ = 0;
};

}  // namespace

StatusOr<DecoderWeights> load_decoder_weights(std::unique_ptr<WeightSource> source,
                                              const ModelConfig& config, Backend& backend,
                                              const LoadProgress& progress) {
  DecoderWeights weights;
  PELTON_RETURN_IF_ERROR(Loader(*source, backend, progress, weights).load(config));
  weights.source = std::move(source);
  return weights;
}

}  // namespace pelton
