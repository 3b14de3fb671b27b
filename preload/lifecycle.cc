// SPDX-License-Identifier: Apache-2.0
#include "preload/lifecycle.h"

#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "format/config.h"
#include "preload/buckets.h"
#include "preload/clock.h"
#include "preload/contention.h"
#include "preload/control.h"
#include "preload/counts.h"
#include "preload/cpu_sampler.h"
#include "preload/custom_profiles.h"
#include "preload/dump_file.h"
#include "preload/filter.h"
#include "preload/labels.h"
#include "preload/launch_drain.h"
#include "preload/live_index.h"
#include "preload/low.h"
#include "preload/modules.h"
#include "preload/program_labels.h"
#include "preload/range_table.h"
#include "preload/real.h"
#include "preload/rule_cache.h"
#include "preload/sampler.h"
#include "preload/signals.h"
#include "preload/snapshot.h"
#include "preload/stacks.h"
#include "preload/sys.h"
#include "preload/trace.h"

namespace mprof::preload {

constinit std::atomic<State> state{State::kUnstarted};
constinit const std::atomic<uint32_t>* process_mark = nullptr;

namespace {

constinit format::Settings settings;
bool settings_read;

void complain(const format::SettingInfo& info, const char* value) {
  Line line;
  line << info.variable << "=" << value << ": not " << info.accepted << "; using "
       << (*info.default_text == '\0' ? "none" : info.default_text);
  line.say();
}

// Programs overwrite the texts of their first environment, to show another title in ps.
void keep_copy(const char*& text) {
  if (text == nullptr) return;
  const size_t bytes = strlen(text) + 1;
  if (void* copy = map_anonymous(bytes)) text = static_cast<const char*>(memcpy(copy, text, bytes));
}

// A forked child keeps its parent's, and says nothing twice. Nor may it look again: it may begin in
// the middle of its setenv(), when `environ` is freed already.
void read_settings() {
  if (settings_read) return;
  settings_read = true;
  note_environment();
  for (const format::SettingInfo& info : format::kSettings) {
    const char* value = environment(info.variable);
    if (value != nullptr && !format::apply_setting(settings, info.variable, value))
      complain(info, value);
  }
  for (const char** text : {&settings.out, &settings.only, &settings.skip}) keep_copy(*text);
}

// Whether `name` is one of the comma-separated names of `list`.
bool listed(const char* list, const char* name) {
  const size_t length = strlen(name);
  while (list != nullptr && *list != '\0') {
    const char* end = strchr(list, ',');
    const size_t item = end == nullptr ? strlen(list) : static_cast<size_t>(end - list);
    if (item == length && memcmp(list, name, length) == 0) return true;
    list += item + (end == nullptr ? 0 : 1);
  }
  return false;
}

bool wanted() {
  if (getauxval(AT_SECURE) != 0) return false;  // setuid: leave no files behind
  char path[1024];
  sys::readlink("/proc/self/exe", path, sizeof path);
  const char* slash = strrchr(path, '/');
  const char* name = slash == nullptr ? path : slash + 1;
  if (settings.only != nullptr && *settings.only != '\0' && !listed(settings.only, name))
    return false;
  return !listed(settings.skip, name);
}

const char* make_mark() {
  if (process_mark == nullptr) {
    void* page = map_anonymous(format::kPageBytes);
    if (page == nullptr) return "no memory";
    if (sys::madvise(page, format::kPageBytes, MADV_WIPEONFORK) != 0)
      return "the kernel has no MADV_WIPEONFORK (Linux 4.14)";
    process_mark = static_cast<std::atomic<uint32_t>*>(page);
  }
  const_cast<std::atomic<uint32_t>*>(process_mark)->store(1, std::memory_order_relaxed);
  return nullptr;
}

// At such rates nearly every block is tracked: few chains would be long ones, and the filter would
// only cost.
bool is_exact(uint64_t rate) { return rate != 0 && rate < format::kLeastChangedHeapRate; }
uint32_t live_heads(uint64_t rate) { return is_exact(rate) ? 1u << 20 : 1u << 14; }

// In a forked child that did nothing else before, the dump is still the parent's.
void end_of_thread(void*) {
  if (header != nullptr && owns_dump()) thread_ends();
}

bool init_tables() {
  return stacks_init() && buckets_init() && live_index.init(live_heads(settings.heap_rate)) &&
         threads_init(end_of_thread) && rule_cache_init() &&
         (!settings.mmap || range_table.init()) && labels_init() && program_labels_init() &&
         counts_init() && condition_table_init(settings.mutex_fraction != 0);
}

// The thread that is there already; its maker is the process's.
void count_first_thread() {
  const uint32_t row =
      find_count(format::CountKind::kThreadCreate, format::kNoRow, format::kNoRow, 0);
  if (row != format::kNoRow) add_count_only(row, {0, format::kWeightOne});
}

bool decline(const char* why) {
  Line line;
  line << why << "; the program runs unprofiled";
  line.say();
  return false;
}

void announce() {
  if (settings.verbose == 0) return;
  Line line;
  line << "profiling pid " << uint64_t{header->pid} << " into " << dump_path() << ", heap rate "
       << settings.heap_rate;
  line.say(Line::kEach);
}

void seed() {
  const uint64_t chosen = settings.seed != 0 ? settings.seed : header->generation;
  seed_sampler(chosen + process_number);
}

// A child that only computes would have no sample by which to make its dump, and so no timer and no
// trace.
void fork_child() {
  if (state.load(std::memory_order_relaxed) == State::kOn) look_soon();
}

void begin_cpu_profile() {
  cpu_begin_in_new_process();
  note_thread();  // it may be turned on later
  if (settings.cpu_hz != 0) cpu_set_rate(settings.cpu_hz);
}

void watch_forks() {
  const bool is_first = process_number == 1;
  if (is_first && (settings.cpu_hz != 0 || settings.trace))
    pthread_atfork(nullptr, nullptr, fork_child);
}

// A trace is drained unless somebody says that he does so himself.
const char* reason_to_drain() {
  if (settings.drain) return "MPROF_DRAIN=1";
  return settings.trace && !says_who_drains() ? "MPROF_TRACE=1" : nullptr;
}

bool start_recording() {
  begin_family();
  resolve();
  read_settings();
  if (!wanted()) return false;
  if (!modules_init()) return decline("needs glibc 2.35 or newer");
  if (const char* problem = make_mark()) return decline(problem);
  clock_init();
  note_main_stack();
  if (!create_dump(settings)) return false;
  if (!init_tables()) {
    abandon_dump();
    return decline("no memory for the tables");
  }
  std::atomic_ref(header->anonymous_bytes)
      .fetch_add(stacks_index_bytes() + buckets_index_bytes() + live_index.bytes() +
                     range_table.bytes() + labels_index_bytes() + program_labels_bytes() +
                     counts_index_bytes() + condition_table_bytes(),
                 std::memory_order_relaxed);
  count_first_thread();
  const char* allocator = allocator_path();
  header->allocator_name = add_string(allocator, static_cast<uint32_t>(strlen(allocator) + 1));
  if (is_exact(settings.heap_rate)) filter_mark_all();
  seed();
  heap_rate.store(settings.heap_rate, std::memory_order_relaxed);
  contention_init(settings.block_rate_ns, settings.mutex_fraction);
  signals_init();
  signals_publish();
  watch_forks();
  begin_cpu_profile();
  if (settings.trace) trace_set(true);
  return true;
}

__attribute__((constructor)) void construct() {
  if (self.inside == 0) ready_to_sample();
}

// What is allocated and freed from here on, by destructors of other libraries, still counts in
// the rows that exist.
__attribute__((destructor)) void finish() {
  if (!recording()) return;
  const ErrnoGuard keep_errno;
  const Guard guard(Guard::kOwnCalls);
  cpu_note_used();
  freeze_tables();
  update_clock();
  header->end_realtime_ns = header->realtime_start_ns +
                            (header->clock_last.monotonic_ns - header->clock_first.monotonic_ns);
  header->end_state.store(format::EndState::kClean, std::memory_order_release);
  if (wait_until_nobody_inside()) cut_dump();
}

}  // namespace

bool leave_parents_dump() {
  const ErrnoGuard keep_errno;
  forget_trace();
  abandon_dump();
  forget_threads();
  forget_control();
  forget_snapshot();
  forget_modules();
  filter_clear();
  range_table.forget();
  custom_profiles_forget();
  self.block = nullptr;
  state.store(State::kUnstarted, std::memory_order_release);
  return false;
}

bool start_if_new() {
  // Before libc has set up the environment there are no settings; this allocation passes.
  if (environ == nullptr && !settings_read) return false;
  State expected = State::kUnstarted;
  if (!state.compare_exchange_strong(expected, State::kStarting)) return false;
  const ErrnoGuard keep_errno;
  bool started;
  {
    const Guard guard(Guard::kOwnCalls);
    started = start_recording();
  }
  state.store(started ? State::kOn : State::kOff, std::memory_order_release);
  if (!started) return false;
  announce();
  if (const char* reason = reason_to_drain()) launch_drain(dump_path(), reason);
  return true;
}

}  // namespace mprof::preload
