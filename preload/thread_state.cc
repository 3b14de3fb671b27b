// SPDX-License-Identifier: Apache-2.0
#include "preload/thread_state.h"

#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#include "format/stack_table.h"
#include "preload/clock.h"
#include "preload/counts.h"
#include "preload/cpu_sampler.h"
#include "preload/dump_file.h"
#include "preload/rings.h"
#include "preload/spin.h"
#include "preload/sys.h"
#include "preload/trace.h"

namespace mprof::preload {

__thread ThreadState self MPROF_INITIAL_EXEC;
constinit uint32_t process_number = 1;

namespace {

using format::kNoRow;

pthread_key_t end_key;
bool end_key_made;

// Blocks of threads that ended, under `lock`; a block is 20 KiB, touched as deep as stacks go.
ThreadBlock* free_blocks;
std::atomic<bool> blocks_locked;
constexpr size_t kBlockBytes = (sizeof(ThreadBlock) + 4095) & ~size_t{4095};

bool lock_blocks() {
  return spin_until([] { return !blocks_locked.exchange(true, std::memory_order_acquire); });
}
void unlock_blocks() { blocks_locked.store(false, std::memory_order_release); }

ThreadBlock* take_block() {
  if (lock_blocks()) {
    ThreadBlock* block = free_blocks;
    if (block != nullptr) free_blocks = block->next_free;
    unlock_blocks();
    if (block != nullptr) return block;
  }
  auto* block = static_cast<ThreadBlock*>(map_anonymous(kBlockBytes));
  if (block == nullptr) return nullptr;
  if (header != nullptr)
    std::atomic_ref(header->anonymous_bytes).fetch_add(kBlockBytes, std::memory_order_relaxed);
  block->condition_wait.lock_wait = &block->lock_wait.wait;
  add_waiter(block->lock_wait);
  return block;
}

void give_block(ThreadBlock* block) {
  if (!lock_blocks()) return;  // lost: a page or two
  block->next_free = free_blocks;
  free_blocks = block;
  unlock_blocks();
}

// All profbufs together stay below this; threads beyond have totals but no events.
constexpr uint64_t kMaxProfbufBytes = 64 << 20;

void attach_profbuf(ThreadBlock* block) {
  const Rings profbufs{tables.profbufs,           format::TableId::kProfbufs,
                       tables.profbuf_data,       format::TableId::kProfbufData,
                       header->profbuf_words * 8, kMaxProfbufBytes};
  const Ring ring = take_ring(profbufs, block->row_number);
  block->profbuf_head = ring.head;
  block->profbuf = {};
  if (ring.head == nullptr) return;
  block->profbuf = {ring.head, reinterpret_cast<std::atomic<uint64_t>*>(ring.data),
                    header->profbuf_words};
  block->profbuf.set_thread(block->row_number);
  block->row->profbuf.store(ring.number + 1, std::memory_order_relaxed);
}

void show_labels(format::ThreadRow* row) {
  row->labels.store(current_labels() + 1, std::memory_order_relaxed);
}

void publish_row(uint32_t number) {
  format::ThreadRow* row = tables.threads.at(number);
  row->start_ticks = ticks();
  show_labels(row);
  row->unsignalled.store(why_unsignalled(), std::memory_order_relaxed);
  const int tid = sys::gettid();  // none where a filter of seccomp is against it
  row->tid.store(tid < 0 ? 0 : static_cast<uint32_t>(tid), std::memory_order_release);
  header->threads_seen.fetch_add(1, std::memory_order_relaxed);
}

// Its destructor is called with any value but null, so the row's own address will do. A key beyond
// the first 32 makes libc allocate: not here, where an allocator may hold its locks.
void call_back_at_end(void* value) {
  if (end_key_made && end_key < 32) pthread_setspecific(end_key, value);
}

uint32_t make_row() {
  const uint32_t number = claim_row(tables.threads, format::TableId::kThreads);
  if (number == kNoRow) return kNoRow;
  sys::prctl(PR_GET_NAME, tables.threads.at(number)->name);
  publish_row(number);
  return number;
}

// A thread that came past the hooks (its creator asked the loader for libc's function): nobody
// knows from where, but there it is.
void count_unseen_creation(ThreadBlock* block) {
  const uint32_t row = find_count(format::CountKind::kThreadCreate, format::kStackIncomplete,
                                  kNoRow, block->row_number);
  if (row == kNoRow) return count_lost(format::Lost::kNotCounted);
  add_count(block, row, {0, format::kWeightOne}, ticks());
}

void give_up_block(ThreadBlock* block) {
  self.block = nullptr;
  live_index.give_all(block->free_rows);
  abandon_condition(block->condition_wait);
  withdraw_wait(block->lock_wait.wait);
  give_ring(block->profbuf_head);
  give_trace_ring(block);
  // A node that could not be taken out is still looked at by signals: the block is left to them.
  if (block->condition_wait.condition.load(std::memory_order_acquire) == nullptr) give_block(block);
}

// Rows of threads that never have a sample, for their names and starts; a program that makes
// threads without end must not fill the disk with them.
constexpr uint64_t kMostRowsAhead = 1 << 14;

}  // namespace

[[gnu::cold]] ThreadBlock* register_thread() {
  const ErrnoGuard keep_errno;
  const Guard guard(Guard::kOwnCalls);
  if (self.process != process_number) self.row = 0;
  const bool is_new = self.row == 0;
  if (is_new) {
    const uint32_t number = make_row();
    if (number == kNoRow) return nullptr;
    self.row = number + 1;
    self.process = process_number;
  }
  ThreadBlock* block = take_block();
  if (block == nullptr) return nullptr;
  block->row_number = self.row - 1;
  block->row = tables.threads.at(block->row_number);
  block->row->end_ticks.store(0, std::memory_order_relaxed);
  block->process = process_number;
  block->free_rows = {};
  attach_profbuf(block);
  self.block = block;
  call_back_at_end(block);
  cpu_thread_begins(*block->row);
  if (is_new && sys::gettid() != sys::getpid()) count_unseen_creation(block);
  update_clock();
  return block;
}

format::Lost why_no_block() {
  return self.row == 0 ? format::Lost::kTableFull : format::Lost::kNoThreadState;
}

void write_event(ThreadBlock* thread, const uint64_t* record, uint32_t words) {
  if (!thread->profbuf.write(record, words) && thread->profbuf_head == nullptr)
    count_lost(format::Lost::kNoProfbuf);
}

uint32_t make_row_for_new_thread(uint32_t creation) {
  if (tables.threads.used() >= kMostRowsAhead && !tracing()) return kNoRow;
  const uint32_t number = claim_row(tables.threads, format::TableId::kThreads);
  if (number == kNoRow)
    count_lost(format::Lost::kNotCounted);
  else
    tables.threads.at(number)->creation = creation + 1;
  return number;
}

void take_row(uint32_t row, uint32_t process) {
  if (process != process_number || header == nullptr) return;
  self.row = row + 1;
  self.process = process;
  const Guard guard(Guard::kAtWork);
  publish_row(row);
  note_name();
  call_back_at_end(&self);
  cpu_thread_begins(*tables.threads.at(row));
}

void note_thread() {
  if (own_row() != nullptr) return;
  const uint32_t row = claim_row(tables.threads, format::TableId::kThreads);
  if (row == kNoRow) return count_lost(format::Lost::kNotCounted);
  take_row(row, process_number);
}

void note_name() {
  if (header == nullptr) return;
  if (format::ThreadRow* row = own_row(); row != nullptr) sys::prctl(PR_GET_NAME, row->name);
}

void set_current_labels(uint32_t set) {
  std::atomic_ref(self.labels).store(LabelsWord::of(set), std::memory_order_relaxed);
  if (format::ThreadRow* row = own_row(); row != nullptr) show_labels(row);
}

// Runs in each pass over a thread's keys in which it has a value: later destructors may allocate
// again, then the thread registers again and this runs once more.
void thread_ends() {
  format::ThreadRow* row = own_row();
  if (row == nullptr) return;
  const Guard guard(Guard::kAtWork);
  note_name();
  if (tracing()) trace_exit();
  row->end_ticks.store(ticks(), std::memory_order_relaxed);
  cpu_thread_ends(*row);
  ThreadBlock* block = known_block();
  if (block != nullptr) give_up_block(block);
}

bool threads_init(void (*at_end)(void*)) {
  if (!end_key_made) end_key_made = pthread_key_create(&end_key, at_end) == 0;
  return end_key_made;
}

void note_main_stack() {
  if (self.stack_high != 0 || sys::gettid() != sys::getpid()) return;
  // The kernel puts these bytes above everything that the program pushes on its first stack.
  const uintptr_t high = getauxval(AT_RANDOM);
  rlimit limit;
  if (high == 0 || !sys::getrlimit(RLIMIT_STACK, &limit)) return;
  constexpr rlim_t kMost = rlim_t{1} << 30;
  const rlim_t size = limit.rlim_cur < kMost ? limit.rlim_cur : kMost;
  self.stack_low = high - size;
  self.stack_high = high & ~uintptr_t{15};
}

void forget_threads() {
  ++process_number;
  wait_table_forget();
  condition_table_forget();
  free_blocks = nullptr;  // their contents belong to the parent's dump
  blocks_locked.store(false, std::memory_order_relaxed);
  forget_rings();
}

bool wait_until_nobody_inside() {
  for (int round = 0; round < 200; ++round) {
    bool anybody = false;
    for (uint32_t i = 0; i < tables.threads.used(); ++i)
      anybody |= i + 1 != self.row &&
                 (tables.threads.at(i)->inside.load(std::memory_order_acquire) & 1) != 0;
    if (!anybody) return true;
    sys::sleep_ns(100000);
  }
  return false;
}

}  // namespace mprof::preload
