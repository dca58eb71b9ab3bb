#include "model/formats/gguf_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "core/utf8.h"

namespace pelton {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are little-endian");

constexpr uint64_t kMinKeyBytes = 8 + 1 + 4 + 1;             // length, name, type, value
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // length, name, dims, type, offset
constexpr int64_t kMaxTensorElements = int64_t{1} << 48;

struct FileType {
  std::string_view name;
  std::optional<DType> dtype;
};

// By ggml's number; an empty name is a number that no file of these versions uses.
constexpr std::array<FileType, 41> kFileTypes = {{
    {"F32", DType::kF32},
    {"F16", DType::kF16},
    {"Q4_0", DType::kQ4_0},
    {"Q4_1", DType::kQ4_1},
    {"", {}},
    {"", {}},
    {"Q5_0", DType::kQ5_0},
    {"Q5_1", DType::kQ5_1},
    {"Q8_0", DType::kQ8_0},
    {"Q8_1", {}},
    {"Q2_K", {}},
    {"Q3_K", {}},
    {"Q4_K", DType::kQ4_K},
    {"Q5_K", DType::kQ5_K},
    {"Q6_K", DType::kQ6_K},
    {"Q8_K", {}},
    {"IQ2_XXS", {}},
    {"IQ2_XS", {}},
    {"IQ3_XXS", {}},
    {"IQ1_S", {}},
    {"IQ4_NL", {}},
    {"IQ3_S", {}},
    {"IQ2_S", {}},
    {"IQ4_XS", {}},
    {"I8", {}},
    {"I16", {}},
    {"I32", {}},
    {"I64", {}},
    {"F64", {}},
    {"IQ1_M", {}},
    {"BF16", DType::kBF16},
    {"Q4_0_4_4", {}},
    {"Q4_0_4_8", {}},
    {"Q4_0_8_8", {}},
    {"TQ1_0", {}},
    {"TQ2_0", {}},
    {"IQ4_NL_4_4", {}},
    {"IQ4_NL_4_8", {}},
    {"IQ4_NL_8_8", {}},
    {"MXFP4", {}},
    {"NVFP4", {}},
}};

size_t number_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return 0;
}

bool known_type(uint32_t type) {
  return type <= static_cast<uint32_t>(GgufType::kF64);
}

Status bad_key(std::string_view key, std::string_view why) {
  return invalid_field(key, why);
}

Status bad_tensor(std::string_view name, std::string_view why) {
  Status status = absl::InvalidArgumentError(fmt::format("tensor {}: {}", name, why));
  set_error_field(status, name);
  return status;
}

Status ends_early(std::string_view where) {
  return absl::InvalidArgumentError(fmt::format("the file ends within {}", where));
}

}  // namespace

bool GgufParser::take(size_t count, std::span<const std::byte>& out) {
  if (count > left()) return false;
  out = bytes_.subspan(at_, count);
  at_ += count;
  return true;
}

template <typename T>
bool GgufParser::take_number(T& out) {
  std::span<const std::byte> raw;
  if (!take(sizeof(T), raw)) return false;
  std::memcpy(&out, raw.data(), sizeof(T));
  return true;
}

bool GgufParser::take_string(uint64_t max_bytes, std::string_view& out) {
  uint64_t length = 0;
  std::span<const std::byte> raw;
  if (!take_number(length) || length > max_bytes || !take(length, raw)) return false;
  out = {reinterpret_cast<const char*>(raw.data()), raw.size()};
  return is_well_formed_utf8(out);
}

Status GgufParser::parse() {
  PELTON_RETURN_IF_ERROR(parse_header());
  PELTON_RETURN_IF_ERROR(parse_metadata());
  PELTON_RETURN_IF_ERROR(parse_tensor_infos());
  PELTON_RETURN_IF_ERROR(place_tensors());
  return check_overlap();
}

Status GgufParser::parse_header() {
  std::span<const std::byte> magic;
  if (!take(4, magic) || std::memcmp(magic.data(), "GGUF", 4) != 0) {
    return absl::InvalidArgumentError("not a GGUF file");
  }
  if (!take_number(out_.version_)) return ends_early("the header");
  if (out_.version_ == 0x02000000 || out_.version_ == 0x03000000) {
    return absl::UnimplementedError("big-endian GGUF is not supported");
  }
  if (out_.version_ != 2 && out_.version_ != 3) {
    return absl::UnimplementedError(
        fmt::format("GGUF version {} is not supported (2 and 3 are)", out_.version_));
  }
  if (!take_number(tensor_count_) || !take_number(key_count_)) return ends_early("the header");
  if (key_count_ > kMaxGgufKeys || tensor_count_ > kMaxGgufTensors) {
    return absl::ResourceExhaustedError(
        fmt::format("{} keys and {} tensors, at most {} and {} are read", key_count_, tensor_count_,
                    kMaxGgufKeys, kMaxGgufTensors));
  }
  if (key_count_ * kMinKeyBytes + tensor_count_ * kMinTensorBytes > left()) {
    return absl::InvalidArgumentError(fmt::format("{} keys and {} tensors do not fit in {} bytes",
                                                  key_count_, tensor_count_, bytes_.size()));
  }
  return absl::OkStatus();
}

