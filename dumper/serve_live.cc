// SPDX-License-Identifier: Apache-2.0
#include "dumper/serve_live.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <system_error>

#include "dumper/combine_profiles.h"
#include "dumper/control.h"
#include "dumper/report_threads.h"
#include "dumper/start_drain.h"
#include "dumper/trace/trace_command.h"
#include "format/config.h"

namespace mprof::dumper {
namespace {

constexpr std::chrono::seconds kUsualCpuTime{30};
constexpr std::chrono::seconds kUsualTraceTime{1};

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

// A name of its own, which is gone with it.
class TemporaryFile {
 public:
  TemporaryFile() : path_((std::filesystem::temp_directory_path() / "mprof-XXXXXX").string()) {
    const int fd = mkostemp(path_.data(), O_CLOEXEC);
    if (fd < 0) throw std::system_error(errno, std::generic_category(), path_);
    close(fd);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { unlink(path_.c_str()); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

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

// A new one, without the length that a profile may have in memory.
std::shared_ptr<const BodyFile> trace_file(Dump& dump, const Window& window,
                                           SharedSymbols& symbols) {
  const TemporaryFile file;
  symbols.use([&](Symbolizer& symbolizer) {
    return write_trace(dump, window, {.path = file.path()}, symbolizer, symbols.detail());
  });
  return std::make_shared<BodyFile>(file.path());
}

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

// Where a trace was on before, what is on right now is told at its begin.
HttpResponse answer_trace(const HttpRequest& request, Dump& dump, SharedSymbols& symbols) {
  const auto time = seconds_of(request, kUsualTraceTime);
  require_running(dump);
  Window window;
  {
    window.from_ns = end_of(dump);
    const RecordingUse use(dump, trace_recording);
    wait_or_leave(request, time);
    window.to_ns = end_of(dump);
  }
  HttpResponse response = attachment("trace");
  response.file = trace_file(dump, window, symbols);
  return response;
}

}  // namespace mprof::dumper
