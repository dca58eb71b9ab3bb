#include "model/formats/mapped_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_dir.h"

namespace pelton {
namespace {

void check_parts(const std::string& path, const std::string& content) {
  auto opened = MappedFile::open(path);
  REQUIRE(opened.ok());
  const MappedFile file = *std::move(opened);  // moved: the descriptor goes along
  REQUIRE(file.bytes().size() == content.size());
  for (const auto& [begin, size] : std::vector<std::pair<size_t, size_t>>{
           {0, content.size()}, {0, 0}, {1, 1}, {4095, 4099}, {content.size() - 7, 7}}) {
    std::string out(size + 1, '#');
    file.read(file.bytes().subspan(begin, size), out.data());
    CHECK(out == content.substr(begin, size) + "#");
  }
}

}  // namespace

TEST_CASE("a part read from a file is what its mapping holds with or without a descriptor") {
  const TempDir dir;
  const std::string path = (dir.path() / "x").string();
  std::string content(20011, ' ');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31 + i / 256);
  write_file(path, content);
  check_parts(path, content);
  std::vector<int> taken;  // so many that none is kept
  for (int i = 0; i < 300; ++i) taken.push_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  check_parts(path, content);
  for (const int fd : taken) close(fd);
}

}  // namespace pelton
