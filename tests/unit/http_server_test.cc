// SPDX-License-Identifier: Apache-2.0
#include "dumper/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <thread>

#include "tests/unit/catch.h"
#include "tests/unit/small_dump.h"

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using namespace std::chrono_literals;
using Catch::Contains;
using Catch::EndsWith;
using Catch::StartsWith;

namespace {

// Small enough that each limit is met within milliseconds.
HttpLimits small_limits() {
  HttpLimits limits;
  limits.workers = 2;
  limits.queued = 2;
  limits.head_bytes = 400;
  limits.body_bytes = 1000;
  limits.read_time = 300ms;
  return limits;
}

// A server that runs as long as it lives.
class Running {
 public:
  explicit Running(HttpHandler handler, HttpLimits limits = small_limits())
      : server_(std::move(handler), limits),
        port_(server_.bind("127.0.0.1", 0)),
        thread_([this] { ended_well_ = server_.run(); }) {}
  ~Running() {
    if (thread_.joinable()) stop();
  }
  bool stop() {
    server_.stop();
    thread_.join();
    return ended_well_;
  }
  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  HttpServer server_;
  uint16_t port_;
  bool ended_well_ = false;
  std::thread thread_;
};

class Client {
 public:
  explicit Client(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { leave(); }

  // False where the server has closed already.
  bool try_send(const std::string& text) const {
    return ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }
  void send(const std::string& text) const { REQUIRE(try_send(text)); }
  // Everything until the server closes.
  [[nodiscard]] std::string receive() const {
    std::string all;
    char buffer[4096];
    for (;;) {
      pollfd ready{fd_, POLLIN, 0};
      REQUIRE(poll(&ready, 1, 20'000) == 1);
      const ssize_t count = recv(fd_, buffer, sizeof buffer, 0);
      if (count <= 0) return all;
      all.append(buffer, static_cast<size_t>(count));
    }
  }
  std::string ask(const std::string& text) const {
    send(text);
    return receive();
  }
  void leave() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

HttpResponse echo(const HttpRequest& request) {
  HttpResponse response;
  response.body = request.method + " " + request.path + " q=" + request.query +
                  " host=" + request.host + " auth=" + request.authorization +
                  " body=" + request.body;
  if (const std::string* value = request.parameter("a")) response.body += " a=" + *value;
  return response;
}

std::string answer_to(const std::string& text) {
  const Running server(echo);
  return Client(server.port()).ask(text);
}

}  // namespace

TEST_CASE("http server: a request arrives decoded and its answer closes the connection") {
  const std::string answer =
      answer_to("GET /x%20y?a=1%2B2&a=3 HTTP/1.1\r\nHost: h:1\r\nAuthorization: Bearer t\r\n\r\n");
  CHECK_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  CHECK_THAT(answer, Contains("\r\nConnection: close\r\n"));
  CHECK_THAT(answer, Contains("\r\nX-Content-Type-Options: nosniff\r\n"));
  CHECK_THAT(answer, Contains("\r\n\r\nGET /x y q=a=1%2B2&a=3 host=h:1 auth=Bearer t body= a=1+2"));
}

TEST_CASE("http server: a file is sent whole, and gone afterwards") {
  const mprof::testing::TempDir dir;
  const std::string path = dir / "file";
  std::string content;
  for (int i = 0; i < 300'000; ++i) content += static_cast<char>(i % 251);
  const Running server([&](const HttpRequest& request) {
    std::ofstream(path) << (request.path == "/empty" ? "" : content);
    HttpResponse response;
    response.content_type = "application/octet-stream";
    response.file = std::make_shared<BodyFile>(path);
    return response;
  });
  const std::string answer = Client(server.port()).ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  CHECK_THAT(answer, Contains("\r\nContent-Length: 300000\r\n") &&
                         Contains("\r\nContent-Type: application/octet-stream\r\n"));
  CHECK(answer.substr(answer.find("\r\n\r\n") + 4) == content);
  CHECK_FALSE(std::ifstream(path).is_open());
  CHECK_THAT(Client(server.port()).ask("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"),
             Contains("\r\nContent-Length: 300000\r\n") && EndsWith("\r\n\r\n"));
  CHECK_THAT(Client(server.port()).ask("GET /empty HTTP/1.1\r\nHost: x\r\n\r\n"),
             StartsWith("HTTP/1.1 200 OK\r\n") && EndsWith("\r\n\r\n"));
}

TEST_CASE("http server: a body comes whole, wherever it is cut") {
  const Running server(echo);
  const Client client(server.port());
  client.send("POST /s HTTP/1.1\r\nContent-Len");
  std::this_thread::sleep_for(20ms);
  client.send("gth: 6\r\n\r\nab");
  std::this_thread::sleep_for(20ms);
  CHECK_THAT(client.ask("cdefBEYOND"),
             Contains("POST /s") && Contains("body=abcdef") && !Contains("BEYOND"));
}

TEST_CASE("http server: a client that asks first is told to go on") {
  const Running server(echo);
  const Client client(server.port());
  client.send("POST /s HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  std::this_thread::sleep_for(20ms);
  const std::string answer = client.ask("ok");
  CHECK_THAT(answer, StartsWith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
  CHECK_THAT(answer, Contains("body=ok"));
}

TEST_CASE("http server: what is too large is refused with its limit") {
  CHECK_THAT(answer_to("GET / HTTP/1.1\r\nX: " + std::string(500, 'x') + "\r\n\r\n"),
             StartsWith("HTTP/1.1 431 ") && Contains("larger than 400 bytes"));
  CHECK_THAT(answer_to("GET /" + std::string(100'000, 'x')), StartsWith("HTTP/1.1 431 "));
  CHECK_THAT(answer_to("POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n"),
             StartsWith("HTTP/1.1 413 ") && Contains("larger than 1000 bytes"));
  CHECK_THAT(answer_to("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
             StartsWith("HTTP/1.1 413 "));
}

TEST_CASE("http server: a body of unknown length is refused") {
  CHECK_THAT(answer_to("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
             StartsWith("HTTP/1.1 411 ") && Contains("Content-Length"));
  for (const char* length : {"-1", "x", "1x", ""}) {
    INFO(length);
    CHECK_THAT(answer_to(std::string("POST / HTTP/1.1\r\nContent-Length: ") + length + "\r\n\r\n"),
               StartsWith("HTTP/1.1 400 ") && Contains("number of bytes"));
  }
}

TEST_CASE("http server: what is not HTTP is refused") {
  for (const char* text : {"nonsense\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/3.0\r\n\r\n",
                           "BREW / HTTP/1.1\r\n\r\n", "\r\n\r\n", "GET / x HTTP/1.1\r\n\r\n"}) {
    INFO(text);
    CHECK_THAT(answer_to(text), StartsWith("HTTP/1.1 400 ") && Contains("not a request"));
  }
}

TEST_CASE("http server: who is slow is told so, who says nothing is not answered") {
  CHECK_THAT(answer_to("GET / HTTP/1.1\r\nHost: x\r\n"),
             StartsWith("HTTP/1.1 408 ") && Contains("head") && Contains("300 ms"));
  CHECK_THAT(answer_to("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc"),
             StartsWith("HTTP/1.1 408 ") && Contains("body"));
  CHECK(answer_to("").empty());
}

TEST_CASE("http server: a drop at a time does not stretch the time to read") {
  const Running server(echo);
  const Client client(server.port());
  const auto start = std::chrono::steady_clock::now();
  client.send("GET / HTTP/1.1\r\n");
  for (int i = 0; i < 6; ++i) {
    std::this_thread::sleep_for(100ms);
    client.try_send("X");
  }
  CHECK_THAT(client.receive(), StartsWith("HTTP/1.1 408 "));
  CHECK(std::chrono::steady_clock::now() - start < 10s);
}

TEST_CASE("http server: more than work and wait are turned away, and served later") {
  std::atomic<bool> is_free = false;
  std::atomic<int> working = 0;
  const Running server([&](const HttpRequest& request) {
    ++working;
    while (!is_free) std::this_thread::sleep_for(1ms);
    return echo(request);
  });
  const std::string get = "GET / HTTP/1.1\r\n\r\n";
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->send(get);
    // The first two are being worked on before others wait for their turn.
    while (i < 2 && working < i + 1) std::this_thread::sleep_for(1ms);
  }
  std::this_thread::sleep_for(100ms);
  CHECK_THAT(Client(server.port()).ask(get),
             StartsWith("HTTP/1.1 503 ") && Contains("2 requests are being served and 2 wait"));
  is_free = true;
  for (const auto& client : clients) CHECK_THAT(client->receive(), StartsWith("HTTP/1.1 200 "));
  CHECK_THAT(Client(server.port()).ask(get), StartsWith("HTTP/1.1 200 "));
}

TEST_CASE("http server: waiting ends when the client leaves") {
  std::atomic<int> waited = -1;
  const Running server([&](const HttpRequest& request) {
    waited = request.wait(60s) ? 1 : 0;
    return HttpResponse();
  });
  Client client(server.port());
  client.send("GET / HTTP/1.1\r\n\r\n");
  std::this_thread::sleep_for(50ms);
  CHECK(waited == -1);
  client.leave();
  for (int i = 0; i < 10'000 && waited == -1; ++i) std::this_thread::sleep_for(1ms);
  CHECK(waited == 0);
}

TEST_CASE("http server: waiting ends in time, and when the server stops") {
  std::atomic<int> waited = -1;
  Running server([&](const HttpRequest& request) {
    const bool is_short = request.path == "/short";
    waited = request.wait(is_short ? 10ms : 60'000ms) ? 1 : 0;
    return HttpResponse();
  });
  CHECK_THAT(Client(server.port()).ask("GET /short HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  CHECK(waited == 1);
  const Client client(server.port());
  client.send("GET /long HTTP/1.1\r\n\r\n");
  std::this_thread::sleep_for(50ms);
  CHECK(server.stop());
  CHECK(waited == 0);
  CHECK_THAT(client.receive(), StartsWith("HTTP/1.1 200"));
}

TEST_CASE("http server: stopped before it runs, it does not run") {
  HttpServer server(echo);
  server.bind("127.0.0.1", 0);
  server.stop();
  CHECK(server.run());
}

TEST_CASE("http server: a port has one server") {
  const Running first(echo);
  HttpServer second(echo);
  CHECK_THROWS_WITH(second.bind("127.0.0.1", first.port()), Contains("Address already in use"));
}

TEST_CASE("http server: ranges are not for the library to act on") {
  const std::string answer =
      answer_to("GET /0123456789 HTTP/1.1\r\nRange: bytes=0-1,0-1,0-1\r\n\r\n");
  CHECK_THAT(answer, StartsWith("HTTP/1.1 200 ") && Contains("GET /0123456789"));
}

TEST_CASE("http server: an answer to HEAD has no body") {
  const std::string answer = answer_to("HEAD /x HTTP/1.1\r\n\r\n");
  CHECK_THAT(answer, StartsWith("HTTP/1.1 200 ") && Contains("Content-Length: 28\r\n") &&
                         Catch::EndsWith("\r\n\r\n"));
}

TEST_CASE("http server: headers by name, and the head without those that act") {
  const std::string head =
      "GET / HTTP/1.1\r\nA: 1\r\nrAnge: bytes=0-\r\nRanges: x\r\nEXPECT:y\r\nAccept-Encoding: "
      "gzip\r\nCONTENT-length:\t 7 "
      "\r\na: 2\r\n\r\n";
  CHECK(trusted_head(head) == "GET / HTTP/1.1\r\nA: 1\r\nRanges: x\r\na: 2\r\n\r\n");
  CHECK(header_of(head, "a") == "1");
  CHECK(header_of(head, "content-length") == "7");
  CHECK(header_of(head, "expect") == "y");
  CHECK_FALSE(header_of(head, "content"));
  CHECK_FALSE(header_of(head, "host"));
}
