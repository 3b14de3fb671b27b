// SPDX-License-Identifier: Apache-2.0
#include "dumper/serve_live.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace mprof::dumper {
namespace {

constexpr std::chrono::seconds kUsualCpuTime{30};
constexpr int kNotImplemented = 501;

std::optional<View> recorded_view(const Dump& dump, std::string_view name) {
  const std::vector<View> views = recorded_views(dump, false);
  const auto found = std::find_if(views.begin(), views.end(),
                                  [name](const View& view) { return view_name(view) == name; });
  return found == views.end() ? std::nullopt : std::optional(*found);
}

}  // namespace

HttpResponse answer_threads(const HttpRequest& request, Dump& dump, SharedSymbols& /*symbols*/) {
  (void)debug_of(request);
  throw HttpError(kNotImplemented, fmt::format("process {}: its threads cannot be asked for stacks",
                                               dump.header().pid));
}

HttpResponse answer_cpu(const HttpRequest& request, Dump& dump, SharedSymbols& symbols) {
  const std::chrono::seconds time = seconds_of(request, kUsualCpuTime);
  const auto view = recorded_view(dump, "cpu");
  if (!view)
    throw HttpError(kNotImplemented,
                    fmt::format("process {}: its CPU profile is off; MPROF_CPU_HZ=100 turns it on",
                                dump.header().pid));
  Profile profile = profile_growth(request, dump, *view, time, symbols);
  profile.time_nanos -= profile.duration_nanos;  // Go's: when it was begun
  return as_attachment(profile, "profile");
}

HttpResponse answer_trace(const HttpRequest& request, const Dump& dump) {
  (void)seconds_of(request, std::chrono::seconds(1));
  throw HttpError(kNotImplemented,
                  fmt::format("process {}: this dump has no trace", dump.header().pid));
}

}  // namespace mprof::dumper