Status GgufParser::parse_metadata() {
  out_.keys_.reserve(key_count_);
  out_.values_.reserve(key_count_);
  for (uint64_t i = 0; i < key_count_; ++i) {
    std::string_view key;
    uint32_t type = 0;
    if (!take_string(kMaxGgufNameBytes, key) || key.empty()) {
      return absl::InvalidArgumentError(
          fmt::format("metadata key {} is empty, cut off, too long or no UTF-8", i));
    }
    if (!take_number(type)) return ends_early(fmt::format("metadata key {}", key));
    if (!known_type(type)) return bad_key(key, fmt::format("unknown value type {}", type));
    GgufValue value;
    PELTON_RETURN_IF_ERROR(parse_value(key, static_cast<GgufType>(type), 0, value));
    if (!out_.values_.emplace(key, std::move(value)).second) return bad_key(key, "it comes twice");
    out_.keys_.push_back(key);
  }
  return absl::OkStatus();
}

Status GgufParser::parse_value(std::string_view key, GgufType type, int depth, GgufValue& value) {
  value.type = type;
  value.count = 1;
  if (type == GgufType::kArray) return parse_array(key, depth, value);
  if (type == GgufType::kString) {
    if (!take_string(kMaxGgufStringBytes, value.string)) {
      return bad_key(key, "the string is cut off, too long or no UTF-8");
    }
    return absl::OkStatus();
  }
  if (!take(number_bytes(type), value.raw)) return bad_key(key, "the value is cut off");
  if (type == GgufType::kBool && std::to_integer<int>(value.raw[0]) > 1) {
    return bad_key(key, "a bool that is neither 0 nor 1");
  }
  return absl::OkStatus();
}

Status GgufParser::parse_array(std::string_view key, int depth, GgufValue& value) {
  uint32_t element = 0;
  if (depth >= kMaxGgufNesting) return bad_key(key, "arrays are nested too deep");
  if (!take_number(element) || !take_number(value.count)) return bad_key(key, "array is cut off");
  if (!known_type(element)) return bad_key(key, fmt::format("unknown element type {}", element));
  value.element = static_cast<GgufType>(element);
  if (value.count > kMaxGgufArray) {
    return bad_key(key,
                   fmt::format("an array of {}, at most {} are read", value.count, kMaxGgufArray));
  }
  if (value.element == GgufType::kString) {
    if (value.count > left() / 8) return bad_key(key, "array is cut off");
    value.strings.resize(value.count);
    for (std::string_view& item : value.strings) {
      if (!take_string(kMaxGgufStringBytes, item)) {
        return bad_key(key, "a string is cut off, too long or no UTF-8");
      }
    }
    return absl::OkStatus();
  }
  if (value.element == GgufType::kArray) {
    if (value.count > left() / 12) return bad_key(key, "array is cut off");
    if (value.count > nested_arrays_left_) return bad_key(key, "too many nested arrays");
    nested_arrays_left_ -= value.count;
    value.arrays.resize(value.count);
    for (GgufValue& item : value.arrays) {
      PELTON_RETURN_IF_ERROR(parse_value(key, GgufType::kArray, depth + 1, item));
    }
    return absl::OkStatus();
  }
  if (!take(value.count * number_bytes(value.element), value.raw)) {
    return bad_key(key, "array is cut off");
  }
  return absl::OkStatus();
}

Status GgufParser::parse_tensor_infos() {
  out_.tensors_.reserve(tensor_count_);
  offsets_.reserve(tensor_count_);
  sizes_.reserve(tensor_count_);
  out_.tensor_by_name_.reserve(tensor_count_);
  for (uint64_t i = 0; i < tensor_count_; ++i) {
    if (Status status = parse_tensor_info(); !status.ok()) {
      return error_field(status) ? status : annotate(status, fmt::format("tensor {}", i));
    }
    if (!out_.tensor_by_name_.emplace(out_.tensors_[i].name, i).second) {
      return bad_tensor(out_.tensors_[i].name, "it comes twice");
    }
  }
  return absl::OkStatus();
}

