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

#include "dumper/find_dump.h"
#include "format/profbuf_reader.h"

namespace mprof::dumper {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr milliseconds kFastest{1};
constexpr milliseconds kSlowest{100};
constexpr milliseconds kDiskFullPause{1000};
constexpr seconds kFrameEvery{1};
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
  return fmt::format("{}: cannot grow ({}); what it has stays readable, events wait in the dump",
                     drain.journal().path(), std::strerror(drain.error()));
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
      journal_(journal_path_of(dump_path), journal_header_of(dump_.header())),
      watch_(dump_),
      last_frame_(steady_clock::now()),
      last_maps_check_(last_frame_) {
  if (!dump_.writable())
    throw DumpError(fmt::format("{}: draining needs permission to write to it", dump_path));
  for (const JournalWriter::Resume& resume : journal_.resume())
    resume_[resume.row] = resume.position;
  complete_ = journal_.was_complete();
}

// An exec can only be seen in the list of mappings, which is costly, so it is looked at rarely and
// only when nothing comes any more.
bool DumpDrain::target_ended_by_now() {
  if (ended_) return true;
  ended_ = watch_.has_ended();
  const auto now = steady_clock::now();
  if (!ended_ && now - std::max(last_frame_, last_maps_check_) >= kMapsCheckEvery) {
    last_maps_check_ = now;
    ended_ = watch_.mapping_is_gone();
  }
  return ended_;
}

// The journal knows better than the ring where to go on: the drainer before may have died after
// it wrote a frame and before it released the words. A ring that is ahead of the journal (frames
// were lost in a crash of the machine) keeps its place; the gap shows in the journal.
void DumpDrain::begin_ring(uint32_t row, const ProfbufView& view) {
  Ring& ring = rings_[row];
  ring.seen = true;
  ring.position = view.head->released.load(std::memory_order_relaxed);  // only drainers move it
  const auto known = resume_.find(row);
  if (known == resume_.end()) return;
  const format::ProfbufReader reader(view.head, view.words, view.word_count);
  const uint64_t pending = reader.written() - ring.position;
  if (pending > view.word_count || known->second - ring.position > pending) return;
  ring.position = known->second;
  release({{row, ring}});
}

void DumpDrain::look_at_ring(uint32_t row, const ProfbufView& view, Look& look) {
  if (!rings_[row].seen) begin_ring(row, view);
  const Ring& ring = rings_[row];
  const format::ProfbufReader reader(view.head, view.words, view.word_count);
  const uint64_t pending = reader.written() - ring.position;
  const double full = static_cast<double>(pending) / static_cast<double>(view.word_count);
  look.fullest = std::max(look.fullest, std::min(full, 1.0));
  look.news = look.news || pending != 0 || reader.dropped() != ring.dropped_written;
}

// Looking at the dump anew is costly; the count of profbufs tells when it is needed. A profbuf
// whose data is not there yet shows when the data's count moves.
void DumpDrain::refresh_if_grown() {
  const auto used = [this](format::TableId table) {
    const auto& directory = dump_.header().tables[static_cast<size_t>(table)];
    return directory.used_rows.load(std::memory_order_acquire);
  };
  const uint64_t heads = used(format::TableId::kProfbufs);
  const uint64_t data = used(format::TableId::kProfbufData);
  if (heads == heads_seen_ && data == data_seen_) return;
  dump_.refresh();
  heads_seen_ = heads;
  data_seen_ = data;
}

DumpDrain::Look DumpDrain::look_at_rings() {
  refresh_if_grown();
  rings_.resize(std::max(rings_.size(), dump_.rows(format::TableId::kProfbufs)));
  Look look;
  for (uint32_t row = 0; row < rings_.size(); ++row)
    if (const auto view = dump_.profbuf(row)) look_at_ring(row, *view, look);
  return look;
}

// Half full is more than a pause can wait for: a loop of malloc and free in an exact profile fills
// a mebibyte in two milliseconds.
void DumpDrain::adapt_pause(double fullest) {
  pause_ = std::max(pause_, kFastest);
  if (fullest >= kFrameWhenFull) pause_ = std::max(pause_ / 2, kFastest);
  if (fullest >= 2 * kFrameWhenFull) pause_ = kFastest;
  if (fullest >= 4 * kFrameWhenFull) pause_ = milliseconds(0);
  if (fullest < kFrameWhenFull / 2) pause_ = std::min(pause_ * 2, kSlowest);
}

DumpDrain::Step DumpDrain::step(bool flush) {
  const bool ended = target_ended_by_now();  // before the look: what comes after it is not missed
  const Look look = look_at_rings();
  adapt_pause(look.fullest);
  const bool due = flush || ended || look.fullest >= kFrameWhenFull ||
                   steady_clock::now() - last_frame_ >= kFrameEvery;
  if (look.news && due) return move_all();
  return ended ? finish() : Step::kWaiting;
}

DumpDrain::Step DumpDrain::move_all() {
  for (bool more = true; more;) {
    FrameBuilder builder(clock_now());
    std::vector<Release> releases;
    more = collect(builder, releases);
    if (builder.empty()) break;
    if (!write(builder, false)) return Step::kDiskFull;
    release(releases);
  }
  return Step::kMoved;
}

DumpDrain::Step DumpDrain::finish() {
  if (complete_) return Step::kComplete;
  if (!write(FrameBuilder(clock_now()), true)) return Step::kDiskFull;
  journal_.sync();
  complete_ = true;
  return Step::kComplete;
}

bool DumpDrain::write(const FrameBuilder& builder, bool complete) {
  error_ = journal_.append(builder, complete ? kFrameComplete : 0);
  if (error_ != 0) pause_ = kDiskFullPause;
  if (error_ == 0) last_frame_ = steady_clock::now();
  if (error_ == 0 && !complete) complete_ = false;
  return error_ == 0;
}

// One frame's worth. True when the frame is full and there is more.
bool DumpDrain::collect(FrameBuilder& builder, std::vector<Release>& releases) {
  for (uint32_t row = 0; row < rings_.size(); ++row)
    if (rings_[row].seen && !add_ring(row, builder, releases)) return true;
  return false;
}

// `dropped` is read after the words: it cannot be less than what the kLost records in them say.
bool DumpDrain::add_ring(uint32_t row, FrameBuilder& builder, std::vector<Release>& releases) {
  const auto view = dump_.profbuf(row);
  if (!view) return true;
  const format::ProfbufReader reader(view->head, view->words, view->word_count);
  Ring ring = rings_[row];
  SpanHead head{row, 0, ring.position, reader.written(), 0, 0};
  if (head.to - head.from > view->word_count) {
    head.from = head.to;
    head.flags = kSpanDamaged;
    ++damaged_;
  }
  const size_t room = builder.room();
  const uint64_t pending = head.to - head.from;
  const bool fits = pending <= room;
  if (!fits) head.to = head.from + room;
  head.dropped = reader.dropped();
  head.first_drop_ticks = view->head->first_drop_ticks.load(std::memory_order_relaxed);
  if (head.to == ring.position && head.dropped == ring.dropped_written) return fits;
  (void)reader.copy(head.from, builder.add(head));
  ring = {true, head.to, head.dropped};
  releases.push_back({row, ring});
  return fits;
}

// Only after the frame is written: a drainer that dies in between leaves words that the journal
// has, and begin_ring() skips them.
void DumpDrain::release(const std::vector<Release>& releases) {
  for (const Release& r : releases) {
    const auto view = dump_.profbuf(r.row);
    if (!view) continue;
    format::ProfbufReader(view->head, view->words, view->word_count).release(r.after.position);
    words_moved_ += r.after.position - rings_[r.row].position;
    rings_[r.row] = r.after;
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
  if (!regular || made_before) {
    settled_.insert(name);
  } else if (!read || begin.magic != format::kDumpMagic) {
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
    const bool full = step == DumpDrain::Step::kDiskFull;
    if (full && (once || asked_to_end != 0 || drain.target_has_ended()))
      return said ? 1 : say_disk_full(drain);
    if (full && !std::exchange(said, true)) say_disk_full(drain);
    if (step == DumpDrain::Step::kComplete) return 0;
    if ((once || asked_to_end != 0) && !drain.target_has_ended()) return 0;
    if (step != DumpDrain::Step::kMoved || !drain.target_has_ended()) pause_for(drain.pause());
  }
}

void say_result(const DumpDrain& drain) {
  if (drain.damaged_profbufs() != 0)
    fmt::print(stderr, "mprof drain: {}: positions of a profbuf made no sense {} times; skipped\n",
               drain.path(), drain.damaged_profbufs());
  fmt::print(stderr, "mprof drain: {}: {} words moved, {} bytes\n", drain.journal().path(),
             drain.words_moved(), drain.journal().file_bytes());
}

}  // namespace

int run_drain_command(const DrainCommand& command) {
  try {
    DumpDrain drain(command.dump_path);
    if (drain.journal().truncated_bytes() != 0)
      fmt::print(stderr, "mprof drain: {}: {} bytes of a torn frame at its end removed\n",
                 drain.journal().path(), drain.journal().truncated_bytes());
    if (command.detach && !become_background()) return 0;
    catch_signals();
    const int code = drain_until_end(drain, command.once);
    say_result(drain);
    return code;
  } catch (const std::exception& error) {
    fmt::print(stderr, "mprof drain: {}\n", error.what());
    return 1;
  }
}

}  // namespace mprof::dumper
