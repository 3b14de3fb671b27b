// SPDX-License-Identifier: Apache-2.0
#include "dumper/drain.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <utility>

#include "dumper/control.h"
#include "dumper/find_dump.h"

namespace mprof::dumper {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr milliseconds kFastest{1};
constexpr milliseconds kSlowest{100};
constexpr milliseconds kSlowestOfTrace{2};
constexpr milliseconds kDiskFullPause{1000};
constexpr seconds kFrameEvery{1};
constexpr seconds kEndTraceEvery{1};
constexpr seconds kMapsCheckEvery{2};
constexpr double kFrameWhenFull = 1.0 / 8;

uint64_t monotonic_now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t realtime_now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

std::string disk_full_line(const DumpDrain& drain) {
  return fmt::format(
      "{}: its journals cannot grow ({}); what they have stays readable, the rest waits in the "
      "dump",
      drain.path(), std::strerror(drain.error()));
}

}  // namespace

TargetWatch::TargetWatch(const Dump& dump)
    : pid_(dump.header().pid), start_ticks_(dump.header().start_time_clock_ticks) {
  struct stat status {};
  if (::stat(dump.path().c_str(), &status) == 0) {
    device_ = status.st_dev;
    inode_ = status.st_ino;
  }
  if (pid_ == 0 || pid_ > INT_MAX) return;
  pidfd_ = static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(pid_), 0));
  // Only now, with the process pinned, does the comparison say something: the pid could be taken
  // by another process between two looks.
  if (pidfd_ >= 0 && process_start_ticks(pid_) != start_ticks_) {
    ::close(pidfd_);
    pidfd_ = -1;
  }
}

TargetWatch::~TargetWatch() {
  if (pidfd_ >= 0) ::close(pidfd_);
}

bool TargetWatch::has_ended() const {
  if (pidfd_ < 0) return true;
  pollfd exited{pidfd_, POLLIN, 0};
  return ::poll(&exited, 1, 0) == 1;
}

bool TargetWatch::mapping_is_gone() const {
  return !is_process_of(pid_, start_ticks_, device_, inode_);
}

DumpDrain::DumpDrain(const std::string& dump_path)
    : path_(dump_path),
      dump_(Dump::open(dump_path, Access::kWrite)),
      events_(dump_, JournalKind::kEvents),
      trace_(dump_, JournalKind::kTrace),
      watch_(dump_),
      last_maps_check_(steady_clock::now()) {
  if (!dump_.writable())
    throw DumpError(fmt::format("{}: draining needs permission to write to it", dump_path));
}

// An exec can only be seen in the list of mappings, which is costly, so it is looked at rarely and
// only when nothing comes any more.
bool DumpDrain::target_ended_by_now() {
  if (ended_) return true;
  ended_ = watch_.has_ended();
  const auto now = steady_clock::now();
  const auto last_frame = std::max(events_.last_frame(), trace_.last_frame());
  if (!ended_ && now - std::max(last_frame, last_maps_check_) >= kMapsCheckEvery) {
    last_maps_check_ = now;
    ended_ = watch_.mapping_is_gone();
  }
  return ended_;
}

// Half full is more than a pause can wait for: a loop of malloc and free in an exact profile fills
// a mebibyte in two milliseconds. So does a loop of locks with a trace ring, out of the blue.
void DumpDrain::adapt_pause(double fullest) {
  const bool tracing = dump_.header().trace_on.load(std::memory_order_relaxed) != 0;
  const milliseconds slowest = tracing ? kSlowestOfTrace : kSlowest;
  pause_ = std::max(pause_, kFastest);
  if (fullest >= kFrameWhenFull) pause_ = std::max(pause_ / 2, kFastest);
  if (fullest >= 2 * kFrameWhenFull) pause_ = kFastest;
  if (fullest >= 4 * kFrameWhenFull) pause_ = milliseconds(0);
  if (fullest < kFrameWhenFull / 2) pause_ *= 2;
  pause_ = std::min(pause_, slowest);
}

bool DumpDrain::is_due(const RingDrain& rings, const RingDrain::Look& look, bool flush) const {
  return look.news && (flush || look.fullest >= kFrameWhenFull ||
                       steady_clock::now() - rings.last_frame() >= kFrameEvery);
}

DumpDrain::Step DumpDrain::step(bool flush) {
  const bool ended = target_ended_by_now();  // before the look: what comes after it is not missed
  const RingDrain::Look events = events_.look();
  const RingDrain::Look trace = trace_.look();
  adapt_pause(std::max(events.fullest, trace.fullest));
  const bool trace_is_due = is_due(trace_, trace, flush || ended);
  const bool events_are_due = is_due(events_, events, flush || ended);
  if (trace_is_due && !succeeded(trace_.move(clock_now()))) return Step::kDiskFull;
  if (events_are_due && !succeeded(events_.move(clock_now()))) return Step::kDiskFull;
  watch_trace();
  if (trace_is_due || events_are_due) return Step::kMoved;
  return ended ? finish() : Step::kWaiting;
}

