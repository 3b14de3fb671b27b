// SPDX-License-Identifier: Apache-2.0
#include "preload/control.h"

#include "format/config.h"
#include "preload/contention.h"
#include "preload/cpu_sampler.h"
#include "preload/low.h"
#include "preload/sampler.h"
#include "preload/sys.h"
#include "preload/trace.h"

namespace mprof::preload {
namespace {

std::atomic<bool> applying;

// Shows readers a setting that is in force from now on. True if it is another one.
template <class Number>
bool show(Number& setting, Number value, format::ChangedSetting which) {
  std::atomic_ref shown(setting);
  if (shown.load(std::memory_order_relaxed) == value) return false;
  header->changed_settings.fetch_or(which, std::memory_order_relaxed);
  shown.store(value, std::memory_order_relaxed);
  return true;
}

// Threads that allocate little would not look for long.
void apply_heap_rate(uint64_t rate) {
  if (!format::is_changed_heap_rate(rate) ||
      !show(header->heap_rate_bytes, rate, format::kHeapRateChanged))
    return;
  heap_rate.store(rate, std::memory_order_relaxed);
  cpu_nudge_all_threads();
}

void apply_contention(uint64_t rate_ns, uint32_t fraction) {
  if (rate_ns > format::kMaxBlockRateNs) rate_ns = header->block_rate_ns;
  if (fraction > format::kMaxMutexFraction) fraction = header->mutex_fraction;
  const bool other_rate = show(header->block_rate_ns, rate_ns, format::kBlockRateChanged);
  if (show(header->mutex_fraction, fraction, format::kMutexFractionChanged) || other_rate)
    contention_set(rate_ns, fraction);
}

void apply_cpu_hz(uint32_t hz) {
  if (hz > format::kMaxCpuHz || !show(header->cpu_hz, hz, format::kCpuHzChanged)) return;
  note_thread();
  cpu_set_rate(hz);
}

void apply_trace(uint32_t wanted) {
  if (wanted <= 1) trace_set(wanted == 1);
}

bool is_behind() {
  const format::Control& control = header->control;
  return control.epoch.load(std::memory_order_acquire) !=  // (E)
         control.applied_epoch.load(std::memory_order_relaxed);
}

void apply_once() {
  format::Control& control = header->control;
  const uint32_t epoch = control.epoch.load(std::memory_order_acquire);  // (E)
  apply_heap_rate(control.heap_rate_bytes.load(std::memory_order_relaxed));
  apply_contention(control.block_rate_ns.load(std::memory_order_relaxed),
                   control.mutex_fraction.load(std::memory_order_relaxed));
  apply_cpu_hz(control.cpu_hz.load(std::memory_order_relaxed));
  apply_trace(control.trace.load(std::memory_order_relaxed));
  control.applied_epoch.store(epoch, std::memory_order_release);  // (E)
}

// Timers made in a vfork child, which shares this memory, would be the child's.
bool is_dumps_process() { return static_cast<uint32_t>(sys::getpid()) == header->pid; }

}  // namespace

void apply_control() {
  const ErrnoGuard keep_errno;
  const Guard guard(Guard::kAtWork);
  if (!is_dumps_process()) return;
  // Looked at again afterwards: who found it taken has left.
  while (is_behind() && !applying.exchange(true, std::memory_order_acquire)) {
    while (is_behind()) apply_once();
    applying.store(false, std::memory_order_release);
  }
}

void forget_control() { applying.store(false, std::memory_order_relaxed); }

}  // namespace mprof::preload
