// SPDX-License-Identifier: Apache-2.0
#include "preload/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>

#include "preload/clock.h"
#include "preload/spin.h"
#include "preload/sys.h"
#include "preload/thread_state.h"

namespace mprof::preload {
namespace {

struct Filter {
  sock_filter* code;
  uint32_t length;
};
constexpr uint32_t kMaxFilters = 32;
Filter filters[kMaxFilters];
std::atomic<uint32_t> filter_count;
std::atomic<uint32_t> unknown_filters;  // that could not be copied: then no call is made
std::atomic<bool> filters_locked;

// One filter's verdict, as the kernel's: classic BPF of the kinds that seccomp takes. What is not
// known here kills.
class Machine {
 public:
  explicit Machine(const seccomp_data& data) : data_(data) {}
  uint32_t run(const Filter& filter) {
    uint32_t at = 0;
    for (uint32_t steps = 0; steps < filter.length && at < filter.length; ++steps, ++at) {
      const sock_filter& step = filter.code[at];
      if (BPF_CLASS(step.code) == BPF_RET) return BPF_RVAL(step.code) == BPF_A ? a_ : step.k;
      at += execute(step);
    }
    return SECCOMP_RET_KILL_PROCESS;
  }

 private:
  // So many steps are left out next.
  [[gnu::noinline]] uint32_t execute(const sock_filter& step) {
    switch (BPF_CLASS(step.code)) {
      case BPF_LD: load(step, a_); break;
      case BPF_LDX: load(step, x_); break;
      case BPF_ST: memory_[step.k % BPF_MEMWORDS] = a_; break;
      case BPF_STX: memory_[step.k % BPF_MEMWORDS] = x_; break;
      case BPF_ALU:
        if (BPF_OP(step.code) == BPF_DIV && operand(step) == 0) return BPF_MAXINSNS;  // kills
        compute(step);
        break;
      case BPF_JMP: return distance(step);
      case BPF_MISC: (BPF_MISCOP(step.code) == BPF_TAX ? x_ : a_) = other(step); break;
    }
    return 0;
  }
  [[nodiscard]] uint32_t other(const sock_filter& step) const {
    return BPF_MISCOP(step.code) == BPF_TAX ? a_ : x_;
  }
  void load(const sock_filter& step, uint32_t& into) const {
    switch (BPF_MODE(step.code)) {
      case BPF_ABS:
        if (step.k <= sizeof data_ - 4)
          memcpy(&into, reinterpret_cast<const char*>(&data_) + step.k, 4);
        break;
      case BPF_IMM: into = step.k; break;
      case BPF_MEM: into = memory_[step.k % BPF_MEMWORDS]; break;
      case BPF_LEN: into = sizeof data_; break;
      default: break;
    }
  }
  [[nodiscard]] uint32_t operand(const sock_filter& step) const {
    return BPF_SRC(step.code) == BPF_X ? x_ : step.k;
  }
  void compute(const sock_filter& step) {
    const uint32_t by = operand(step);
    switch (BPF_OP(step.code)) {
      case BPF_ADD: a_ += by; break;
      case BPF_SUB: a_ -= by; break;
      case BPF_MUL: a_ *= by; break;
      case BPF_DIV: a_ /= by; break;
      case BPF_AND: a_ &= by; break;
      case BPF_OR: a_ |= by; break;
      case BPF_XOR: a_ ^= by; break;
      case BPF_LSH: a_ <<= by & 31; break;
      case BPF_RSH: a_ >>= by & 31; break;
      case BPF_NEG: a_ = -a_; break;
      default: break;
    }
  }
  [[nodiscard]] uint32_t distance(const sock_filter& step) const {
    const uint32_t with = operand(step);
    bool is_so = false;
    switch (BPF_OP(step.code)) {
      case BPF_JA: return step.k;
      case BPF_JEQ: is_so = a_ == with; break;
      case BPF_JGT: is_so = a_ > with; break;
      case BPF_JGE: is_so = a_ >= with; break;
      case BPF_JSET: is_so = (a_ & with) != 0; break;
      default: break;
    }
    return is_so ? step.jt : step.jf;
  }