bool DumpDrain::succeeded(int error) {
  error_ = error;
  if (error != 0) pause_ = kDiskFullPause;
  return error == 0;
}

DumpDrain::Step DumpDrain::finish() {
  const bool done = succeeded(events_.complete()) && succeeded(trace_.complete());
  return done ? Step::kComplete : Step::kDiskFull;
}

std::string DumpDrain::why_trace_ends() const {
  const char* why = dump_.header().trace_stops_when_full != 0
                        ? ""
                        : ", and its file system cannot give the space of the oldest part back";
  return fmt::format("{}: has the {} bytes of MPROF_TRACE_MAX{}; the trace ends here",
                     trace_.journal()->path(), dump_.header().trace_max_bytes, why);
}

// Whoever turns a trace on again that is full will see it end again.
void DumpDrain::watch_trace() {
  if (!trace_.trouble().empty() && !std::exchange(trouble_was_said_, true))
    complaints_.push_back(trace_.trouble());
  const bool is_on = dump_.header().trace_on.load(std::memory_order_relaxed) != 0;
  const auto now = steady_clock::now();
  if (!trace_.is_full() || !is_on || ended_ || now - trace_ended_ < kEndTraceEvery) return;
  if (trace_ended_ == steady_clock::time_point{}) complaints_.push_back(why_trace_ends());
  trace_ended_ = now;
  SettingsChange off;
  off.trace = 0;
  try {
    (void)change_settings(dump_, off);
  } catch (const DumpError&) {
    // Another one steers it right now, or it has ended: the next look will tell.
  }
}

// This process's cycle counter is the target's as long as the target runs beside it.
format::ClockPoint DumpDrain::clock_now() const {
  if (ended_) return {};
  const uint64_t now_ns = monotonic_now_ns();
#if defined(__x86_64__)
  if (dump_.header().ticks_are_ns == 0) return {__builtin_ia32_rdtsc(), now_ns};
#endif
  return {now_ns, now_ns};
}

Drainer::Drainer(std::string directory, std::string pattern, uint64_t since_realtime_ns)
    : directory_(std::move(directory)),
      pattern_(std::move(pattern)),
      since_realtime_ns_(since_realtime_ns) {}

Drainer::~Drainer() { stop(); }

void Drainer::start() {
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
}

void Drainer::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Drainer::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    look_for_dumps();
    const milliseconds pause = step_all(false);
    lock.lock();
    wake_.wait_for(lock, pause, [this] { return stopping_; });
  }
  lock.unlock();
  scanned_mtime_ = std::chrono::nanoseconds(-1);
  look_for_dumps();
  step_all(true);
}

// A directory's time moves in steps of a few milliseconds, so a young one may hide a change.
bool Drainer::directory_changed() {
  struct stat status {};
  if (::stat(directory_.c_str(), &status) != 0) return false;
  const std::chrono::nanoseconds mtime =
      seconds(status.st_mtim.tv_sec) + std::chrono::nanoseconds(status.st_mtim.tv_nsec);
  const auto age = std::chrono::nanoseconds(realtime_now_ns()) - mtime;
  const bool changed = mtime != scanned_mtime_ || unfinished_dumps_;
  scanned_mtime_ = age > seconds(1) ? mtime : std::chrono::nanoseconds(-1);
  return changed;
}

void Drainer::look_for_dumps() {
  if (!directory_changed()) return;
  unfinished_dumps_ = false;
  DIR* directory = ::opendir(directory_.c_str());
  if (directory == nullptr) return;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (::fnmatch(pattern_.c_str(), name.c_str(), FNM_PERIOD) != 0) continue;
    if (settled_.count(name) == 0 && drains_.count(name) == 0) try_dump(name);
  }
  ::closedir(directory);
}

// Reads the few words that decide whether the file is wanted; a dump that is being made right
// now has no magic yet.
void Drainer::try_dump(const std::string& name) {
  const std::string path = directory_ + "/" + name;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  struct stat status {};
  const bool regular = fd >= 0 && ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  struct {
    uint64_t magic;
    uint64_t version_and_size;
    uint64_t generation;
    uint64_t start_time;
    uint64_t pids;
    uint64_t realtime_start_ns;
  } begin{};
  static_assert(offsetof(format::DumpHeader, realtime_start_ns) == 40);
  uint64_t snapshot_epoch = 0;  // not 0: a copy, which has no events
  const bool read = regular && ::pread(fd, &begin, sizeof begin, 0) == sizeof begin &&
                    ::pread(fd, &snapshot_epoch, sizeof snapshot_epoch,
                            offsetof(format::DumpHeader, snapshot_epoch)) == sizeof snapshot_epoch;
  if (fd >= 0) ::close(fd);
  const bool made_before =
      static_cast<uint64_t>(status.st_mtim.tv_sec) + 5 < since_realtime_ns_ / 1'000'000'000;
  const bool foreign = begin.magic != 0 && begin.magic != format::kDumpMagic;
  if (!regular || made_before || foreign) {
    settled_.insert(name);
  } else if (!read || begin.magic == 0) {
    unfinished_dumps_ = true;
  } else if (begin.realtime_start_ns < since_realtime_ns_ || snapshot_epoch != 0) {
    settled_.insert(name);
  } else {
    begin_drain(name);
  }
}

