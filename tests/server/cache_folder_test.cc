#include "server/cache_folder.h"

#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("The cache lies where XDG says and below the home folder else") {
  CHECK(cache_folder("/x", "/home/a") == "/x/pelton");
  CHECK(cache_folder(nullptr, "/home/a") == "/home/a/.cache/pelton");
  CHECK(cache_folder("", "/home/a") == "/home/a/.cache/pelton");
  CHECK(cache_folder("relative", "/home/a") == "/home/a/.cache/pelton");
  CHECK(cache_folder("relative", nullptr) == "");
  CHECK(cache_folder(nullptr, "") == "");
}

}  // namespace pelton
