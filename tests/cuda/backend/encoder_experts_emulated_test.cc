// Encoder attention and routed experts as steps have them: reserved, recorded, refused by name, and
// with each device call failed in turn.
#include "cuda/emulator/emulator.h"
#include "tests/cuda/backend/cuda_fixture.h"
#include "tests/support/backend_cases.h"
#include "tests/support/backend_fixture.h"

namespace pelton::test {
namespace {

namespace emulator = cuda::emulator;

constexpr int kHidden = 64, kVocab = 23, kMaxTokens = 48, kMaxSeqs = 4;
constexpr EncoderHeads kHeads = {2, 1, 16};  // rows of qkv are as wide as the hidden size
constexpr ExpertsShape kExperts = {5, 2, kHidden, 32};

StatusOr<std::unique_ptr<Matrix>> pack(Backend& backend, int64_t rows, int64_t cols,
                                       uint64_t seed) {
  const FloatSource source(DType::kQ8_0, rows, cols, random_normal(rows * cols, seed, 0.2F));
  const RowSource* sources[] = {&source};
  return backend.pack(sources);
}

// A model of one embedding, one attention and one routed MLP.
class TinyModel {
 public:
  Status load(Backend& backend) {
    PELTON_ASSIGN_OR_RETURN(table_, pack(backend, kVocab, kHidden, 1));
    PELTON_ASSIGN_OR_RETURN(router_, pack(backend, kExperts.num_experts, kHidden, 2));
    for (uint64_t e = 0; e < static_cast<uint64_t>(kExperts.num_experts); ++e) {
      PELTON_ASSIGN_OR_RETURN(auto gate_up, pack(backend, 2 * kExperts.ffn, kHidden, 10 + e));
      PELTON_ASSIGN_OR_RETURN(auto down, pack(backend, kHidden, kExperts.ffn, 20 + e));
      gate_up_.push_back(gate_up.get());
      down_.push_back(down.get());
      owned_.push_back(std::move(gate_up));
      owned_.push_back(std::move(down));
    }
    const DType dtype = backend.activation_dtype();
    PELTON_RETURN_IF_ERROR(make(backend, x_, kHidden, dtype));
    PELTON_RETURN_IF_ERROR(make(backend, attended_, kHeads.num_q_heads * kHeads.head_dim, dtype));
    PELTON_RETURN_IF_ERROR(make(backend, logits_, kExperts.num_experts, DType::kF32));
    PELTON_RETURN_IF_ERROR(make(backend, ids_, kExperts.top_k, DType::kI32));
    PELTON_RETURN_IF_ERROR(make(backend, weights_, kExperts.top_k, DType::kF32));
    return make(backend, out_, kHidden, dtype);
  }

  Status forward(Backend& backend, const Batch& batch) {
    PELTON_ASSIGN_OR_RETURN(const StepPlan* plan, backend.prepare(batch, KvGeometry{}));
    if (!backend.begin_forward(*plan)) return Status();
    const int64_t m = batch.num_tokens();
    const auto rows = [&](const DeviceTensor& t) { return t.view.slice_rows(0, m); };
    backend.embed(*plan, {.table = table_.get(), .out = rows(x_)});
    EncoderAttentionParams attention;
    attention.plan = plan;
    attention.qkv = rows(x_);
    attention.num_q_heads = kHeads.num_q_heads;
    attention.num_kv_heads = kHeads.num_kv_heads;
    attention.head_dim = kHeads.head_dim;
    attention.scale = 0.25F;
    attention.out = rows(attended_);
    backend.encoder_attention(attention);
    backend.linear({.x = rows(x_), .w = router_.get(), .out = rows(logits_)});
    RouteParams route;
    route.logits = rows(logits_);
    route.top_k = kExperts.top_k;
    route.expert_ids = rows(ids_);
    route.expert_weights = rows(weights_);
    backend.route(route);
    ExpertsParams experts;
    experts.x = rows(x_);
    experts.expert_ids = rows(ids_);
    experts.expert_weights = rows(weights_);
    experts.gate_up = gate_up_;
    experts.down = down_;
    experts.out = rows(out_);
    backend.experts(experts);
    return backend.end_forward();
  }

  // What the last forward of so many tokens left: attention's rows, then the experts'.
  StatusOr<std::vector<float>> results(Backend& backend, int64_t tokens) const {
    std::vector<float> out;
    for (const DeviceTensor* t : {&attended_, &out_}) {
      const Tensor x = t->view.slice_rows(0, tokens);
      std::vector<std::byte> bytes(dtype_bytes(x.dtype, x.rows * x.cols));
      PELTON_RETURN_IF_ERROR(backend.download(x, bytes));
      out.resize(out.size() + static_cast<size_t>(x.rows * x.cols));
      dequantize(x.dtype, bytes.data(), x.rows * x.cols, &*out.end() - x.rows * x.cols);
    }
    return out;
  }