  const seccomp_data& data_;
  uint32_t a_ = 0;
  uint32_t x_ = 0;
  uint32_t memory_[BPF_MEMWORDS] = {};
};

bool copy_from(void* into, const void* from, size_t bytes) {
  const iovec to = {into, bytes};
  const iovec place = {const_cast<void*>(from), bytes};
  return sys::process_vm_readv(sys::getpid(), &to, &place) == static_cast<long>(bytes);
}

// Through the kernel: the address may be wrong. {nullptr, 0} if it cannot be had.
Filter copy_of(const void* from) {
  sock_fprog program;
  if (!copy_from(&program, from, sizeof program)) return {};
  if (program.len == 0 || program.len > BPF_MAXINSNS) return {};
  const size_t bytes = program.len * sizeof(sock_filter);
  void* code = map_anonymous(bytes);
  if (code == nullptr) return {};
  if (copy_from(code, program.filter, bytes)) return {static_cast<sock_filter*>(code), program.len};
  sys::munmap(code, bytes);
  return {};
}

bool lock_filters() {
  return spin_until([] { return !filters_locked.exchange(true, std::memory_order_acquire); });
}
void unlock_filters() { filters_locked.store(false, std::memory_order_release); }

bool add(const Filter& filter) {
  if (filter.code == nullptr || !lock_filters()) return false;
  const uint32_t count = filter_count.load(std::memory_order_relaxed);
  if (count < kMaxFilters) {
    filters[count] = filter;
    filter_count.store(count + 1, std::memory_order_release);
  }
  unlock_filters();
  return count < kMaxFilters;
}

// Its memory stays: another thread may be asking it. Only the last one can go.
void withdraw(const void* code) {
  if (!lock_filters()) return;
  const uint32_t count = filter_count.load(std::memory_order_relaxed);
  if (count != 0 && filters[count - 1].code == code)
    filter_count.store(count - 1, std::memory_order_release);
  unlock_filters();
}

}  // namespace

namespace sys {
namespace {

std::atomic<bool> is_filtered;

[[gnu::cold, gnu::noinline]] bool lets_through(long number, long a, long b, long c, long d, long e,
                                               long f) {
  if (self.is_strict != 0 || unknown_filters.load(std::memory_order_relaxed) != 0) return false;
  const auto word = [](long argument) { return static_cast<uint64_t>(argument); };
  const seccomp_data data = {static_cast<int>(number),
                             AUDIT_ARCH_X86_64,
                             0,
                             {word(a), word(b), word(c), word(d), word(e), word(f)}};
  for (uint32_t i = filter_count.load(std::memory_order_acquire); i-- > 0;) {
    const uint32_t action = Machine(data).run(filters[i]) & SECCOMP_RET_ACTION_FULL;
    if (action != SECCOMP_RET_ALLOW && action != SECCOMP_RET_LOG) return false;
  }
  return true;
}

}  // namespace

long numbered(long number, long a, long b, long c, long d, long e, long f) {
  if (is_filtered.load(std::memory_order_acquire) && !lets_through(number, a, b, c, d, e, f))
      [[unlikely]]
    return -EPERM;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

}  // namespace sys

SeccompRequest::SeccompRequest(Mode mode, const void* filter) : mode_(mode) {
  if (mode == kNone) return;
  const ErrnoGuard keep_errno;
  watch_clocks();
  if (mode == kStrict) {
    self.is_strict = 1;
  } else if (const Filter copy = copy_of(filter); add(copy)) {
    code_ = copy.code;
  } else {
    unknown_filters.fetch_add(1, std::memory_order_relaxed);
  }
  sys::is_filtered.store(true, std::memory_order_release);
}

void SeccompRequest::refused() const {
  if (mode_ == kStrict)
    self.is_strict = 0;
  else if (mode_ == kFilter && code_ == nullptr)
    unknown_filters.fetch_sub(1, std::memory_order_relaxed);
  else if (mode_ == kFilter)
    withdraw(code_);
}

}  // namespace mprof::preload
