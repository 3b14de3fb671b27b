// SPDX-License-Identifier: Apache-2.0
// One profile of one process as net/http/pprof answers it: at once, or what is new after N seconds.
//
// Threads   any; reading and naming happen one at a time (SharedSymbols), waiting does not.
// Target    is read as by every other command: a cut moves one word of its dump, no more.
// Fails     HttpError for what the client asked wrongly, other exceptions for what went wrong here.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "dumper/http_server.h"
#include "dumper/write_profiles.h"

namespace mprof::dumper {

struct HttpError : std::runtime_error {
  HttpError(int status_code, const std::string& text)
      : std::runtime_error(text), status(status_code) {}
  int status;
};

// The symbolizer of all requests, and the right to read: only one at a time has it. Two cuts of one
// target at a time would spoil each other, and names are worth keeping from one request to the
// next.
class SharedSymbols {
 public:
  explicit SharedSymbols(SymbolOptions options) : options_(std::move(options)) {}

  template <typename Use>
  auto use(Use&& use) {
    const std::lock_guard lock(mutex_);
    renew();
    return use(*symbolizer_);
  }
  [[nodiscard]] SymbolDetail detail() const { return options_.detail; }

 private:
  void renew();

  SymbolOptions options_;
  std::mutex mutex_;
  std::unique_ptr<Symbolizer> symbolizer_;
  std::chrono::steady_clock::time_point made_;
};

// What is served of a dump under /debug/pprof/: everything that Go has a name for, recorded or not,
// and whatever else was recorded.
[[nodiscard]] std::vector<View> served_views(const Dump& dump);

struct ViewCount {
  View view;
  size_t samples = 0;
};
[[nodiscard]] std::vector<ViewCount> count_samples(Dump& dump, SharedSymbols& symbols);

// `seconds`, 1 to 3600; `otherwise` if it was not given.
[[nodiscard]] std::chrono::seconds seconds_of(const HttpRequest& request,
                                              std::chrono::seconds otherwise);
// `debug`, 0 to 2; 0 if it was not given.
[[nodiscard]] int debug_of(const HttpRequest& request);

// Each throws HttpError: with `seconds` there is no text; nothing is added to a process that has
// ended; the client has gone, or the server is stopping.
void require_no_debug(int debug);
void require_running(const Dump& dump);
void wait_or_leave(const HttpRequest& request, std::chrono::seconds time);

// With names, and the time of now.
[[nodiscard]] Profile named_now(const Dump& dump, PlacedProfile placed, Symbolizer& symbolizer,
                                SymbolDetail detail);

[[nodiscard]] HttpResponse answer_profile(const HttpRequest& request, Dump& dump, const View& view,
                                          SharedSymbols& symbols);
// The view's growth in that time. The caller has seen to it that it is being recorded.
[[nodiscard]] Profile profile_growth(const HttpRequest& request, Dump& dump, const View& view,
                                     std::chrono::seconds time, SharedSymbols& symbols);
// A file of this name, without its content.
[[nodiscard]] HttpResponse attachment(const std::string& name);
[[nodiscard]] HttpResponse as_attachment(const Profile& profile, const std::string& name);

// The names of addresses, as pprof asks for them: "0x1234+0x5678".
[[nodiscard]] std::string symbol_lines(const Dump& dump, std::string_view addresses,
                                       SharedSymbols& symbols);

}  // namespace mprof::dumper