 private:
  static Status make(Backend& backend, DeviceTensor& t, int64_t cols, DType dtype) {
    PELTON_ASSIGN_OR_RETURN(t.buffer, backend.allocate(dtype_bytes(dtype, kMaxTokens * cols)));
    t.view = {t.buffer->data(), dtype, kMaxTokens, cols, cols};
    return Status();
  }
  std::unique_ptr<Matrix> table_, router_;
  std::vector<std::unique_ptr<Matrix>> owned_;
  std::vector<const Matrix*> gate_up_, down_;
  DeviceTensor x_, attended_, logits_, ids_, weights_, out_;
};

// Sequences of these lengths, their tokens drawn by `seed`.
Batch batch_of(const std::vector<int>& lens, uint32_t seed) {
  Batch batch = encoder_batch(lens);
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    batch.tokens[i] = static_cast<TokenId>((i * i * 5 + i * 3 + seed) % kVocab);
  }
  for (size_t s = 0; s < lens.size(); ++s) {
    batch.logit_rows.push_back(batch.query_start_loc[s + 1] - 1);
  }
  return batch;
}

StepLimits limits() {
  return {.max_tokens = kMaxTokens,
          .max_seqs = kMaxSeqs,
          .max_logit_rows = kMaxSeqs,
          .max_model_len = kMaxTokens,
          .vocab_size = kVocab,
          .num_q_heads = 0,
          .encoder = kHeads,
          .experts = kExperts};
}

// As a runner warms up: each recordable step once as it is, once recorded.
Status warm_up(Backend& backend, TinyModel& model) {
  PELTON_RETURN_IF_ERROR(backend.reserve(limits(), KvGeometry{}));
  for (const int seqs : backend.recordable_steps()) {
    const Batch batch = batch_of(std::vector<int>(static_cast<size_t>(seqs), 1), 0);
    PELTON_RETURN_IF_ERROR(model.forward(backend, batch));
    PELTON_RETURN_IF_ERROR(backend.synchronize());
    backend.record(true);
    const Status recorded = model.forward(backend, batch);
    backend.record(false);
    PELTON_RETURN_IF_ERROR(recorded);
  }
  return backend.seal();
}

const std::vector<std::vector<int>> kSteps = {{1, 1, 1}, {30, 1, 17}, {1}, {1, 1, 1, 1}, {1, 1}};

// Everything that these steps leave, from the making of the backend on.
StatusOr<std::vector<float>> run_steps(CudaOptions options, bool reserved) {
  PELTON_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, make_cuda_backend(options));
  TinyModel model;
  PELTON_RETURN_IF_ERROR(model.load(*backend));
  if (reserved) PELTON_RETURN_IF_ERROR(warm_up(*backend, model));
  std::vector<float> out;
  uint32_t seed = 0;
  for (const std::vector<int>& lens : kSteps) {
    const Batch batch = batch_of(lens, ++seed);
    PELTON_RETURN_IF_ERROR(model.forward(*backend, batch));
    PELTON_ASSIGN_OR_RETURN(const std::vector<float> rows,
                            model.results(*backend, batch.num_tokens()));
    out.insert(out.end(), rows.begin(), rows.end());
  }
  return out;
}

// What the backend says once the op was refused.
template <typename Op>
Status refusal(Op op) {
  const CudaCard card;
  const auto backend = card.backend();
  op(*backend);
  const int64_t pending = emulator::pending_work();
  const Status status = backend->synchronize();
  CHECK(pending <= 1);  // at most the step's upload: no kernel was launched
  return status;
}

Status encoder_refusal(int q_heads, int kv_heads, int head_dim, float scale, int64_t row_stride) {
  return refusal([&](Backend& backend) {
    const int64_t cols = int64_t{q_heads + 2 * kv_heads} * head_dim;
    const DeviceTensor qkv =
        make_tensor(backend, 3, cols, backend.activation_dtype(), cols + row_stride);
    const DeviceTensor out = make_activations(backend, 3, int64_t{q_heads} * head_dim);
    EncoderAttentionParams p;
    p.plan = must(backend.prepare(encoder_batch({1, 2}), KvGeometry{}));
    p.qkv = qkv.view;
    p.num_q_heads = q_heads;
    p.num_kv_heads = kv_heads;
    p.head_dim = head_dim;
    p.scale = scale;
    p.out = out.view;
    backend.encoder_attention(p);
  });
}

Status route_refusal(int experts, int top_k) {
  return refusal([&](Backend& backend) {
    const DeviceTensor logits = make_activations(backend, 2, experts);
    const DeviceTensor ids = make_tensor(backend, 2, top_k, DType::kI32);
    const DeviceTensor weights = make_tensor(backend, 2, top_k, DType::kF32);
    RouteParams p;
    p.logits = logits.view;
    p.top_k = top_k;
    p.expert_ids = ids.view;
    p.expert_weights = weights.view;
    backend.route(p);
  });
}

}  // namespace

