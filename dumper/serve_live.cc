// SPDX-License-Identifier: Apache-2.0
#include "dumper/serve_live.h"

#include <fmt/format.h>

namespace mprof::dumper {
namespace {

constexpr std::chrono::seconds kUsualCpuTime{30};
constexpr int kNotImplemented = 501;

}  // namespace

HttpResponse answer_threads(const HttpRequest& request, Dump& dump, SharedSymbols& /*symbols*/) {
  (void)debug_of(request);
  throw HttpError(kNotImplemented,
                  fmt::format("{}: this dump has no stacks of threads", dump.header().pid));
}

HttpResponse answer_cpu(const HttpRequest& request, Dump& dump, SharedSymbols& /*symbols*/) {
  (void)seconds_of(request, kUsualCpuTime);
  throw HttpError(kNotImplemented,
                  fmt::format("{}: this dump has no CPU profile", dump.header().pid));
}

HttpResponse answer_trace(const HttpRequest& request, const Dump& dump) {
  (void)seconds_of(request, std::chrono::seconds(1));
  throw HttpError(kNotImplemented, fmt::format("{}: this dump has no trace", dump.header().pid));
}

}  // namespace mprof::dumper
