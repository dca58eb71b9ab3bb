#include "core/log.h"

#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("text log lines quote what could not be split again") {
  CHECK(format_log_line(false, "ready", {{"http", "127.0.0.1:8000"}, {"n", 3}, {"ok", true}}) ==
        "ready http=127.0.0.1:8000 n=3 ok=true");
  CHECK(format_log_line(false, "x", {{"path", "a b"}, {"e", ""}}) == "x path=\"a b\" e=\"\"");
}

TEST_CASE("json log lines escape control characters and never hold nan") {
  CHECK(format_log_line(true, "a\"b\n", {{"t", 0.5}, {"bad", 0.0 / 0.0}}) ==
        "\"message\":\"a\\\"b\\u000a\",\"t\":0.5,\"bad\":null");
}

}  // namespace pelton
