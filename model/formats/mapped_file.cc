#include "model/formats/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <utility>

#include "core/check.h"

namespace pelton {
namespace {

// Descriptors are scarce (often 1,024 a process): from here on none is kept.
constexpr int kMaxKeptDescriptor = 256;

Status os_error(const std::string& path, int error) {
  const std::string message = fmt::format("{}: {}", path, std::system_category().message(error));
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(message);
  if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(message);
  return absl::UnavailableError(message);
}

// An open regular file; closed with the object.
struct OpenFile {
  int fd = -1;
  size_t size = 0;

  OpenFile() = default;
  OpenFile(OpenFile&& other) noexcept : fd(std::exchange(other.fd, -1)), size(other.size) {}
  OpenFile& operator=(OpenFile&&) = delete;
  ~OpenFile() {
    if (fd >= 0) close(fd);
  }
};

StatusOr<OpenFile> open_regular(const std::string& path) {
  OpenFile file;
  // O_NONBLOCK: a FIFO in a file's place must not block; it is refused below.
  file.fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd < 0) return os_error(path, errno);
  struct stat info {};
  if (fstat(file.fd, &info) != 0) return os_error(path, errno);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(fmt::format("{}: not a regular file", path));
  }
  file.size = static_cast<size_t>(info.st_size);
  return file;
}

}  // namespace

StatusOr<MappedFile> MappedFile::open(const std::string& path) {
  PELTON_ASSIGN_OR_RETURN(OpenFile file, open_regular(path));
  if (file.size == 0) return absl::InvalidArgumentError(fmt::format("{}: empty file", path));
  void* data = mmap(nullptr, file.size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) return os_error(path, errno);
  MappedFile mapped;
  mapped.data_ = static_cast<const std::byte*>(data);
  mapped.size_ = file.size;
  mapped.path_ = path;
  if (file.fd < kMaxKeptDescriptor) mapped.fd_ = std::exchange(file.fd, -1);
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
  if (fd_ >= 0) close(fd_);
}

void MappedFile::read(std::span<const std::byte> part, void* out) const {
  PELTON_CHECK(data_ <= part.data() && part.data() + part.size() <= data_ + size_,
               "a part of another file");
  auto* to = static_cast<std::byte*>(out);
  while (fd_ >= 0 && !part.empty()) {
    const ssize_t got = pread(fd_, to, part.size(), part.data() - data_);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    part = part.subspan(static_cast<size_t>(got));
    to += got;
  }
  if (!part.empty()) std::memcpy(to, part.data(), part.size());
}

void drop_resident_pages(std::span<const std::byte> bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + bytes.size()) / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

StatusOr<std::string> read_small_file(const std::string& path, size_t max_bytes) {
  PELTON_ASSIGN_OR_RETURN(const OpenFile file, open_regular(path));
  if (file.size > max_bytes) {
    return absl::ResourceExhaustedError(
        fmt::format("{}: {} bytes, at most {} are read", path, file.size, max_bytes));
  }
  std::string text(file.size, '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = read(file.fd, text.data() + done, text.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_error(path, errno);
    if (got == 0) break;  // it shrank while it was read
    done += static_cast<size_t>(got);
  }
  text.resize(done);
  return text;
}

}  // namespace pelton
