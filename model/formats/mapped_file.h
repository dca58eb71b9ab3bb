// A file mapped read-only, whole. Thread-safe once open; the mapping lives as long as the object.
// A file that someone truncates while it is mapped kills the process (SIGBUS), as with every mmap.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "core/status.h"

namespace pelton {

class MappedFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED, or INVALID_ARGUMENT (no regular file, empty), naming the path.
  static StatusOr<MappedFile> open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Copies `part` of bytes() to `out` by reading the file: where a part is wanted once, that costs
  // less than mapping its pages, and none of them stays. Through the mapping where it fails.
  void read(std::span<const std::byte> part, void* out) const;
  const std::string& path() const { return path_; }

 private:
  MappedFile() = default;

  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int fd_ = -1;  // -1: not kept open
  std::string path_;
};

// Gives back the resident pages that lie wholly within `bytes`, a part of a MappedFile (of nothing
// else: other memory would lose its contents). They are read again from the file when touched.
void drop_resident_pages(std::span<const std::byte> bytes);

// The whole of a small file (config.json and the like). RESOURCE_EXHAUSTED beyond max_bytes.
StatusOr<std::string> read_small_file(const std::string& path, size_t max_bytes);

}  // namespace pelton
