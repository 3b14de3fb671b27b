// SPDX-License-Identifier: Apache-2.0
#include "dumper/serve.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>

#include "dumper/find_dump.h"
#include "dumper/http_server.h"
#include "dumper/list_processes.h"
#include "dumper/serve_index.h"
#include "dumper/serve_live.h"
#include "dumper/serve_profile.h"
#include "dumper/terminal_text.h"

namespace mprof::dumper {
namespace {

constexpr std::string_view kRoot = "/debug/pprof";
constexpr const char* kHtml = "text/html; charset=utf-8";

HttpResponse text_response(int status, const std::string& text) {
  HttpResponse response;
  response.status = status;
  response.body = text;
  return response;
}

// The header is how `go tool pprof` knows that the text is worth showing.
HttpResponse error_response(int status, const std::string& text) {
  HttpResponse response = text_response(status, text + "\n");
  response.headers = {{"X-Go-Pprof", "1"}};
  return response;
}

HttpResponse html_response(std::string page) {
  HttpResponse response;
  response.content_type = kHtml;
  response.body = std::move(page);
  return response;
}

HttpResponse redirect(const std::string& to) {
  HttpResponse response =
      html_response(fmt::format("<a href=\"{}\">Moved Permanently</a>.\n\n", to));
  response.status = 301;
  response.headers = {{"Location", to}};
  return response;
}

std::string cmdline_text(const Dump& dump) {
  std::string text;
  for (const std::string& argument : dump.command_line())
    text += (text.empty() ? "" : std::string(1, '\0')) + argument;
  return text;
}

// What of the path stands behind the root; nothing if the path lies elsewhere.
std::optional<std::string_view> behind_root(std::string_view path) {
  if (!path.starts_with(kRoot)) return std::nullopt;
  path.remove_prefix(kRoot.size());
  if (!path.empty() && path.front() != '/') return std::nullopt;
  return path;
}

std::vector<std::string> names_in(const Dump& dump) {
  std::vector<std::string> names = {"cmdline", "goroutine", "profile", "symbol", "trace"};
  for (const View& view : served_views(dump)) names.emplace_back(view_name(view));
  std::sort(names.begin(), names.end());
  return names;
}

[[noreturn]] void unknown_profile(const Dump& dump, std::string_view name) {
  std::string known;
  for (const std::string& one : names_in(dump))
    known += (known.empty() ? "" : ", ") + printable(one);
  throw HttpError(
      404, fmt::format("Unknown profile '{}'; there are {}", printable(name.substr(0, 64)), known));
}

// Everything below /debug/pprof/ of one dump.
class ProcessRoutes {
 public:
  ProcessRoutes(Dump dump, SharedSymbols& symbols) : dump_(std::move(dump)), symbols_(symbols) {}

  HttpResponse answer(const HttpRequest& request, std::string_view name) {
    if (name.empty()) return html_response(index());
    if (name == "cmdline") return text_response(200, cmdline_text(dump_));
    if (name == "symbol") return symbol(request);
    if (name == "goroutine") return answer_threads(request, dump_, symbols_);
    if (name == "profile") return answer_cpu(request, dump_, symbols_);
    if (name == "trace") return answer_trace(request, dump_, symbols_);
    for (const View& view : served_views(dump_))
      if (view_name(view) == name) return answer_profile(request, dump_, view, symbols_);
    unknown_profile(dump_, name);
  }

 private:
  std::string index() {
    std::vector<IndexEntry> entries = {{"cmdline"}, {"goroutine"}, {"profile"}, {"trace"}};
    for (const ViewCount& count : count_samples(dump_, symbols_))
      entries.push_back({view_name(count.view), count.samples});
    return profiles_page(
        fmt::format("/debug/pprof/ of process {}: {}", dump_.header().pid, dump_.executable()),
        std::move(entries));
  }

  HttpResponse symbol(const HttpRequest& request) {
    const std::string& addresses = request.method == "POST" ? request.body : request.query;
    return text_response(200, symbol_lines(dump_, addresses, symbols_));
  }

  Dump dump_;
  SharedSymbols& symbols_;
};

// What is served: one dump, or the processes that a filter lets through.
class Served {
 public:
  explicit Served(const std::vector<std::string>& what) {
    const bool is_one = what.size() == 1 && !std::filesystem::is_directory(what.front());
    if (is_one) {
      one_ = resolve_dump(what.front());
      pid_ = Dump::open(one_, Access::kRead).header().pid;
      return;
    }
    filter_ = make_filter(what);
    filter_.own_only = what.empty();
  }

  [[nodiscard]] bool is_one() const { return !one_.empty(); }

  [[nodiscard]] std::vector<ProfiledProcess> processes() const {
    if (!is_one()) return list_processes(filter_);
    const auto process = find_process(pid_, {});
    return process ? std::vector{*process} : std::vector<ProfiledProcess>{};
  }

  [[nodiscard]] Dump open_one() const { return Dump::open(one_, Access::kWrite); }

  [[nodiscard]] Dump open(std::string_view pid) const {
    const auto number = parse_pid(pid);
    const auto process = number ? find_process(*number, filter_) : std::nullopt;
    if (!process) no_process(pid);
    return Dump::open(process->dump, Access::kWrite);
  }

 private:
  [[noreturn]] void no_process(std::string_view pid) const {
    std::string known;
    for (const ProfiledProcess& process : processes())
      known += fmt::format("{}{}", known.empty() ? "" : ", ", process.pid);
    throw HttpError(404, fmt::format("no profiled process '{}'; there are: {}",
                                     printable(pid.substr(0, 64)), known.empty() ? "none" : known));
  }

