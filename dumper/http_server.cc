// SPDX-License-Identifier: Apache-2.0
#include "dumper/http_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <httplib.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace mprof::dumper {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::string_view kLineEnd = "\r\n";
constexpr std::string_view kHeadEnd = "\r\n\r\n";
// For what a refused client is still sending: closing on it would take the answer away again.
constexpr milliseconds kLinger{500};
constexpr milliseconds kShortLinger{20};  // where nobody else is accepted meanwhile
constexpr int kBacklog = 256;
constexpr size_t kFilePart = 64 * 1024;

int milliseconds_until(steady_clock::time_point deadline) {
  const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1'000'000));
}

bool wait_ready(int fd, short events, steady_clock::time_point deadline) {
  for (;;) {
    pollfd ready{fd, events, 0};
    const int count = poll(&ready, 1, milliseconds_until(deadline));
    if (count > 0) return true;
    if (count == 0 || errno != EINTR) return false;
  }
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

bool is_named(std::string_view line, std::string_view name) {
  return line.size() > name.size() && line[name.size()] == ':' &&
         equal_ignoring_case(line.substr(0, name.size()), name);
}

std::string_view without_blanks(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

void for_each_line(std::string_view head, const std::function<void(std::string_view)>& use) {
  while (!head.empty()) {
    const size_t end = std::min(head.find(kLineEnd), head.size());
    use(head.substr(0, end));
    head.remove_prefix(std::min(end + kLineEnd.size(), head.size()));
  }
}

// Why a request is not read any further.
struct Refusal {
  int status;
  std::string text;
};

const char* reason_of(int status) {
  switch (status) {
    case 400: return "Bad Request";
    case 408: return "Request Timeout";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 431: return "Request Header Fields Too Large";
    default: return "Service Unavailable";
  }
}

// One connection, as the stream that cpp-httplib reads the head from and writes the answer to.
class Connection final : public httplib::Stream {
 public:
  Connection(int fd, int stop_fd, const HttpLimits& limits)
      : fd_(fd),
        stop_fd_(stop_fd),
        limits_(limits),
        read_deadline_(steady_clock::now() + limits.read_time) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() override { close(fd_); }

  // Head and body, each within its limits.
  std::optional<Refusal> receive() {
    if (auto refusal = receive_head()) return refusal;
    size_t length = 0;
    if (auto refusal = body_length(length)) return refusal;
    if (length > limits_.body_bytes)
      return Refusal{413, fmt::format("the body is larger than {} bytes", limits_.body_bytes)};
    if (auto refusal = receive_body(length)) return refusal;
    head_ = trusted_head(head_);
    return std::nullopt;
  }

  // Answers without cpp-httplib, and takes what the client is still sending.
  void refuse(const Refusal& refusal, milliseconds linger) {
    const std::string body = refusal.text + "\n";
    const std::string answer = fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{}",
        refusal.status, reason_of(refusal.status), body.size(), body);
    const auto deadline = steady_clock::now() + linger;
    wait_ready(fd_, POLLIN, deadline);  // the request, which is often a moment behind
    discard();
    write_deadline_ = deadline;
    write(answer.data(), answer.size());
    shutdown(fd_, SHUT_WR);
    while (wait_ready(fd_, POLLIN, deadline) && discard()) {
    }
  }

  [[nodiscard]] bool was_silent() const { return head_.empty(); }
  [[nodiscard]] std::string take_body() { return std::move(body_); }

  [[nodiscard]] bool wait(milliseconds time) const {
    const auto deadline = steady_clock::now() + time;
    for (;;) {
      pollfd events[] = {{fd_, POLLRDHUP, 0}, {stop_fd_, POLLIN, 0}};
      const int count = poll(events, 2, milliseconds_until(deadline));
      if (count > 0) return false;
      if (count < 0 && errno != EINTR) return false;
      if (steady_clock::now() >= deadline) return true;
    }
  }

  void start_answer() { write_deadline_ = steady_clock::now() + limits_.write_time; }

  bool is_readable() const override { return read_ < head_.size(); }
  bool is_writable() const override { return true; }
  ssize_t read(char* to, size_t size) override {
    const size_t count = head_.copy(to, size, read_);
    read_ += count;
    return static_cast<ssize_t>(count);
  }
  ssize_t write(const char* from, size_t size) override {
    for (;;) {
      const ssize_t count = send(fd_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count >= 0) return count;
      if (errno != EAGAIN && errno != EINTR) return -1;
      if (!wait_ready(fd_, POLLOUT, write_deadline_)) return -1;
    }
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip.clear();
    port = 0;
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    get_remote_ip_and_port(ip, port);
  }
  socket_t socket() const override { return fd_; }

 private:
  // More of the request, at the end of `to`; false at its end, or at the deadline.
  bool receive_more(std::string& to, size_t most) {
    if (!wait_ready(fd_, POLLIN, read_deadline_)) return false;
    char buffer[4096];
    const ssize_t count = recv(fd_, buffer, std::min(most, sizeof buffer), MSG_DONTWAIT);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    to.append(buffer, static_cast<size_t>(count));
    return count > 0;
  }

  std::optional<Refusal> receive_head() {
    for (size_t seen = 0;;) {
      const size_t end = head_.find(kHeadEnd, seen > 3 ? seen - 3 : 0);
      if (end != std::string::npos && end + kHeadEnd.size() <= limits_.head_bytes) {
        body_ = head_.substr(end + kHeadEnd.size());
        head_.resize(end + kHeadEnd.size());
        return std::nullopt;
      }
      if (head_.size() > limits_.head_bytes)
        return Refusal{431, fmt::format("the head of the request is larger than {} bytes",
                                        limits_.head_bytes)};
      seen = head_.size();
      if (!receive_more(head_, limits_.head_bytes + 1)) return too_slow("head");
    }
  }

  std::optional<Refusal> body_length(size_t& length) const {
    if (header_of(head_, "transfer-encoding"))
      return Refusal{411, "a body is accepted with a Content-Length only"};
    const auto text = header_of(head_, "content-length");
    if (!text) return std::nullopt;
    const char* end = text->data() + text->size();
    const auto [rest, error] = std::from_chars(text->data(), end, length);
    if (error == std::errc::result_out_of_range) length = SIZE_MAX;
    if (error == std::errc::invalid_argument || rest != end)
      return Refusal{400, "Content-Length: accepted is a number of bytes"};
    return std::nullopt;
  }

  std::optional<Refusal> receive_body(size_t length) {
    if (body_.size() > length) body_.resize(length);
    if (body_.size() < length && header_of(head_, "expect")) write_continue();
    while (body_.size() < length)
      if (!receive_more(body_, length - body_.size())) return too_slow("body");
    return std::nullopt;
  }

  void write_continue() {
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    write_deadline_ = read_deadline_;
    write(kContinue.data(), kContinue.size());
  }

  [[nodiscard]] Refusal too_slow(const char* what) const {
    return {408, fmt::format("the {} of the request did not come whole, or not within {} ms", what,
                             limits_.read_time.count())};
  }

  bool discard() const {
    char buffer[4096];
    ssize_t count = 0;
    do count = recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
    while (count == sizeof buffer);
    return count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR));
  }

  int fd_;
  int stop_fd_;
  const HttpLimits& limits_;
  steady_clock::time_point read_deadline_;
  steady_clock::time_point write_deadline_;
  std::string head_;
  std::string body_;
  size_t read_ = 0;  // of head_, by cpp-httplib
};