TEST_CASE("recorded steps of encoders and routed experts give what plain ones give to the bit") {
  for (const DType activations : {DType::kBF16, DType::kF16}) {
    const CudaCard card;
    CudaOptions options = CudaCard::default_options();
    options.activations = activations;
    const std::vector<float> recorded = must(run_steps(options, true));
    options.graphs = false;
    CHECK(same_bits(must(run_steps(options, true)), recorded));
    CHECK(same_bits(must(run_steps(options, false)), recorded));  // planned as they come
  }
}

TEST_CASE("steps of encoders and routed experts take no memory and wait for nothing") {
  const CudaCard card;
  CudaOptions options = CudaCard::default_options();
  options.graphs = false;
  const auto backend = card.backend(options);
  TinyModel model;
  must_ok(model.load(*backend));
  must_ok(backend->reserve(limits(), KvGeometry{}));
  must_ok(backend->seal());
  const int64_t allocations = emulator::device_allocations_made();
  for (const std::vector<int>& lens : kSteps) {
    must_ok(model.forward(*backend, batch_of(lens, 1)));
    CHECK(emulator::pending_work() > 6);
  }
  must_ok(backend->synchronize());
  CHECK(emulator::device_allocations_made() == allocations);
}

TEST_CASE("what was not reserved for encoders and routed experts is refused once all is sealed") {
  for (const bool encoder : {false, true}) {
    const CudaCard card;
    const auto backend = card.backend();
    TinyModel model;
    must_ok(model.load(*backend));
    StepLimits some = limits();
    (encoder ? some.experts.num_experts : some.encoder.num_kv_heads) = 0;
    must_ok(backend->reserve(some, KvGeometry{}));
    must_ok(backend->seal());
    const Status status = model.forward(*backend, batch_of({2, 3}, 1));
    CHECK(status.code() == absl::StatusCode::kInternal);
    CHECK(std::string(status.message()).find(encoder ? "routed experts" : "attention") !=
          std::string::npos);
  }
}

TEST_CASE("encoder attention and routed experts refuse by name what no kernel takes") {
  CHECK(encoder_refusal(4, 2, 16, 0.1F, 0).ok());
  CHECK(route_refusal(5, 2).ok());
  const std::vector<Status> refused = {encoder_refusal(4, 2, 20, 0.1F, 0),
                                       encoder_refusal(1, 1, 264, 0.1F, 0),
                                       encoder_refusal(3, 2, 16, 0.1F, 0),
                                       encoder_refusal(4, 2, 16, 0, 0),
                                       encoder_refusal(4, 2, 16, 0.1F, 12),
                                       route_refusal(3, 4),
                                       route_refusal(1025, 2),
                                       route_refusal(100, 33)};
  for (const Status& status : refused) {
    INFO("refusal " << &status - refused.data());
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  }
  const Status uneven = refusal([](Backend& backend) {
    ExpertsCase c;
    PackedExperts packed = pack_experts(backend, c);
    std::swap(packed.down[1], packed.gate_up[1]);
    const DeviceTensor x = make_activations(backend, 2, c.hidden);
    const DeviceTensor ids = make_tensor(backend, 2, c.top_k, DType::kI32);
    const DeviceTensor weights = make_tensor(backend, 2, c.top_k, DType::kF32);
    must_ok(backend.synchronize());
    ExpertsParams p;
    p.x = p.out = x.view;
    p.expert_ids = ids.view;
    p.expert_weights = weights.view;
    p.gate_up = packed.gate_up;
    p.down = packed.down;
    backend.experts(p);
  });
  CHECK(uneven.code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE(
    "each device call that fails in steps of encoders and experts gives an error or nothing") {
  const CudaCard card;
  const CudaOptions options = CudaCard::default_options();
  const std::vector<float> good = must(run_steps(options, true));
  const int64_t calls = emulator::calls();
  REQUIRE(calls > 200);
  int64_t errors = 0, runs = 0;
  for (const bool sticky : {false, true}) {
    for (int64_t n = 1; n <= calls; n += 3, ++runs) {
      emulator::reset();
      emulator::fail_call(n, sticky ? cudaErrorIllegalAddress : cudaErrorUnknown, sticky);
      const auto steps = run_steps(options, true);
      INFO("call " << n << " of " << calls << ": " << emulator::failed_call());
      CHECK(emulator::live_objects().none());
      if (steps.ok()) {
        CHECK(same_bits(*steps, good));  // a call that gives something back
      } else {
        CHECK_FALSE(steps.status().message().empty());
        ++errors;
      }
    }
  }
  CHECK(errors * 2 > runs);
  emulator::reset();
}

}  // namespace pelton::test
