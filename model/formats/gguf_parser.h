// The reader behind GgufFile: one pass over bytes of unknown provenance. Used once, then dropped.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "model/formats/gguf.h"

namespace pelton {

class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, GgufFile& out) : bytes_(bytes), out_(out) {}

  // Fills `out`. Nothing is allocated for a count before the bytes left can hold that many.
  Status parse();

 private:
  Status parse_header();
  Status parse_metadata();
  Status parse_value(std::string_view key, GgufType type, int depth, GgufValue& value);
  Status parse_array(std::string_view key, int depth, GgufValue& value);
  Status parse_tensor_infos();
  Status parse_tensor_info();
  Status place_tensors();
  Status check_overlap() const;

  size_t left() const { return bytes_.size() - at_; }
  bool take(size_t count, std::span<const std::byte>& out);
  template <typename T>
  bool take_number(T& out);
  bool take_string(uint64_t max_bytes, std::string_view& out);

  std::span<const std::byte> bytes_;
  GgufFile& out_;
  size_t at_ = 0;
  uint64_t tensor_count_ = 0;
  uint64_t key_count_ = 0;
  uint64_t nested_arrays_left_ = 1U << 16;
  std::vector<uint64_t> offsets_;  // of each tensor in the data section
  std::vector<int64_t> sizes_;     // of each tensor, in bytes
};

}  // namespace pelton