void Drainer::begin_drain(const std::string& name) {
  try {
    drains_.emplace(name, std::make_unique<DumpDrain>(directory_ + "/" + name));
    ++dumps_seen_;
  } catch (const std::exception& error) {
    complaints_.emplace_back(error.what());
    settled_.insert(name);
  }
}

// False when there is nothing left to do for it.
bool Drainer::step_one(const std::string& name, DumpDrain& drain, bool flush) {
  try {
    DumpDrain::Step step = drain.step(flush);
    while (flush && step == DumpDrain::Step::kMoved && drain.target_has_ended())
      step = drain.step(true);
    for (std::string& line : drain.take_complaints()) complaints_.push_back(std::move(line));
    if (step == DumpDrain::Step::kDiskFull && disk_full_said_.insert(name).second)
      complaints_.push_back(disk_full_line(drain));
    return step != DumpDrain::Step::kComplete;
  } catch (const std::exception& error) {
    complaints_.emplace_back(error.what());
    return false;
  }
}

milliseconds Drainer::step_all(bool flush) {
  milliseconds pause = kSlowest;
  for (auto it = drains_.begin(); it != drains_.end();) {
    if (step_one(it->first, *it->second, flush)) {
      pause = std::min(pause, it->second->pause());
      ++it;
    } else {
      settled_.insert(it->first);
      it = drains_.erase(it);
    }
  }
  return drains_.empty() ? std::min(pause, milliseconds(10)) : pause;
}

namespace {

volatile sig_atomic_t asked_to_end = 0;

void end_soon(int) { asked_to_end = 1; }

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = end_soon;  // no SA_RESTART: the pause ends at once
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
}

void pause_for(milliseconds pause) {
  const timespec time{pause.count() / 1000, pause.count() % 1000 * 1'000'000};
  ::nanosleep(&time, nullptr);
}

// A session of its own and adopted by init, so no wait() of the program can see it. True in the
// process that goes on. The lock on the journal belongs to the open file and survives fork.
bool become_background() {
  const pid_t child = ::fork();
  if (child < 0) throw DumpError(fmt::format("cannot fork: {}", std::strerror(errno)));
  if (child != 0) return false;
  ::setsid();
  if (::fork() != 0) ::_exit(0);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd <= 2; ++fd) ::dup2(null, fd);
  if (::chdir("/") != 0) return true;  // only so that no file system stays busy
  return true;
}

int say_disk_full(const DumpDrain& drain) {
  fmt::print(stderr, "mprof drain: {}\n", disk_full_line(drain));
  return 1;
}

int drain_until_end(DumpDrain& drain, bool once) {
  bool said = false;
  for (;;) {
    const DumpDrain::Step step = drain.step(once || asked_to_end != 0);
    for (const std::string& line : drain.take_complaints())
      fmt::print(stderr, "mprof drain: {}\n", line);
    const bool full = step == DumpDrain::Step::kDiskFull;
    if (full && (once || asked_to_end != 0 || drain.target_has_ended()))
      return said ? 1 : say_disk_full(drain);
    if (full && !std::exchange(said, true)) say_disk_full(drain);
    if (step == DumpDrain::Step::kComplete) return 0;
    if ((once || asked_to_end != 0) && !drain.target_has_ended()) return 0;
    if (step != DumpDrain::Step::kMoved || !drain.target_has_ended()) pause_for(drain.pause());
  }
}

void say_result(const std::string& dump, const RingDrain& rings, const char* units,
                const char* ring) {
  if (rings.damaged_rings() != 0)
    fmt::print(stderr, "mprof drain: {}: positions of a {} made no sense {} times; skipped\n", dump,
               ring, rings.damaged_rings());
  if (const JournalWriter* journal = rings.journal())
    fmt::print(stderr, "mprof drain: {}: {} {} moved, {} bytes\n", journal->path(),
               rings.units_moved(), units, journal->kept_bytes());
}

void say_torn(const RingDrain& rings) {
  const JournalWriter* journal = rings.journal();
  if (journal == nullptr || journal->truncated_bytes() == 0) return;
  fmt::print(stderr, "mprof drain: {}: {} bytes of a torn frame at its end removed\n",
             journal->path(), journal->truncated_bytes());
}

}  // namespace

int run_drain_command(const DrainCommand& command) {
  try {
    DumpDrain drain(command.dump_path);
    say_torn(drain.events());
    say_torn(drain.trace());
    if (command.detach && !become_background()) return 0;
    catch_signals();
    const int code = drain_until_end(drain, command.once);
    say_result(drain.path(), drain.events(), "words", "profbuf");
    say_result(drain.path(), drain.trace(), "bytes", "trace ring");
    return code;
  } catch (const std::exception& error) {
    fmt::print(stderr, "mprof drain: {}\n", error.what());
    return 1;
  }
}

}  // namespace mprof::dumper
