// SPDX-License-Identifier: Apache-2.0
// What mprof keeps for each thread: a few words of initial-exec TLS, and a block of its own
// memory that is taken when the thread's first sample is.
//
// Threads: each its own. Signals: `inside` keeps a handler out of what it interrupted.
// Allocates: from the kernel, in runs of blocks. Blocks: no.
#pragma once

#include <cstddef>
#include <cstdint>

#include "format/profbuf_writer.h"
#include "format/thread_table.h"
#include "format/trace_writer.h"
#include "preload/block_rate.h"
#include "preload/condition_table.h"
#include "preload/dump_file.h"
#include "preload/live_index.h"
#include "preload/low.h"
#include "preload/unwind.h"

namespace mprof::preload {

// Reused by later threads; all zero for the first one.
struct ThreadBlock {
  ThreadBlock* next_free;
  format::ThreadRow* row;
  uint32_t row_number;
  uint32_t process;  // process_number when it was taken
  format::ProfbufHead* profbuf_head;
  format::ProfbufWriter profbuf;
  format::ProfbufHead* trace_head;  // nullptr: it has no trace ring
  format::TraceWriter trace;
  uint32_t trace_session;  // that its records are of
  uint32_t trace_records;
  uint32_t yields;  // since the last record of one
  uint64_t last_yield_ticks;
  uint64_t last_heap_ticks;
  uint64_t last_heap_bytes;
  LiveFreeList free_rows;
  LockWaitLink lock_wait;
  ConditionNode condition_wait;
  // The last stack that was captured for a wait, and from where; when it last waited.
  uint64_t last_wait_ticks;
  uintptr_t wait_site;
  uintptr_t wait_site_sp;
  uint32_t wait_site_modules;  // module_epoch()
  uint32_t wait_site_stack;
  BlockRate block_rate;
  uint64_t last_record_ticks;  // of a wait
  uint32_t events;
  bool call_was_cut;  // see waiting.h
  // The last two walks, and the stack nodes of the last one, outermost first.
  uint32_t current_walk;
  uint32_t walk_module_epoch;
  uint32_t walk_root;
  uint32_t walk_nodes_known;
  uint32_t walk_nodes[kMaxDepth];
  Walk walks[2];
};

// Zeroed is valid: the first allocation of a thread then takes the slow path.
struct ThreadState {
  uint64_t steps_until_look;  // sampler.h; the only word that an unsampled malloc touches
  uint64_t random;            // xorshift state; 0 = not seeded
  ThreadBlock* block;
  uint32_t inside;  // Guard::Why, 0 outside mprof
  uint32_t row;     // row + 1 in the thread table of process `process`
  uint32_t process;
  uint32_t wait_random;  // xorshift state of the block profile; 0 = not seeded
  uintptr_t stack_low;   // known for threads made through the pthread_create hook
  uintptr_t stack_high;
  uintptr_t forwarded_new;  // see real_new.cc
  // The sampling point lies behind this piece; see sampler.h.
  uint64_t steps_beyond;
  uint64_t drawn_rate;   // with which it was drawn; 0: there is none
  uint64_t labels;       // the program's, in force: a LabelsWord
  uint32_t paused;       // mprof_pause() without its mprof_resume(): allocations do not count
  uint16_t trace_ended;  // 1: its trace has its end
  uint16_t is_strict;    // 1: in seccomp's strict mode; see seccomp.h
};
static_assert(sizeof(ThreadState) == 96, "TLS comes out of every thread's stack");

extern __thread ThreadState self MPROF_INITIAL_EXEC;

// Numbers the processes of a fork chain, so that state from before a fork is recognised.
extern uint32_t process_number;

// A label set of the program's as it is kept in TLS and handed to the program: the process whose
// dump has it in the upper half, row + 1 in the lower one; 0 is no labels. One store changes it.
struct LabelsWord {
  static uint64_t of(uint32_t set) {
    return set == format::kNoRow ? 0 : uint64_t{process_number} << 32 | (set + 1);
  }
  // The set in this process's dump; kNoRow if there is none, or it is one of before a fork.
  static uint32_t set_of(uint64_t word) {
    return word >> 32 == process_number ? static_cast<uint32_t>(word) - 1 : format::kNoRow;
  }
};

// The label set that the program has in force in this thread, kNoRow for none. Safe in a signal
// handler, whatever it interrupted.
inline uint32_t current_labels() {
  return LabelsWord::set_of(std::atomic_ref(self.labels).load(std::memory_order_relaxed));
}
// Puts it in force; the thread's row, if it has one, shows it. There is a dump.
void set_current_labels(uint32_t set);

// The row of this thread in the current dump; nullptr if it has none.
inline format::ThreadRow* own_row() {
  return self.row != 0 && self.process == process_number ? tables.threads.at(self.row - 1)
                                                         : nullptr;
}

// The block of this thread; nullptr if it has none in this process yet.
inline ThreadBlock* known_block() {
  ThreadBlock* block = self.block;
  return block != nullptr && block->process == process_number ? block : nullptr;
}
// The same, but takes one, registered in the current dump; nullptr if there is no memory, or no row
// for it. errno: kept.
ThreadBlock* register_thread();
inline ThreadBlock* own_block() {
  ThreadBlock* block = known_block();
  return block != nullptr ? block : register_thread();
}
// Which of both it was that own_block() has just lacked.
format::Lost why_no_block();

// Where this thread keeps its releases of watched locks; nullptr if it has no block in this
// process.
inline LockWaitLink* own_releases() {
  ThreadBlock* block = known_block();
  return block != nullptr ? &block->lock_wait : nullptr;
}

// One record to the thread's profbuf; what is dropped is counted.
void write_event(ThreadBlock* thread, const uint64_t* record, uint32_t words);

// The row of a thread that is about to be made by this one; kNoRow if it gets none now. `creation`:
// where it counts, or kNoRow.
uint32_t make_row_for_new_thread(uint32_t creation);
// At the start of that thread.
void take_row(uint32_t row, uint32_t process);
// Gives this thread a row if it has none.
void note_thread();
// This thread has a new name.
void note_name();

// Keeps hooks from sampling what happens below them in this thread.
class Guard {
 public:
  enum Why : uint32_t {
    kAtWork = 1,    // on a sample: what is allocated meanwhile is a signal handler's, and is lost
    kOwnCalls = 2,  // calling libc functions that may allocate: that is mprof's own, not counted
  };
  explicit Guard(Why why) : before_(self.inside) { self.inside = why; }
  ~Guard() { self.inside = before_; }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  uint32_t before_;
};

// Marks the time in which a thread works on a sample; a reader's cut waits for its end.
class ScopedInside {
 public:
  explicit ScopedInside(ThreadBlock* block) : inside_(block->row->inside) { change(1); }
  ~ScopedInside() { change(1); }
  ScopedInside(const ScopedInside&) = delete;
  ScopedInside& operator=(const ScopedInside&) = delete;