  std::string one_;
  uint32_t pid_ = 0;
  ProcessFilter filter_;
};

class Routes {
 public:
  Routes(const ServeOptions& options, std::string token)
      : served_(options.what),
        symbols_(options.symbols),
        token_(std::move(token)),
        checks_names_(options.listen.is_loopback) {}

  HttpResponse answer(const HttpRequest& request) {
    try {
      check_access(request);
      check_method(request);
      return route(request);
    } catch (const HttpError& error) {
      return with_hints(error_response(error.status, error.what()), request);
    } catch (const std::exception& error) {
      return error_response(500, error.what());
    }
  }

 private:
  static bool takes_post(const HttpRequest& request) {
    return request.path.ends_with("/debug/pprof/symbol");
  }

  void check_access(const HttpRequest& request) const {
    if (checks_names_ && !request.host.empty() && !is_local_name(request.host))
      throw HttpError(403, fmt::format("Host '{}': accepted are localhost, 127.0.0.1 and [::1]",
                                       printable(request.host.substr(0, 64))));
    if (!token_.empty() && !bears_token(request.authorization, token_))
      throw HttpError(401, "accepted is: Authorization: Bearer TOKEN");
  }

  static void check_method(const HttpRequest& request) {
    const bool is_read = request.method == "GET" || request.method == "HEAD";
    if (!is_read && !(request.method == "POST" && takes_post(request)))
      throw HttpError(405,
                      fmt::format("method {}: see Allow for what is accepted", request.method));
  }

  static HttpResponse with_hints(HttpResponse response, const HttpRequest& request) {
    if (response.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
    if (response.status == 405)
      response.headers.emplace_back("Allow", takes_post(request) ? "GET, HEAD, POST" : "GET, HEAD");
    return response;
  }

  HttpResponse route(const HttpRequest& request) {
    if (!request.path.starts_with('/'))
      throw HttpError(400, "accepted is a path that begins with /");
    if (request.path == "/targets") return targets(request);
    if (served_.is_one()) return route_one(request);
    if (request.path == "/") return html_response(processes_page(served_.processes()));
    return route_by_pid(request);
  }

  HttpResponse route_one(const HttpRequest& request) {
    if (request.path == "/") return redirect(fmt::format("{}/", kRoot));
    return below_root(request, "", request.path, [this] { return served_.open_one(); });
  }

  // "/4711", "/4711/", "/4711/debug/pprof/heap".
  HttpResponse route_by_pid(const HttpRequest& request) {
    const std::string_view path = request.path;
    const size_t end = std::min(path.find('/', 1), path.size());
    const std::string_view pid = path.substr(1, end - 1);
    const std::string_view rest = path.substr(end);
    const std::string prefix = fmt::format("/{}", pid);
    const auto open = [&] { return served_.open(pid); };
    if (rest.empty() || rest == "/") {
      (void)open();
      return redirect(fmt::format("{}{}/", prefix, kRoot));
    }
    return below_root(request, prefix, rest, open);
  }

  template <typename Open>
  HttpResponse below_root(const HttpRequest& request, const std::string& prefix,
                          std::string_view path, Open open) {
    const auto rest = behind_root(path);
    if (!rest)
      throw HttpError(
          404, fmt::format("nothing here; see {}{}/", served_.is_one() ? "" : "/PID", kRoot));
    Dump dump = open();
    if (rest->empty()) return redirect(fmt::format("{}{}/", prefix, kRoot));
    return ProcessRoutes(std::move(dump), symbols_).answer(request, rest->substr(1));
  }

  HttpResponse targets(const HttpRequest& request) const {
    if (request.host.empty()) throw HttpError(400, "a Host header is needed: it is the address");
    HttpResponse response;
    response.content_type = "application/json";
    response.body = discovery_json(served_.processes(), request.host, !served_.is_one());
    return response;
  }

  Served served_;
  SharedSymbols symbols_;
  std::string token_;
  bool checks_names_;
};

void check_remote(const ServeOptions& options, bool has_token) {
  if (options.listen.is_loopback) return;
  if (!options.allow_remote)
    throw std::runtime_error(
        fmt::format("{}: other machines could connect there; --allow-remote allows it, and --token "
                    "asks them for a secret",
                    options.listen.host));
  fmt::print(
      stderr,
      "mprof: warning: everybody who can connect to {} {} read the profiles, and the command "
      "lines, of what is served; nothing is encrypted\n",
      options.listen.host, has_token ? "and has the token can" : "can");
}

std::string token_of(const ServeOptions& options) {
  if (!options.token_file.empty()) return token_from_file(options.token_file);
  if (!options.token_variable.empty()) return token_from_variable(options.token_variable);
  return {};
}

sigset_t block_end_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

}  // namespace

HttpHandler make_handler(const ServeOptions& options, std::string token) {
  auto routes = std::make_shared<Routes>(options, std::move(token));
  return [routes](const HttpRequest& request) { return routes->answer(request); };
}

int run_serve(const ServeOptions& options) {
  const std::string token = token_of(options);
  check_remote(options, !token.empty());
  HttpServer server(make_handler(options, token));
  const uint16_t port = server.bind(options.listen.host, options.listen.port);
  fmt::print("serving http://{}/\n", address_text(options.listen.host, port));
  std::fflush(stdout);
  const sigset_t end_signals = block_end_signals();  // before there are threads that could get them
  bool is_asked_to_end = false;
  std::thread listener([&] {
    is_asked_to_end = server.run();
    kill(getpid(), SIGTERM);
  });
  int signal_number = 0;
  sigwait(&end_signals, &signal_number);
  server.stop();
  listener.join();
  if (!is_asked_to_end) fmt::print(stderr, "mprof: connections cannot be accepted any more\n");
  return is_asked_to_end ? 0 : 1;
}

}  // namespace mprof::dumper
