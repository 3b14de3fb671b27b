// SPDX-License-Identifier: Apache-2.0
// An HTTP server with a limit for everything that a client can make large, slow or many.
//
// How       cpp-httplib accepts, parses and writes; this file reads the head of a request itself,
//           since the library bounds neither its size nor its time. One request a connection, so
//           that an idle client holds nothing.
// Threads   `handler` is called by many at once. stop() may be called by any.
// Limits    Past `workers` and `queued` connections: 503. A head larger than `head_bytes`: 431; a
//           body larger than `body_bytes`: 413; either slower than `read_time`: 408. An answer that
//           the client does not take within `write_time` is cut off.
// Fails     std::runtime_error where the address cannot be listened on.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mprof::dumper {

struct HttpLimits {
  size_t workers = 64;  // most of them wait for the end of a profile's seconds
  size_t queued = 64;
  size_t head_bytes = 8 * 1024;  // not above what cpp-httplib takes for one line: 8192
  size_t body_bytes = 1024 * 1024;
  std::chrono::milliseconds read_time{10'000};
  std::chrono::milliseconds write_time{60'000};
};

struct HttpRequest {
  std::string method;
  std::string path;                                    // decoded, without the query
  std::string query;                                   // as it was sent
  std::multimap<std::string, std::string> parameters;  // decoded
  std::string host;
  std::string authorization;
  std::string body;
  // False, at once, when the client has gone or the server is stopping: nobody wants the answer.
  std::function<bool(std::chrono::milliseconds)> wait;

  // The first of this name, nullptr if there is none.
  [[nodiscard]] const std::string* parameter(const std::string& name) const;
};

// For answers that are large: a file that loses its name here, and is gone with the last who holds
// it.
class BodyFile {
 public:
  // Throws std::system_error.
  explicit BodyFile(const std::string& path);
  ~BodyFile();
  BodyFile(const BodyFile&) = delete;
  BodyFile& operator=(const BodyFile&) = delete;
  [[nodiscard]] uint64_t bytes() const;
  // As many as there are, from `offset` on.
  [[nodiscard]] std::string read(uint64_t offset, size_t bytes) const;

 private:
  int fd_;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::shared_ptr<const BodyFile> file;  // in place of `body`
  std::vector<std::pair<std::string, std::string>> headers;
};

using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

class HttpServer {
 public:
  explicit HttpServer(HttpHandler handler, HttpLimits limits = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // `host` is a numeric address; port 0 takes a free one. The port.
  uint16_t bind(const std::string& host, uint16_t port);
  // Serves until stop(); false if it had to end without.
  bool run();
  void stop();
  // Serves one connection that somebody else accepted, here and now, and closes it.
  void serve(int fd);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// The head of a request as cpp-httplib may see it: without the headers that it would act on by
// itself (a list of ranges multiplies the answer; a body was read already; profiles are
// compressed).
[[nodiscard]] std::string trusted_head(std::string_view head);
// Of the first header of this name (in lower case); nullopt if there is none.
[[nodiscard]] std::optional<std::string> header_of(std::string_view head, std::string_view name);

}  // namespace mprof::dumper