 private:
  // Own word. Release at the end: whoever sees it even sees what was done. The store at the
  // begin must be visible before the epoch is read; the reader's membarrier sees to that.
  void change(uint64_t by) {
    inside_.store(inside_.load(std::memory_order_relaxed) + by, std::memory_order_release);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
  }
  std::atomic<uint64_t>& inside_;
};

// Work on a sample with this thread's block: guarded, seen by cuts.
template <class Work>
void work_with(ThreadBlock* block, Work&& work) {
  const Guard guard(Guard::kAtWork);
  const ScopedInside inside(block);
  work(block);
}

// The same, errno kept. When there is no block it is counted as lost.
template <class Work>
void work_on_sample(Work&& work, format::Lost otherwise = format::Lost::kNotCounted) {
  const ErrnoGuard keep_errno;
  ThreadBlock* block = own_block();
  if (block == nullptr) return count_lost(otherwise);
  work_with(block, work);
}

// `at_end` is called at the end of each thread that is registered, and leads to thread_ends() when
// the dump is this process's.
bool threads_init(void (*at_end)(void*));
void thread_ends();
// Stack bounds of the thread that calls main().
void note_main_stack();

inline bool is_alive(const format::ThreadRow& row) {
  return row.tid.load(std::memory_order_acquire) != 0 &&
         row.end_ticks.load(std::memory_order_relaxed) == 0;
}

// A forked child has one thread and no registered ones.
void forget_threads();

// True when no thread works on a sample (apart from the caller), waited for at most ~20 ms.
bool wait_until_nobody_inside();

}  // namespace mprof::preload
