// SPDX-License-Identifier: Apache-2.0
#include "dumper/serve_live.h"

#include <fmt/format.h>

#include <map>
#include <mutex>

#include "dumper/combine_profiles.h"
#include "dumper/control.h"
#include "dumper/report_threads.h"
#include "dumper/start_drain.h"
#include "format/config.h"

namespace mprof::dumper {
namespace {

constexpr std::chrono::seconds kUsualCpuTime{30};
constexpr std::chrono::seconds kUsualTraceTime{1};
constexpr int kNotImplemented = 501;
// A drainer writes once in a second; a disk that is full for longer than this has its gap.
constexpr std::chrono::seconds kDrainTime{10};

// What is recorded only while somebody asks for it.
struct Recording {
  bool (*is_on)(const Dump& dump);
  void (*turn)(const Dump& dump, bool on);
  std::mutex mutex;
  std::map<uint64_t, uint32_t> users;  // who asks at the moment, by the dump's own number
};

// Both also if it only counts from the next thread that wakes.
void turn_cpu(const Dump& dump, bool on) {
  SettingsChange change;
  change.cpu_hz = on ? format::kUsualCpuHz : 0;
  (void)change_settings(dump, change);
}
void turn_trace(const Dump& dump, bool on) {
  SettingsChange change;
  change.trace = on ? 1 : 0;
  if (on) ensure_drained(dump.path());
  (void)change_settings(dump, change);
}

Recording cpu_recording = {
    [](const Dump& dump) { return dump.header().cpu_hz != 0; }, turn_cpu, {}, {}};
Recording trace_recording = {
    [](const Dump& dump) { return dump.header().control.trace.load() != 0; }, turn_trace, {}, {}};

// It is on as long as one of these is there, and stays as it is where somebody else turned it on.
class RecordingUse {
 public:
  RecordingUse(const Dump& dump, Recording& recording) : dump_(dump), recording_(recording) {
    const std::lock_guard lock(recording_.mutex);
    uint32_t& users = recording_.users[key()];
    if (users == 0 && recording_.is_on(dump)) return;
    if (users == 0) recording_.turn(dump, true);
    ++users;
    is_user_ = true;
  }
  RecordingUse(const RecordingUse&) = delete;
  RecordingUse& operator=(const RecordingUse&) = delete;
  ~RecordingUse() {
    const std::lock_guard lock(recording_.mutex);
    if (!is_user_ || --recording_.users[key()] != 0) return;
    recording_.users.erase(key());
    try {
      recording_.turn(dump_, false);
    } catch (const std::exception&) {
      // It has ended.
    }
  }

 private:
  [[nodiscard]] uint64_t key() const { return dump_.header().generation; }

  const Dump& dump_;
  Recording& recording_;
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
  const RecordingUse use(dump, cpu_recording);
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
