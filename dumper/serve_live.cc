// SPDX-License-Identifier: Apache-2.0
#include "dumper/serve_live.h"

#include <fmt/format.h>

#include <map>
#include <mutex>

#include "dumper/combine_profiles.h"
#include "dumper/control.h"
#include "dumper/report_threads.h"
#include "format/config.h"

namespace mprof::dumper {
namespace {

constexpr std::chrono::seconds kUsualCpuTime{30};
constexpr int kNotImplemented = 501;

void set_cpu_hz(const Dump& dump, uint32_t hz) {
  SettingsChange change;
  change.cpu_hz = hz;
  (void)change_settings(dump, change);  // also if it only counts from the next thread that wakes
}

// Who asks for CPU profiles at the moment, by the dump's own number.
std::mutex cpu_mutex;
std::map<uint64_t, uint32_t> cpu_users;

// The CPU profile of a process is on as long as one of these is there. It stays as it is where
// somebody else switched it on.
class CpuUse {
 public:
  explicit CpuUse(const Dump& dump) : dump_(dump) {
    const std::lock_guard lock(cpu_mutex);
    uint32_t& users = cpu_users[key()];
    if (users == 0 && dump.header().cpu_hz != 0) return;
    if (users == 0) set_cpu_hz(dump, format::kUsualCpuHz);
    ++users;
    is_user_ = true;
  }
  CpuUse(const CpuUse&) = delete;
  CpuUse& operator=(const CpuUse&) = delete;
  ~CpuUse() {
    const std::lock_guard lock(cpu_mutex);
    if (!is_user_ || --cpu_users[key()] != 0) return;
    cpu_users.erase(key());
    try {
      set_cpu_hz(dump_, 0);
    } catch (const std::exception&) {
      // It has ended.
    }
  }

 private:
  [[nodiscard]] uint64_t key() const { return dump_.header().generation; }

  const Dump& dump_;
  bool is_user_ = false;
};

Profile thread_profile(Dump& dump, SharedSymbols& symbols) {
  return symbols.use([&](Symbolizer& symbolizer) {
    LabelNames names(dump, symbolizer, symbols.detail());
    return named_now(dump, make_profile(dump, collect_threads(dump, {}), names).placed, symbolizer,
                     symbols.detail());
  });
}

std::string thread_text(Dump& dump, int debug, SharedSymbols& symbols) {
  return symbols.use([&](Symbolizer& symbolizer) {
    return report_threads(dump, collect_threads(dump, {}), static_cast<ThreadForm>(debug),
                          symbolizer, symbols.detail());
  });
}

Profile thread_growth(const HttpRequest& request, Dump& dump, SharedSymbols& symbols) {
  const auto time = seconds_of(request, {});
  require_no_debug(debug_of(request));
  require_running(dump);
  const Profile before = thread_profile(dump, symbols);
  wait_or_leave(request, time);
  Profile growth = subtract(thread_profile(dump, symbols), before);
  growth.duration_nanos = std::chrono::nanoseconds(time).count();
  return growth;
}

}  // namespace

HttpResponse answer_threads(const HttpRequest& request, Dump& dump, SharedSymbols& symbols) {
  if (request.parameter("seconds") != nullptr)
    return as_attachment(thread_growth(request, dump, symbols), "goroutine-delta");
  const int debug = debug_of(request);
  if (debug == 0) return as_attachment(thread_profile(dump, symbols), "goroutine");
  HttpResponse response;
  response.body = thread_text(dump, debug, symbols);
  return response;
}

HttpResponse answer_cpu(const HttpRequest& request, Dump& dump, SharedSymbols& symbols) {
  const auto time = seconds_of(request, kUsualCpuTime);
  require_running(dump);
  const CpuUse use(dump);
  Profile profile = profile_growth(request, dump, format::CountKind::kCpu, time, symbols);
  profile.time_nanos -= profile.duration_nanos;  // Go's: when it was begun
  return as_attachment(profile, "profile");
}

HttpResponse answer_trace(const HttpRequest& request, const Dump& dump) {
  (void)seconds_of(request, std::chrono::seconds(1));
  throw HttpError(kNotImplemented,
                  fmt::format("process {}: this dump has no trace", dump.header().pid));
}

}  // namespace mprof::dumper