// What cpp-httplib calls a handler with does not say for which connection.
thread_local Connection* current_connection = nullptr;
// Set while a connection is handed to this thread because there is no place for it.
thread_local bool is_refusing = false;

// Threads, and a queue with an end.
class BoundedPool final : public httplib::TaskQueue {
 public:
  // void in the versions of cpp-httplib that have no bound of their own.
  using Enqueued = decltype(std::declval<httplib::TaskQueue&>().enqueue(nullptr));

  BoundedPool(size_t workers, size_t queued) : most_queued_(queued) {
    for (size_t i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
  }

  Enqueued enqueue(std::function<void()> task) override {
    if (!try_enqueue(task)) {
      is_refusing = true;
      task();
      is_refusing = false;
    }
    return static_cast<Enqueued>(true);
  }

  void shutdown() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  bool try_enqueue(std::function<void()>& task) {
    const std::lock_guard lock(mutex_);
    if (tasks_.size() >= most_queued_ + idle_) return false;
    tasks_.push_back(std::move(task));
    changed_.notify_one();
    return true;
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      ++idle_;
      changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      --idle_;
      if (tasks_.empty()) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
    }
  }

  size_t most_queued_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  size_t idle_ = 0;
  bool stopping_ = false;
};

HttpRequest request_of(const httplib::Request& in, Connection& connection) {
  HttpRequest request;
  request.method = in.method;
  request.path = in.path;
  const size_t question = in.target.find('?');
  if (question != std::string::npos) request.query = in.target.substr(question + 1);
  request.parameters = in.params;
  request.host = in.get_header_value("Host");
  request.authorization = in.get_header_value("Authorization");
  request.body = connection.take_body();
  request.wait = [&connection](milliseconds time) { return connection.wait(time); };
  return request;
}

void fill_from(httplib::Response& out, const std::shared_ptr<const BodyFile>& file,
               const std::string& content_type) {
  out.set_content_provider(
      file->bytes(), content_type, [file](size_t offset, size_t length, httplib::DataSink& sink) {
        const std::string part = file->read(offset, std::min(length, kFilePart));
        return !part.empty() && sink.write(part.data(), part.size());
      });
}

void fill(httplib::Response& out, HttpResponse response) {
  out.status = response.status;
  out.body = std::move(response.body);
  if (response.file != nullptr)
    fill_from(out, response.file, response.content_type);
  else
    out.set_header("Content-Type", response.content_type);
  out.set_header("X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : response.headers) out.set_header(name, value);
}

}  // namespace

