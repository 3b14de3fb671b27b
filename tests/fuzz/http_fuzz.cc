// SPDX-License-Identifier: Apache-2.0
// Hostile bytes as what a client sends to `mprof serve`: the head, the body, the token, the routes,
// their parameters. The first byte says whether a token is asked for.
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>

#include "dumper/http_server.h"
#include "dumper/serve.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/use_dump.h"
#include "tests/unit/dump_image.h"

namespace {

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using mprof::fuzz::require;

constexpr const char* kToken = "0123456789abcdef";

ServeOptions served() {
  mprof::testing::DumpImage image;
  mprof::testing::fill_with_sample_content(image);
  ServeOptions options;
  options.what = {mprof::fuzz::folder() + "/dump"};
  std::ofstream(options.what.front(), std::ios::binary)
      .write(reinterpret_cast<const char*>(image.bytes()),
             static_cast<std::streamsize>(image.size_bytes()));
  options.symbols = mprof::fuzz::nothing_to_open();
  return options;
}

HttpServer& server(bool with_token) {
  static const ServeOptions options = served();
  static HttpServer open(make_handler(options, ""));
  static HttpServer closed(make_handler(options, kToken));
  return with_token ? closed : open;
}

// An answer needs no more room in the socket than this.
constexpr int kSocketBytes = 4 << 20;

std::string answer_to(std::string_view request, bool with_token) {
  int ends[2];
  require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  for (const int fd : ends) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBytes, sizeof kSocketBytes);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);
  }
  (void)send(ends[0], request.data(), request.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  shutdown(ends[0], SHUT_WR);
  server(with_token).serve(ends[1]);
  std::string answer(1 << 16, '\0');
  const ssize_t got = recv(ends[0], answer.data(), answer.size(), MSG_DONTWAIT);
  answer.resize(got < 0 ? 0 : static_cast<size_t>(got));
  close(ends[0]);
  return answer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mprof::fuzz::Input input(data, size);
  const bool with_token = input.number<uint8_t>() % 2 != 0;
  const std::string request(input.rest());
  const std::string answer = answer_to(request, with_token);
  if (answer.empty()) return 0;  // it did not come whole
  require(answer.starts_with("HTTP/1."));
  const bool is_ok = answer.substr(8, 4) == " 200";
  if (is_ok) mprof::fuzz::understood();
  require(!is_ok || !with_token || request.find(kToken) != std::string::npos);
  // A line of the client's must not become one of the head.
  const std::string head = answer.substr(0, answer.find("\r\n\r\n"));
  require(head.find("\r\nSet-Cookie") == std::string::npos);
  return 0;
}
