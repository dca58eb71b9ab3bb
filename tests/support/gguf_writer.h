// Writes GGUF bytes for tests, and remembers where its integers stand, for fuzzing. Not for
// products.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "model/formats/gguf.h"

namespace pelton {

class GgufWriter {
 public:
  explicit GgufWriter(uint32_t version = 3) : version_(version) {}

  template <typename T>
  void add(const std::string& key, GgufType type, T value) {
    begin_key(key, type);
    put(keys_, value);
  }
  void add_u32(const std::string& key, uint32_t value) { add(key, GgufType::kU32, value); }
  void add_f32(const std::string& key, float value) { add(key, GgufType::kF32, value); }
  void add_bool(const std::string& key, bool value) {
    add(key, GgufType::kBool, static_cast<uint8_t>(value));
  }
  void add_string(const std::string& key, const std::string& value) {
    begin_key(key, GgufType::kString);
    put_string(keys_, value);
  }
  void add_strings(const std::string& key, const std::vector<std::string>& values) {
    begin_array(key, GgufType::kString, values.size());
    for (const std::string& value : values) put_string(keys_, value);
  }
  template <typename T>
  void add_array(const std::string& key, GgufType element, const std::vector<T>& values) {
    begin_array(key, element, values.size());
    for (const T& value : values) put(keys_, value);
  }
  // An array of arrays of u8.
  void add_nested(const std::string& key, const std::vector<std::vector<uint8_t>>& values) {
    begin_array(key, GgufType::kArray, values.size());
    for (const auto& value : values) {
      put(keys_, static_cast<uint32_t>(GgufType::kU8));
      put(keys_, uint64_t{value.size()});
      for (const uint8_t item : value) put(keys_, item);
    }
  }
  // Value bytes as given: for malformed files.
  void add_raw(const std::string& key, uint32_t type, const std::string& value) {
    begin_key(key, static_cast<GgufType>(type));
    keys_ += value;
  }

  // `shape` outermost first, as GgufTensor has it; `type` is the file's number (0: F32).
  void add_tensor(const std::string& name, uint32_t type, const std::vector<int64_t>& shape,
                  const std::string& data) {
    data_.append((32 - data_.size() % 32) % 32, '\0');
    add_tensor_at(name, type, shape, data_.size());
    data_ += data;
  }
  // The entry alone, at any offset.
  void add_tensor_at(const std::string& name, uint32_t type, const std::vector<int64_t>& shape,
                     uint64_t offset) {
    put_string(tensors_, name);
    put(tensors_, static_cast<uint32_t>(shape.size()));
    for (auto extent = shape.rbegin(); extent != shape.rend(); ++extent) put(tensors_, *extent);
    put(tensors_, type);
    put(tensors_, offset);
    ++tensor_count_;
  }

  // (offset, width) of every integer in the last bytes(): counts, lengths, types, offsets, values.
  const std::vector<std::pair<size_t, size_t>>& fields() const { return fields_; }

  // `padded`: up to where data begins, as a file with tensors must be.
  std::string bytes(bool padded = true) {
    fields_.clear();
    std::string head = "GGUF";
    head.append(reinterpret_cast<const char*>(&version_), 4);
    head.append(reinterpret_cast<const char*>(&tensor_count_), 8);
    head.append(reinterpret_cast<const char*>(&key_count_), 8);
    fields_ = {{4, 4}, {8, 8}, {16, 8}};
    for (const auto& [at, width] : key_fields_) fields_.emplace_back(head.size() + at, width);
    head += keys_;
    for (const auto& [at, width] : tensor_fields_) fields_.emplace_back(head.size() + at, width);
    head += tensors_;
    if (padded) head.append((32 - head.size() % 32) % 32, '\0');
    return head + data_;
  }

 private:
  template <typename T>
  void put(std::string& out, T value) {
    (&out == &keys_ ? key_fields_ : tensor_fields_).emplace_back(out.size(), sizeof(T));
    out.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void put_string(std::string& out, const std::string& value) {
    put(out, uint64_t{value.size()});
    out += value;
  }
  void begin_key(const std::string& key, GgufType type) {
    put_string(keys_, key);
    put(keys_, static_cast<uint32_t>(type));
    ++key_count_;
  }
  void begin_array(const std::string& key, GgufType element, uint64_t count) {
    begin_key(key, GgufType::kArray);
    put(keys_, static_cast<uint32_t>(element));
    put(keys_, count);
  }

  uint32_t version_;
  uint64_t key_count_ = 0;
  uint64_t tensor_count_ = 0;
  std::string keys_;
  std::string tensors_;
  std::string data_;
  std::vector<std::pair<size_t, size_t>> key_fields_;
  std::vector<std::pair<size_t, size_t>> tensor_fields_;
  std::vector<std::pair<size_t, size_t>> fields_;
};

}  // namespace pelton