class HttpServer::Impl final : public httplib::Server {
 public:
  Impl(HttpHandler handler, HttpLimits limits)
      : handler_(std::move(handler)),
        limits_(limits),
        stop_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (stop_fd_ < 0) throw std::runtime_error("eventfd failed");
    new_task_queue = [this] { return new BoundedPool(limits_.workers, limits_.queued); };
    // Not SO_REUSEPORT, the default: a second server would silently take half of the requests.
    set_socket_options([](socket_t fd) {
      const int yes = 1;
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    set_pre_routing_handler([this](const httplib::Request& in, httplib::Response& out) {
      fill(out, handler_(request_of(in, *current_connection)));
      current_connection->start_answer();
      return HandlerResponse::Handled;
    });
    set_error_handler(HandlerWithResponse([](const httplib::Request&, httplib::Response& out) {
      if (!out.body.empty()) return HandlerResponse::Unhandled;
      HttpResponse response;
      response.status = out.status;
      response.body = "not a request of HTTP/1.0 or 1.1 with a known method\n";
      fill(out, std::move(response));
      return HandlerResponse::Handled;
    }));
  }
  ~Impl() override { close(stop_fd_); }

  uint16_t bind(const std::string& host, uint16_t port) {
    errno = 0;
    const int bound = port == 0 ? bind_to_any_port(host) : (bind_to_port(host, port) ? port : -1);
    if (bound < 0)
      throw std::runtime_error(fmt::format("{} port {}: cannot listen there{}{}", host, port,
                                           errno == 0 ? "" : ": ",
                                           errno == 0 ? "" : strerror(errno)));
    ::listen(svr_sock_, kBacklog);  // cpp-httplib asked for 5
    return static_cast<uint16_t>(bound);
  }

  // Server::stop() does nothing before listen_after_bind() is under way; this does at any time.
  void stop_all() {
    stopped_ = true;
    eventfd_write(stop_fd_, 1);
    ::shutdown(svr_sock_, SHUT_RDWR);
  }

  bool run() { return listen_after_bind() || stopped_; }
  void serve(int fd) { process_and_close_socket(fd); }

 private:
  bool process_and_close_socket(socket_t fd) override {
    Connection connection(fd, stop_fd_, limits_);
    if (is_refusing) {
      connection.refuse({503, fmt::format("{} requests are being served and {} wait: try again "
                                          "later",
                                          limits_.workers, limits_.queued)},
                        kShortLinger);
      return true;
    }
    if (const auto refusal = connection.receive()) {
      if (!connection.was_silent()) connection.refuse(*refusal, kLinger);
      return true;
    }
    current_connection = &connection;
    connection.start_answer();
    bool is_closed = false;
    process_request(connection, true, is_closed, nullptr);
    current_connection = nullptr;
    return true;
  }

  HttpHandler handler_;
  HttpLimits limits_;
  int stop_fd_;
  std::atomic<bool> stopped_ = false;
};

HttpServer::HttpServer(HttpHandler handler, HttpLimits limits)
    : impl_(std::make_unique<Impl>(std::move(handler), limits)) {}
HttpServer::~HttpServer() = default;
uint16_t HttpServer::bind(const std::string& host, uint16_t port) {
  return impl_->bind(host, port);
}
bool HttpServer::run() { return impl_->run(); }
void HttpServer::stop() { impl_->stop_all(); }
void HttpServer::serve(int fd) { impl_->serve(fd); }

BodyFile::BodyFile(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), path);
  unlink(path.c_str());
}

BodyFile::~BodyFile() { close(fd_); }

uint64_t BodyFile::bytes() const {
  struct stat status {};
  return fstat(fd_, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

std::string BodyFile::read(uint64_t offset, size_t bytes) const {
  std::string part(bytes, '\0');
  const ssize_t got = pread(fd_, part.data(), bytes, static_cast<off_t>(offset));
  part.resize(got < 0 ? 0 : static_cast<size_t>(got));
  return part;
}

const std::string* HttpRequest::parameter(const std::string& name) const {
  const auto first = parameters.lower_bound(name);
  return first == parameters.end() || first->first != name ? nullptr : &first->second;
}

std::string trusted_head(std::string_view head) {
  constexpr std::string_view kLeftOut[] = {"range", "expect", "content-length", "accept-encoding"};
  std::string out;
  for_each_line(head, [&](std::string_view line) {
    const bool left_out =
        std::any_of(std::begin(kLeftOut), std::end(kLeftOut),
                    [line](std::string_view name) { return is_named(line, name); });
    if (!left_out) out.append(line).append(kLineEnd);
  });
  return out;
}

std::optional<std::string> header_of(std::string_view head, std::string_view name) {
  std::optional<std::string> value;
  for_each_line(head, [&](std::string_view line) {
    if (!value && is_named(line, name))
      value = std::string(without_blanks(line.substr(name.size() + 1)));
  });
  return value;
}

}  // namespace mprof::dumper
