// SPDX-License-Identifier: Apache-2.0
// From records to moments: who woke whom, which calls were long, and what is dated back.
//
// A record tells what its own thread did. Whom a release woke is only known when a wait ends, and
// how long a call was when it is over: both come later. So records are held in a window, and given
// away when they are kWindowNs old. What comes later than that changes nothing any more.
//
// Wakes     An end of a wait that has what it waited for belongs to the newest release of that
// object by
//           another thread since the wait began; of a barrier to the last one that came, of a
//           join to the end of that thread. Any other end: the kernel woke it.
// Dated     kGrow and kTrim become a begin, `age` before the record, and an end. kRelock happens
// back      `age` before. None of them comes before what the same thread did earlier.
// Created   A thread whose first record is older than the kCreate of it knows its creator
//           nevertheless.
// Memory    kMostHeld moments, a few words for each thread, and for each object in the window.
// Fails     never: any records make moments whose times do not decrease.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "dumper/trace/record.h"
#include "format/label_table.h"

namespace mprof::dumper {

struct Moment {
  TraceRecord record;
  bool is_begin = false;        // kGrow, kTrim: the begin of it
  bool is_long = false;         // kCall: its core is free meanwhile
  bool is_no_wait = false;      // kWait that did not wait, as kWaitEnd said
  std::vector<uint32_t> woken;  // kRelease, kExit, kWait at a barrier: rows of the thread table
  // Of a thread that nobody knew: who made it; kNoRow when kCreate came before, or never.
  uint32_t creator = format::kNoRow;
  uint32_t creator_core = 0;
  uint32_t creator_stack = format::kNoRow;
};

// Of a record; one that there is not is taken for the most general one.
[[nodiscard]] format::WaitKind wait_kind(uint64_t number);

class MomentSource {
 public:
  // A mutex may be held as long after its condition was signalled; kMostHeld is what bounds memory.
  static constexpr uint64_t kWindowNs = 10'000'000'000;
  static constexpr size_t kMostHeld = size_t{1} << 17;
  static constexpr uint64_t kLongCallNs = 20'000;

  explicit MomentSource(TraceSource& records) : records_(records) {}

  // False: that was all.
  bool next(Moment& moment);

 private:
  struct Held {
    Moment moment;
    uint64_t order = 0;  // of coming in; 0: it is spare
    // Of the same object. It may have been given away since, and then has another order.
    Held* release_before = nullptr;
    uint64_t order_before = 0;
  };
  struct Wait {
    bool is_open = false;
    format::WaitKind kind{};
    uint64_t object = 0;
    uint64_t ns = 0;
    uint64_t order = 0;
    Held* begin = nullptr;  // kWait, in the window
  };
  struct Thread {
    Wait wait;
    Held* call = nullptr;   // in the window, and not over yet
    Held* first = nullptr;  // its first record, while that is in the window
    uint64_t ns = 0;        // of its last record
  };
  struct Barrier {
    Held* last = nullptr;       // to come
    Held* completer = nullptr;  // of the last generation that was seen to go on
    uint64_t completer_order = 0;
  };
  enum class Class : uint8_t { kLock, kExit };

  static uint64_t key_of(uint64_t object, Class c) { return object * 2 + static_cast<uint64_t>(c); }

  void fill();
  void take(TraceRecord& record);
  Held* append(TraceRecord&& record);
  Held* insert(const TraceRecord& record, uint64_t ns);
  std::unique_ptr<Held> make(uint64_t ns);
  void give_away(Moment& moment);
  void forget(Held* held);

  void note(Thread& thread, Held* held);
  void begin_wait(Thread& thread, format::WaitKind kind, uint64_t object, const Held& held);
  void end_wait(Thread& thread, const Held& held);
  Held* relock(Thread& thread, const TraceRecord& record);
  void declare(const Held& held);
  void create(const Held& held);
  void end_call(Thread& thread, uint64_t ns);
  Held* date_back(const Thread& thread, const TraceRecord& record);
  void release(uint64_t key, Held* held);
  [[nodiscard]] Held* waker(uint32_t thread, const Wait& wait, uint64_t key, uint64_t until_ns);
  [[nodiscard]] Held* completer(uint32_t thread, const Wait& wait);

  TraceSource& records_;
  std::deque<std::unique_ptr<Held>> window_;
  std::vector<std::unique_ptr<Held>> spare_;
  std::unordered_map<uint64_t, Held*> releases_;  // the newest in the window, by key
  std::unordered_map<uint64_t, Barrier> barriers_;
  std::unordered_map<uint32_t, Thread> threads_;
  TraceRecord incoming_;
  uint64_t now_ns_ = 0;    // of what came in last
  uint64_t given_ns_ = 0;  // of what was given away last
  uint64_t session_ns_ = 0;
  uint64_t order_ = 0;
  bool at_end_ = false;
};

}  // namespace mprof::dumper
