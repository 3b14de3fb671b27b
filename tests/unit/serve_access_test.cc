// SPDX-License-Identifier: Apache-2.0
#include "dumper/serve_access.h"

#include <cstdlib>
#include <fstream>

#include "tests/unit/catch.h"
#include "tests/unit/small_dump.h"

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using Catch::Contains;

namespace {

std::string written(const mprof::testing::TempDir& dir, const std::string& text) {
  const std::string path = dir / "token";
  std::ofstream(path) << text;
  return path;
}

}  // namespace

TEST_CASE("serve access: addresses to listen on") {
  struct Case {
    const char* text;
    const char* host;
    uint16_t port;
    bool is_loopback;
  };
  for (const Case& wanted :
       {Case{"127.0.0.1:6060", "127.0.0.1", 6060, true}, Case{"127.3.2.1:1", "127.3.2.1", 1, true},
        Case{"localhost:0", "127.0.0.1", 0, true}, Case{"[::1]:65535", "::1", 65535, true},
        Case{":6060", "0.0.0.0", 6060, false}, Case{"0.0.0.0:6060", "0.0.0.0", 6060, false},
        Case{"[::]:6060", "::", 6060, false}, Case{"192.0.2.7:6060", "192.0.2.7", 6060, false}}) {
    INFO(wanted.text);
    const ListenAddress address = parse_listen(wanted.text);
    CHECK(address.host == wanted.host);
    CHECK(address.port == wanted.port);
    CHECK(address.is_loopback == wanted.is_loopback);
  }
}

TEST_CASE("serve access: what is no address is named with what is accepted") {
  for (const char* text : {"", "6060", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
                           "127.0.0.1:80x", "::1:6060", "[::1]6060", "[::1", "example.com:6060",
                           "127.0.0.1.evil.com:6060", "127.1:6060", "localhost.:1"}) {
    INFO(text);
    CHECK_THROWS_WITH(parse_listen(text), Contains(std::string("'") + text + "'") &&
                                              Contains("accepted is ADDRESS:PORT"));
  }
}

TEST_CASE("serve access: an address with a port as it stands in a URL") {
  CHECK(address_text("127.0.0.1", 6060) == "127.0.0.1:6060");
  CHECK(address_text("::1", 1) == "[::1]:1");
}

TEST_CASE("serve access: names of this machine, and those that only pretend") {
  for (const char* name : {"localhost", "localhost:6060", "LocalHost:1", "127.0.0.1",
                           "127.0.0.1:80", "127.9.9.9", "[::1]", "[::1]:6060", "localhost:"}) {
    INFO(name);
    CHECK(is_local_name(name));
  }
  for (const char* name :
       {"", "evil.com", "localhost.evil.com", "127.0.0.1.evil.com", "10.0.0.1", "[::2]:6060", "::1",
        "localhost:99999", "localhost:80x", "127.0.0.1:6060:1", "[::1", "evil.com:127.0.0.1"}) {
    INFO(name);
    CHECK_FALSE(is_local_name(name));
  }
}

TEST_CASE("serve access: only the whole token behind Bearer is right") {
  const std::string token = "0123456789abcdef";
  CHECK(bears_token("Bearer 0123456789abcdef", token));
  CHECK(bears_token("bearer 0123456789abcdef", token));
  for (const char* wrong :
       {"", "Bearer", "Bearer ", "0123456789abcdef", "Basic 0123456789abcdef",
        "Bearer 0123456789abcdeF", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0",
        "Bearer  0123456789abcdef", "Bearer 0123456789abcdef "}) {
    INFO(wrong);
    CHECK_FALSE(bears_token(wrong, token));
  }
}

TEST_CASE("serve access: a token is the first line of a file, or a variable") {
  const mprof::testing::TempDir dir;
  CHECK(token_from_file(written(dir, "0123456789abcdef\nmore\n")) == "0123456789abcdef");
  CHECK(token_from_file(written(dir, "0123456789abcdef \t\r\n")) == "0123456789abcdef");
  setenv("SERVE_ACCESS_TEST", "fedcba9876543210", 1);
  CHECK(token_from_variable("SERVE_ACCESS_TEST") == "fedcba9876543210");
}

TEST_CASE("serve access: a token that is none is refused, and never printed") {
  const mprof::testing::TempDir dir;
  for (const char* text :
       {"", "\n0123456789abcdef", "short", "0123456789 abcdef", "0123456789abcde\x01"}) {
    INFO(text);
    CHECK_THROWS_WITH(token_from_file(written(dir, text)),
                      Contains("16 or more visible") && !Contains("0123456789"));
  }
  CHECK_THROWS_WITH(token_from_file(dir / "absent"), Contains("No such file"));
  unsetenv("SERVE_ACCESS_TEST");
  CHECK_THROWS_WITH(token_from_variable("SERVE_ACCESS_TEST"), Contains("no such variable"));
}