Status GgufParser::parse_tensor_info() {
  std::string_view name;
  uint32_t num_dims = 0;
  if (!take_string(kMaxGgufNameBytes, name) || name.empty()) {
    return absl::InvalidArgumentError("its name is empty, cut off, too long or no UTF-8");
  }
  if (!take_number(num_dims)) return bad_tensor(name, "cut off");
  if (num_dims < 1 || num_dims > 4) return bad_tensor(name, "not 1 to 4 dimensions");
  GgufTensor tensor{.name = name, .dtype = DType::kF32, .shape = {}, .data = {}};
  int64_t elements = 1;
  for (uint32_t d = 0; d < num_dims; ++d) {
    uint64_t extent = 0;
    if (!take_number(extent)) return bad_tensor(name, "cut off");
    if (extent < 1 || extent > static_cast<uint64_t>(kMaxTensorElements / elements)) {
      return bad_tensor(name, fmt::format("dimension {} is 0 or too large", extent));
    }
    elements *= static_cast<int64_t>(extent);
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(extent));
  }
  uint32_t type = 0;
  uint64_t offset = 0;
  if (!take_number(type) || !take_number(offset)) return bad_tensor(name, "cut off");
  if (type >= kFileTypes.size() || kFileTypes[type].name.empty()) {
    return bad_tensor(name, fmt::format("unknown type {}", type));
  }
  if (!kFileTypes[type].dtype) {
    Status status = absl::UnimplementedError(
        fmt::format("tensor {}: type {} is not supported", name, kFileTypes[type].name));
    set_error_field(status, name);
    return status;
  }
  tensor.dtype = *kFileTypes[type].dtype;
  const int block = dtype_info(tensor.dtype).block_elements;
  if (tensor.shape.back() % block != 0) {
    return bad_tensor(name, fmt::format("rows of {} are no whole blocks of {} ({})",
                                        tensor.shape.back(), block, kFileTypes[type].name));
  }
  sizes_.push_back(dtype_bytes(tensor.dtype, elements));
  offsets_.push_back(offset);
  out_.tensors_.push_back(std::move(tensor));
  return absl::OkStatus();
}

Status GgufParser::place_tensors() {
  uint64_t alignment = 32;
  if (out_.find("general.alignment") != nullptr) {
    PELTON_ASSIGN_OR_RETURN(const auto given, out_.get_int("general.alignment"));
    if (*given < 8 || *given > 65536 || !std::has_single_bit(static_cast<uint64_t>(*given))) {
      return bad_key("general.alignment", "not a power of two between 8 and 65536");
    }
    alignment = static_cast<uint64_t>(*given);
  }
  const size_t start = (at_ + alignment - 1) / alignment * alignment;
  if (out_.tensors_.empty()) return absl::OkStatus();
  if (start > bytes_.size()) return ends_early("the padding before the tensors");
  const std::span<const std::byte> data = bytes_.subspan(start);
  for (size_t i = 0; i < out_.tensors_.size(); ++i) {
    GgufTensor& tensor = out_.tensors_[i];
    const auto size = static_cast<uint64_t>(sizes_[i]);
    if (offsets_[i] % alignment != 0) {
      return bad_tensor(tensor.name,
                        fmt::format("offset {} is not aligned to {}", offsets_[i], alignment));
    }
    if (offsets_[i] > data.size() || size > data.size() - offsets_[i]) {
      return bad_tensor(tensor.name, fmt::format("{} bytes at {} lie outside the {} bytes of data",
                                                 size, offsets_[i], data.size()));
    }
    tensor.data = data.subspan(offsets_[i], size);
  }
  return absl::OkStatus();
}

Status GgufParser::check_overlap() const {
  std::vector<const GgufTensor*> order;
  order.reserve(out_.tensors_.size());
  for (const GgufTensor& tensor : out_.tensors_) order.push_back(&tensor);
  std::ranges::sort(order, {}, [](const GgufTensor* tensor) { return tensor->data.data(); });
  for (size_t i = 1; i < order.size(); ++i) {
    const std::span<const std::byte> before = order[i - 1]->data;
    if (order[i]->data.data() < before.data() + before.size()) {
      return bad_tensor(order[i]->name, fmt::format("its data overlap {}'s", order[i - 1]->name));
    }
  }
  return absl::OkStatus();
}

}  // namespace pelton
