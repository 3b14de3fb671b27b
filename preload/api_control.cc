// SPDX-License-Identifier: Apache-2.0
// The library's side of mprof.h: rates, the CPU profile, the trace, snapshots.
//
// Threads: any. Signals: safe; in a handler that interrupted mprof itself nothing changes.
// Allocates: a forked child's dump, what a snapshot needs. Blocks: a snapshot waits for the disk.
#include <errno.h>

#include "format/config.h"
#include "preload/api_work.h"
#include "preload/control.h"
#include "preload/launch_drain.h"
#include "preload/low.h"
#include "preload/signals.h"
#include "preload/snapshot.h"

using namespace mprof::preload;  // the functions below are C names, outside any namespace
namespace format = mprof::format;

namespace {

// Asks as a controller does, and answers at once: the change is in force on return.
template <class Number>
int set(std::atomic<Number> format::Control::*setting, uint64_t value, bool is_accepted) {
  if (!may_work()) return ENOSYS;
  if (!is_accepted) return EINVAL;
  format::Control& control = header->control;
  (control.*setting).store(static_cast<Number>(value), std::memory_order_relaxed);
  control.epoch.fetch_add(1, std::memory_order_release);
  notice_control();
  return 0;
}

// One that is in force already, from the start, is accepted again.
bool is_accepted_heap_rate(uint64_t bytes) {
  return format::is_changed_heap_rate(bytes) ||
         (may_work() && bytes == std::atomic_ref(header->heap_rate_bytes).load());
}

}  // namespace

extern "C" {

MPROF_EXPORT int mprof_library_set_heap_rate(uint64_t bytes) noexcept {
  return set(&format::Control::heap_rate_bytes, bytes, is_accepted_heap_rate(bytes));
}

MPROF_EXPORT int mprof_library_set_block_rate(uint64_t ns) noexcept {
  return set(&format::Control::block_rate_ns, ns, ns <= format::kMaxBlockRateNs);
}

MPROF_EXPORT int mprof_library_set_mutex_fraction(unsigned fraction) noexcept {
  return set(&format::Control::mutex_fraction, fraction, fraction <= format::kMaxMutexFraction);
}

// Go's rule: who starts it must be the one that finds it off.
MPROF_EXPORT int mprof_library_cpu_start(unsigned hz) noexcept {
  if (!may_work()) return ENOSYS;
  if (hz == 0 || hz > format::kMaxCpuHz) return EINVAL;
  uint32_t off = 0;
  if (!header->control.cpu_hz.compare_exchange_strong(off, hz)) return EBUSY;
  if (own_signal() == 0) {
    header->control.cpu_hz.store(0, std::memory_order_relaxed);
    return ENOTSUP;
  }
  return set(&format::Control::cpu_hz, hz, true);
}

MPROF_EXPORT int mprof_library_cpu_stop() noexcept {
  return set(&format::Control::cpu_hz, 0, true);
}

// The same rule.
MPROF_EXPORT int mprof_library_trace_start() noexcept {
  if (!may_work()) return ENOSYS;
  uint32_t off = 0;
  if (!header->control.trace.compare_exchange_strong(off, 1)) return EBUSY;
  const int error = set(&format::Control::trace, 1, true);
  if (error == 0 && !says_who_drains()) launch_drain(dump_path(), "mprof_trace_start()");
  return error;
}

MPROF_EXPORT int mprof_library_trace_stop() noexcept {
  return set(&format::Control::trace, 0, true);
}

MPROF_EXPORT int mprof_library_snapshot(const char* name) noexcept {
  if (!may_work()) return ENOSYS;
  const ErrnoGuard keep_errno;
  const Guard guard(Guard::kOwnCalls);
  return write_snapshot(name);
}

}  // extern "C"
