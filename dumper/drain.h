// SPDX-License-Identifier: Apache-2.0
// The drain: moves what the rings of a running target hold into the journals beside its dump:
// events, and the trace.
//
// Never wakes, stops or blocks the target: it polls, faster the faster the rings fill, and writes
// a frame when a ring is an eighth full or a second has passed. It ends when the target has ended
// and the rings are empty. Exactly once, also across its own death: see docs/journal-format.md.
//
// Threads   each object belongs to one thread; Drainer runs its own.
// Fails     DumpError, JournalError: one line, when a dump or its journal cannot be used.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/journal.h"
#include "dumper/ring_drain.h"

namespace mprof::dumper {

// Tells whether the process that writes a dump still can: it has ended, or has become another
// program by exec, which keeps pid and start time but not the mapping.
class TargetWatch {
 public:
  explicit TargetWatch(const Dump& dump);
  TargetWatch(const TargetWatch&) = delete;
  TargetWatch& operator=(const TargetWatch&) = delete;
  ~TargetWatch();

  [[nodiscard]] bool has_ended() const;
  // Reads /proc/PID/maps, a millisecond for a large program.
  [[nodiscard]] bool mapping_is_gone() const;

 private:
  uint32_t pid_;
  uint64_t start_ticks_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  int pidfd_ = -1;
};

// One dump and its journals.
class DumpDrain {
 public:
  explicit DumpDrain(const std::string& dump_path);

  enum class Step {
    kWaiting,   // nothing due
    kMoved,     // a frame was written
    kDiskFull,  // nothing could be written; error() says why
    kComplete,  // the target has ended and the journals have everything
  };
  // Looks once. `flush`: move whatever is there, however little.
  Step step(bool flush);
  // When to look again.
  [[nodiscard]] std::chrono::milliseconds pause() const { return pause_; }

  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] const RingDrain& events() const { return events_; }
  [[nodiscard]] const RingDrain& trace() const { return trace_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool target_has_ended() const { return ended_; }
  // What went wrong with the trace since the last call, or ended it: one line each.
  [[nodiscard]] std::vector<std::string> take_complaints() {
    return std::exchange(complaints_, {});
  }

 private:
  [[nodiscard]] bool target_ended_by_now();
  void adapt_pause(double fullest);
  [[nodiscard]] bool is_due(const RingDrain& rings, const RingDrain::Look& look, bool flush) const;
  bool succeeded(int error);
  Step finish();
  void watch_trace();
  [[nodiscard]] std::string why_trace_ends() const;
  [[nodiscard]] format::ClockPoint clock_now() const;

  std::string path_;
  Dump dump_;
  RingDrain events_;
  RingDrain trace_;
  TargetWatch watch_;
  std::chrono::milliseconds pause_{1};
  std::chrono::steady_clock::time_point last_maps_check_;
  std::chrono::steady_clock::time_point trace_ended_;
  std::vector<std::string> complaints_;
  int error_ = 0;
  bool ended_ = false;
  bool trouble_was_said_ = false;
};

// Drains every dump that appears in a directory, on a thread of its own, for `mprof run`.
class Drainer {
 public:
  // Dumps whose file name matches `pattern` (fnmatch) and that were begun at or after
  // `since_realtime_ns`.
  Drainer(std::string directory, std::string pattern, uint64_t since_realtime_ns);
  Drainer(const Drainer&) = delete;
  Drainer& operator=(const Drainer&) = delete;
  ~Drainer();

  void start();
  // Moves what is there, ends the thread. Dumps of targets that have ended become complete.
  void stop();
  // One line for each thing that went wrong. After stop().
  [[nodiscard]] const std::vector<std::string>& complaints() const { return complaints_; }
  [[nodiscard]] size_t dumps_seen() const { return dumps_seen_; }

 private:
  void run();
  [[nodiscard]] bool directory_changed();
  void look_for_dumps();
  void try_dump(const std::string& name);
  void begin_drain(const std::string& name);
  bool step_one(const std::string& name, DumpDrain& drain, bool flush);
  std::chrono::milliseconds step_all(bool flush);

  std::string directory_;
  std::string pattern_;
  uint64_t since_realtime_ns_;
  std::map<std::string, std::unique_ptr<DumpDrain>> drains_;
  std::set<std::string> settled_;  // names not to look at again
  std::vector<std::string> complaints_;
  std::set<std::string> disk_full_said_;
  std::chrono::nanoseconds scanned_mtime_{-1};
  bool unfinished_dumps_ = false;  // a file whose header was not there yet
  size_t dumps_seen_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;  // under mutex_
  std::thread thread_;
};

// `mprof drain DUMP`.
struct DrainCommand {
  std::string dump_path;
  bool once = false;    // what the rings hold now, then end
  bool detach = false;  // go on in the background, without a terminal
};
// The exit code. Messages go to stderr.
int run_drain_command(const DrainCommand& command);

}  // namespace mprof::dumper
