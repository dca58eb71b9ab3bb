#include "model/weight_source.h"

#include <cstring>
#include <functional>
#include <numeric>

#include "core/half.h"
#include "model/formats/gguf.h"
#include "model/formats/safetensors.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace pelton {
namespace {

using Items = std::vector<SafetensorsItem>;

// Opened weights together with the folder that holds their file.
struct Opened {
  std::unique_ptr<TempDir> dir = std::make_unique<TempDir>();
  StatusOr<std::unique_ptr<WeightSource>> source = absl::UnknownError("not opened");
};

Opened open_items(const Items& items, const ModelConfig& config) {
  Opened opened;
  const std::string path = (opened.dir->path() / "model.safetensors").string();
  write_file(path, write_safetensors(items));
  auto model = SafetensorsModel::open(path);
  REQUIRE(model.ok());
  opened.source = open_weights(*model, config);
  return opened;
}

Opened open_changed(const std::string& architecture, const std::function<void(Items&)>& change) {
  Items items = tiny_safetensors(architecture);
  change(items);
  return open_items(items, tiny_config(architecture));
}

SafetensorsItem& item(Items& items, const std::string& name) {
  for (SafetensorsItem& candidate : items) {
    if (candidate.name == name) return candidate;
  }
  FAIL("no item " << name);
  return items.front();
}

std::vector<float> floats_of(const std::string& bytes) {
  std::vector<float> out(bytes.size() / 4);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

// All rows of an F32 tensor, read in two calls.
std::vector<float> values(const WeightTensor& tensor) {
  REQUIRE(tensor.dtype() == DType::kF32);
  std::vector<float> out(static_cast<size_t>(tensor.rows() * tensor.cols()));
  const int64_t middle = tensor.rows() / 3;
  tensor.read_rows(0, middle, out.data());
  tensor.read_rows(middle, tensor.rows(), out.data() + middle * tensor.cols());
  return out;
}

std::vector<float> counting(size_t count) {
  std::vector<float> out(count);
  std::iota(out.begin(), out.end(), 0.0F);
  return out;
}

void check_error(const Opened& opened, absl::StatusCode code, const std::string& field) {
  INFO(std::string(opened.source.status().message()));
  CHECK(opened.source.status().code() == code);
  CHECK(error_field(opened.source.status()).value_or("") == field);
}

}  // namespace

TEST_CASE("every architecture opens from both formats with the same canonical tensors") {
  for (const Architecture& row : architectures()) {
    const std::string name(row.name);
    INFO(name);
    const ModelConfig config = tiny_config(name);
    const Opened hf = open_changed(name, [](Items&) {});
    REQUIRE(hf.source.ok());
    const std::string bytes = tiny_gguf(name).bytes();
    auto gguf_config = model_config_from_gguf(**GgufFile::parse(as_bytes(bytes)));
    REQUIRE(gguf_config.ok());
    auto gguf = open_weights(*GgufFile::parse(as_bytes(bytes)), *gguf_config);
    REQUIRE(gguf.ok());
    CHECK((*hf.source)->warnings().empty());
    CHECK((*gguf)->warnings().empty());
    REQUIRE((*gguf)->tensors().size() == (*hf.source)->tensors().size());
    for (const auto& tensor : (*hf.source)->tensors()) {
      const WeightTensor* other = (*gguf)->find(tensor->role(), tensor->layer());
      REQUIRE(other != nullptr);
      CHECK(tensor->rows() == other->rows());
      CHECK(tensor->cols() == other->cols());
      const TensorShape shape = tensor_shape(tensor->role(), config);
      CHECK(tensor->rows() == shape.rows);
      CHECK(tensor->cols() == shape.cols);
      values(*tensor);
      values(*other);
    }
    CHECK(((*hf.source)->find(TensorRole::kLmHead) == nullptr) == config.tie_embeddings);
    CHECK((*hf.source)->find(TensorRole::kQ, 2) == nullptr);
    CHECK((*hf.source)->find(TensorRole::kQ) == nullptr);
  }
}

TEST_CASE("GGUF's interleaved Q and K rows come out in halves") {
  GgufWriter writer;
  std::string all = tiny_gguf("llama").bytes();
  auto file = *GgufFile::parse(as_bytes(all));
  auto config = *model_config_from_gguf(*file);
  auto source = *open_weights(file, config);
  const GgufTensor* stored = file->find_tensor("blk.1.attn_k.weight");
  const WeightTensor* k = source->find(TensorRole::kK, 1);
  CHECK(k->mapped() == nullptr);
  const std::vector<float> got = values(*k);
  // head_dim 16: canonical row i + 8 j of head h is stored as row 2 i + j.
  for (size_t h = 0; h < 2; ++h) {
    for (size_t i = 0; i < 8; ++i) {
      for (size_t j = 0; j < 2; ++j) {
        const float* row = got.data() + (h * 16 + i + 8 * j) * 64;
        CHECK(std::memcmp(row, stored->data.data() + (h * 16 + 2 * i + j) * 256, 256) == 0);
      }
    }
  }
  // V is as stored.
  const GgufTensor* v = file->find_tensor("blk.1.attn_v.weight");
  CHECK(source->find(TensorRole::kV, 1)->mapped() == v->data.data());
}

TEST_CASE("quantised rows are permuted whole") {
  GgufWriter writer = tiny_gguf("llama");
  std::string bytes = writer.bytes();
  auto plain = *GgufFile::parse(as_bytes(bytes));
  auto config = *model_config_from_gguf(*plain);
  // The same file with layer 0's Q in Q8_0: 64 rows of two blocks, each row filled with its number.
  GgufWriter quantised;
  for (const GgufTensor& tensor : plain->tensors()) {
    std::string data(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    const bool q = tensor.name == "blk.0.attn_q.weight";
    if (q) {
      data.clear();
      for (int row = 0; row < 64; ++row) data += std::string(68, static_cast<char>(row));
    }
    quantised.add_tensor(std::string(tensor.name), q ? 8 : 0, tensor.shape, data);
  }
  const std::string other = quantised.bytes();
  auto source = open_weights(*GgufFile::parse(as_bytes(other)), config);
  REQUIRE(source.ok());
  const WeightTensor* q = (*source)->find(TensorRole::kQ, 0);
  CHECK(q->dtype() == DType::kQ8_0);
  CHECK(q->row_bytes() == 68);
  std::vector<uint8_t> row(68);
  q->read_rows(16 + 9, 16 + 10, row.data());  // head 1: i = 1, j = 1
  CHECK(row == std::vector<uint8_t>(68, 16 + 3));
}

TEST_CASE("gpt2's Conv1D matrices are transposed and its fused QKV is split") {
  Opened opened = open_changed("gpt2", [](Items& items) {
    item(items, "transformer.h.0.attn.c_attn.weight").data = bytes_of(counting(64 * 192));
    item(items, "transformer.h.0.attn.c_attn.bias").data = bytes_of(counting(192));
    item(items, "transformer.h.1.mlp.c_fc.weight").data = bytes_of(counting(64 * 256));
  });
  REQUIRE(opened.source.ok());
  const WeightSource& source = **opened.source;
  const std::vector<float> k = values(*source.find(TensorRole::kK, 0));
  CHECK(k[0] == 64.0F);           // out 0, in 0
  CHECK(k[1] == 192.0F + 64.0F);  // out 0, in 1
  CHECK(k[64] == 65.0F);          // out 1, in 0
  CHECK(k[63 * 64 + 63] == 63 * 192.0F + 64 + 63);
  CHECK(read_vector(*source.find(TensorRole::kVBias, 0))[5] == 128.0F + 5);
  const std::vector<float> up = values(*source.find(TensorRole::kUp, 1));
  CHECK(up[200 * 64 + 3] == 3 * 256.0F + 200);
  CHECK(source.find(TensorRole::kUp, 1)->mapped() == nullptr);
}

TEST_CASE("gemma3's norms gain 1 from safetensors and not from GGUF") {
  Opened opened = open_changed("gemma3", [](Items& items) {
    SafetensorsItem& norm = item(items, "model.layers.0.self_attn.q_norm.weight");
    norm.dtype = "BF16";  // 1 + 0.00390625 would round away in bf16
    norm.data.clear();
    for (int i = 0; i < 16; ++i) {
      const uint16_t bits = f32_to_bf16(0.00390625F * static_cast<float>(i));
      norm.data.append(reinterpret_cast<const char*>(&bits), 2);
    }
  });
  REQUIRE(opened.source.ok());
  const std::vector<float> norm = read_vector(*(*opened.source)->find(TensorRole::kQNorm, 0));
  for (size_t i = 0; i < 16; ++i) CHECK(norm[i] == 1.0F + 0.00390625F * static_cast<float>(i));

  const std::string bytes = tiny_gguf("gemma3").bytes();
  auto file = *GgufFile::parse(as_bytes(bytes));
  auto gguf = *open_weights(file, *model_config_from_gguf(*file));
  CHECK(gguf->find(TensorRole::kQNorm, 0)->mapped() != nullptr);
}

TEST_CASE("prefixes of the name are found") {
  // gpt2's first files have none; gemma3's text model stands within a larger one.
  const Opened bare = open_changed("gpt2", [](Items& items) {
    for (SafetensorsItem& one : items) one.name = one.name.substr(sizeof("transformer.") - 1);
    items.push_back({"h.0.attn.bias", "BOOL", {1}, "x"});
  });
  REQUIRE(bare.source.ok());
  CHECK((*bare.source)->warnings().empty());
  const Opened nested = open_changed("gemma3", [](Items& items) {
    for (SafetensorsItem& one : items) one.name = "language_model." + one.name;
    items.push_back({"vision_tower.x", "I64", {1}, "12345678"});
  });
  REQUIRE(nested.source.ok());
  CHECK((*nested.source)->warnings().empty());
}

TEST_CASE("a missing or misshapen or mistyped tensor is an error that names it") {
  const std::string q = "model.layers.1.self_attn.q_proj.weight";
  check_error(open_changed("llama", [&](Items& items) { item(items, q).name = "other"; }),
              absl::StatusCode::kNotFound, q);
  check_error(open_changed("llama",
                           [&](Items& items) {
                             item(items, q).shape = {32, 128};
                           }),
              absl::StatusCode::kInvalidArgument, q);
  check_error(open_changed("llama", [&](Items& items) { item(items, q).shape = {64 * 64}; }),
              absl::StatusCode::kInvalidArgument, q);
  check_error(open_changed("llama", [&](Items& items) { item(items, q).dtype = "I32"; }),
              absl::StatusCode::kUnimplemented, q);
  check_error(open_changed("llama", [&](Items& items) { item(items, q).dtype = "U32"; }),
              absl::StatusCode::kUnimplemented, q);
  const std::string attn = "transformer.h.0.attn.c_attn.weight";
  check_error(open_changed("gpt2",
                           [&](Items& items) {
                             item(items, attn).shape = {192, 64};
                           }),
              absl::StatusCode::kInvalidArgument, attn);
  check_error(open_changed("llama", [](Items& items) { items.clear(); }),
              absl::StatusCode::kNotFound, "model.embed_tokens.weight");
}

TEST_CASE("a quantised vector is refused by name") {
  const std::string bytes = tiny_gguf("llama").bytes();
  auto plain = *GgufFile::parse(as_bytes(bytes));
  GgufWriter writer;
  for (const GgufTensor& tensor : plain->tensors()) {
    const bool norm = tensor.name == "output_norm.weight";
    const std::string data(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    writer.add_tensor(std::string(tensor.name), norm ? 8 : 0, tensor.shape,
                      norm ? data.substr(0, 68) : data);
  }
  const std::string other = writer.bytes();
  auto source = open_weights(*GgufFile::parse(as_bytes(other)), *model_config_from_gguf(*plain));
  CHECK(source.status().code() == absl::StatusCode::kUnimplemented);
  CHECK(error_field(source.status()) == "output_norm.weight");
}

TEST_CASE("unknown tensors are warned of and counted beyond a limit") {
  const Opened opened = open_changed("llama", [](Items& items) {
    for (int i = 0; i < 30; ++i)
      items.push_back({"extra" + std::string(i + 1, 'x'), "U8", {1}, "x"});
  });
  REQUIRE(opened.source.ok());
  CHECK((*opened.source)->warnings().size() == 17);
  CHECK((*opened.source)->warnings().back() == "and 14 more tensors");
}

TEST_CASE("misaligned data is read right and never mapped") {
  Items items = tiny_safetensors("qwen3");
  items.insert(items.begin(), {"model.rotary_emb.inv_freq", "U8", {1}, "x"});
  const std::string q = "model.layers.0.self_attn.q_proj.weight";
  const std::vector<float> stored = floats_of(item(items, q).data);
  // The writer keeps the order, so that every float stands one byte off.
  const Opened opened = open_items(items, tiny_config("qwen3"));
  REQUIRE(opened.source.ok());
  CHECK((*opened.source)->warnings().empty());
  const WeightTensor* tensor = (*opened.source)->find(TensorRole::kQ, 0);
  CHECK(tensor->mapped() == nullptr);
  CHECK(values(*tensor) == stored);
  read_vector(*(*opened.source)->find(TensorRole::kQNorm, 0));
}

TEST_CASE("released weights read the same again") {
  const Opened opened = open_changed("qwen2", [](Items&) {});
  REQUIRE(opened.source.ok());
  for (const auto& tensor : (*opened.source)->tensors()) {
    const std::vector<float> before = values(*tensor);
    tensor->release();
    CHECK(values(*tensor) == before);
  }
}

TEST_CASE("only one rank is served yet") {
  const ModelConfig config = tiny_config("llama");
  CHECK(dummy_weights(config, DType::kF32, 0, {.rank = 0, .world = 2}).status().code() ==
        absl::StatusCode::kUnimplemented);
  CHECK(dummy_weights(config, DType::kF32, 0, {.rank = 1, .world = 1}).status().code() ==
        absl::StatusCode::kUnimplemented);
}

}  // namespace pelton
