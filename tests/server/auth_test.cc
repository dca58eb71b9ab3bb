#include "server/auth.h"

#include "tests/support/catch.h"

namespace pelton {

TEST_CASE("without keys everybody is the nameless tenant") {
  const Authenticator open({});
  CHECK_FALSE(open.required());
  CHECK(open.tenant(std::nullopt).value() == "");
  CHECK(open.tenant("Bearer whatever").value() == "");
  CHECK_FALSE(Authenticator({""}).required());
}

TEST_CASE("only a known key passes and nothing near it") {
  const Authenticator auth({"secret", "other"});
  REQUIRE(auth.required());
  for (const char* good : {"Bearer secret", "bearer secret", "BEARER other"}) {
    CAPTURE(good);
    CHECK(auth.tenant(good).ok());
  }
  for (const char* bad : {"", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets",
                          "Bearer  secret", "Basic secret", "secret", "Bearer Secret"}) {
    CAPTURE(bad);
    const auto refused = auth.tenant(bad);
    CHECK(refused.status().code() == absl::StatusCode::kUnauthenticated);
    CHECK(error_reason(refused.status()) == "UNAUTHENTICATED");
  }
  CHECK_FALSE(auth.tenant(std::nullopt).ok());
  CHECK_FALSE(auth.tenant("Bearer " + std::string(100000, 'x')).ok());
}

TEST_CASE("a tenant is stable between processes and differs between keys and hides its key") {
  const Authenticator one({"secret", "other"});
  const Authenticator two({"other", "secret"});
  CHECK(one.tenant("Bearer secret").value() == two.tenant("Bearer secret").value());
  CHECK(one.tenant("Bearer secret").value() != one.tenant("Bearer other").value());
  CHECK(one.tenant("Bearer secret").value().find("secret") == std::string::npos);
}

}  // namespace pelton
