// SPDX-License-Identifier: Apache-2.0
// Calls that any signal's handler ends with EINTR, even with SA_RESTART: sleeping, polling, waiting
// for signals and for System V's queues and semaphores. See waiting.h.
//
// A call that our signal cut short is made again, for what is left of its time. For the program it
// is as if nothing had been: a signal of its own that came at the same time ended the call. Where
// signals are unblocked for the time of the call alone, ours is not.
//
// Not seen: these calls by libc itself, and by syscall() and the like.
// Most are cancellation points: a thread that is cancelled in one has nothing to undo here.
// Threads: any. Signals: safe, as far as the call itself is. errno: as the real call leaves it.
#include <errno.h>
#include <signal.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <time.h>

#include <algorithm>

#include "preload/low.h"
#include "preload/real_locks.h"
#include "preload/signals.h"
#include "preload/waiting.h"

using namespace mprof::preload;  // the functions below are libc's names, outside any namespace
using mprof::format::WaitEnd;
using mprof::format::WaitKind;

namespace {

constexpr int64_t kSecondNs = 1000000000;

WaitEnd end_of_call(long result, bool was_interrupted) {
  if (was_interrupted || (result == -1 && errno == EAGAIN)) return WaitEnd::kGaveUp;
  return result >= 0 ? WaitEnd::kGotIt : WaitEnd::kAtOnce;
}

// `first()` is the call, `again(elapsed_ns)` the same for the rest of its time.
template <class First, class Again, class IsInterrupted>
[[gnu::always_inline]] inline auto parked_call(WaitKind kind, CallSite site, First&& first,
                                               Again&& again, IsInterrupted&& is_interrupted) {
  const ParkedCall parked = park_and_show(kind, site);
  auto result = first();
  while (is_interrupted(result) && was_cut(parked)) result = again(elapsed_ns(parked));
  unpark_and_hide(parked, end_of_call(result, is_interrupted(result)));
  return result;
}

bool is_eintr(long result) { return result == -1 && errno == EINTR; }

// A call whose time has no end, or is a moment.
template <class Call>
[[gnu::always_inline]] inline auto parked_call(WaitKind kind, CallSite site, Call&& call) {
  return parked_call(
      kind, site, call, [&](uint64_t) { return call(); }, is_eintr);
}

// The same for a time, nullptr for one without end: `call(time)`.
template <class Call>
[[gnu::always_inline]] inline auto parked_for(WaitKind kind, CallSite site, const timespec* time,
                                              Call&& call) {
  timespec left;
  const auto again = [&](uint64_t elapsed_ns) {
    if (time == nullptr) return call(time);
    const int64_t whole = time->tv_sec * kSecondNs + time->tv_nsec;
    const int64_t rest = std::max<int64_t>(whole - static_cast<int64_t>(elapsed_ns), 0);
    left = {rest / kSecondNs, rest % kSecondNs};
    return call(&left);
  };
  return parked_call(
      kind, site, [&] { return call(time); }, again, is_eintr);
}

// In milliseconds, negative for one without end.
template <class Call>
[[gnu::always_inline]] inline int parked_for_ms(CallSite site, int time_ms, Call&& call) {
  const auto again = [&](uint64_t elapsed_ns) {
    const auto elapsed_ms = static_cast<int64_t>(elapsed_ns / 1000000);
    return call(time_ms < 0 ? time_ms
                            : static_cast<int>(std::max<int64_t>(time_ms - elapsed_ms, 0)));
  };
  return parked_call(
      WaitKind::kPoll, site, [&] { return call(time_ms); }, again, is_eintr);
}

// The signals that are blocked during a call, and ours. The program has no handler for that one.
class Mask {
 public:
  explicit Mask(const sigset_t* programs) : mask_(programs) {
    const int ours = own_signal();
    if (programs == nullptr || ours == 0) return;
    with_ours_ = *programs;
    sigaddset(&with_ours_, ours);
    mask_ = &with_ours_;
  }
  Mask(const Mask&) = delete;
  Mask& operator=(const Mask&) = delete;
  [[nodiscard]] const sigset_t* get() const { return mask_; }

 private:
  const sigset_t* mask_;
  sigset_t with_ours_;
};

// The kernel says what is left, if it is asked.
template <class Call, class IsInterrupted>
[[gnu::always_inline]] inline int parked_sleep(CallSite site, const timespec* time, timespec* left,
                                               Call&& call, IsInterrupted&& is_interrupted) {
  timespec rest;
  timespec* const out = left != nullptr ? left : &rest;
  timespec again_for;
  return parked_call(
      WaitKind::kSleep, site, [&] { return call(time, out); },
      [&](uint64_t) {
        again_for = *out;
        return call(&again_for, out);
      },
      is_interrupted);
}

// A thread that blocks every signal and waits for all of them would be given ours: it waits on.
// nullptr as `time`: without end.
[[gnu::always_inline]] inline int wait_for_signal(CallSite site, const sigset_t* set,
                                                  siginfo_t* info, const timespec* time) {
  siginfo_t own;
  siginfo_t* const out = info != nullptr ? info : &own;
  return parked_for(WaitKind::kSignal, site, time, [=](const timespec* left) {
    int number;
    do {
      number = real_locks.sigtimedwait(set, out, left);
    } while (number > 0 && is_own_signal(*out));
    return number;
  });
}

}  // namespace

extern "C" {

MPROF_EXPORT int poll(pollfd* fds, nfds_t count, int time_ms) {
  return parked_for_ms(MPROF_CALL_SITE(), time_ms,
                       [=](int ms) { return real_locks.poll(fds, count, ms); });
}

// What a fortified program calls.
MPROF_EXPORT int __poll_chk(pollfd* fds, nfds_t count, int time_ms, size_t bytes) {
  return parked_for_ms(MPROF_CALL_SITE(), time_ms,
                       [=](int ms) { return real_locks.__poll_chk(fds, count, ms, bytes); });
}

MPROF_EXPORT int ppoll(pollfd* fds, nfds_t count, const timespec* time, const sigset_t* mask) {
  const Mask blocked(mask);
  return parked_for(WaitKind::kPoll, MPROF_CALL_SITE(), time, [&](const timespec* left) {
    return real_locks.ppoll(fds, count, left, blocked.get());
  });
}

MPROF_EXPORT int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* time, const sigset_t* mask,
                             size_t bytes) {
  const Mask blocked(mask);
  return parked_for(WaitKind::kPoll, MPROF_CALL_SITE(), time, [&](const timespec* left) {
    return real_locks.__ppoll_chk(fds, count, left, blocked.get(), bytes);
  });
}

// Linux leaves in `time` what is left of it. After EINTR the sets are as they were.
MPROF_EXPORT int select(int count, fd_set* read, fd_set* write, fd_set* except, timeval* time) {
  return parked_call(WaitKind::kPoll, MPROF_CALL_SITE(),
                     [=] { return real_locks.select(count, read, write, except, time); });
}

MPROF_EXPORT int pselect(int count, fd_set* read, fd_set* write, fd_set* except,
                         const timespec* time, const sigset_t* mask) {
  const Mask blocked(mask);
  return parked_for(WaitKind::kPoll, MPROF_CALL_SITE(), time, [&](const timespec* left) {
    return real_locks.pselect(count, read, write, except, left, blocked.get());
  });
}

MPROF_EXPORT int epoll_wait(int fd, epoll_event* events, int count, int time_ms) {
  return parked_for_ms(MPROF_CALL_SITE(), time_ms,
                       [=](int ms) { return real_locks.epoll_wait(fd, events, count, ms); });
}

MPROF_EXPORT int epoll_pwait(int fd, epoll_event* events, int count, int time_ms,
                             const sigset_t* mask) {
  const Mask blocked(mask);
  return parked_for_ms(MPROF_CALL_SITE(), time_ms, [&](int ms) {
    return real_locks.epoll_pwait(fd, events, count, ms, blocked.get());
  });
}

MPROF_EXPORT int epoll_pwait2(int fd, epoll_event* events, int count, const timespec* time,
                              const sigset_t* mask) {
  const Mask blocked(mask);
  return parked_for(WaitKind::kPoll, MPROF_CALL_SITE(), time, [&](const timespec* left) {
    return real_locks.epoll_pwait2(fd, events, count, left, blocked.get());
  });
}

MPROF_EXPORT int nanosleep(const timespec* time, timespec* left) {
  return parked_sleep(MPROF_CALL_SITE(), time, left, real_locks.nanosleep, is_eintr);
}

MPROF_EXPORT int clock_nanosleep(clockid_t clock, int flags, const timespec* time, timespec* left) {
  const auto call = [=](const timespec* for_time, timespec* rest) {
    return real_locks.clock_nanosleep(clock, flags, for_time, rest);
  };
  const auto is_interrupted = [](int error) { return error == EINTR; };
  if ((flags & TIMER_ABSTIME) == 0)
    return parked_sleep(MPROF_CALL_SITE(), time, left, call, is_interrupted);
  const auto until = [&] { return call(time, left); };
  return parked_call(
      WaitKind::kSleep, MPROF_CALL_SITE(), until, [&](uint64_t) { return until(); },
      is_interrupted);
}

MPROF_EXPORT int usleep(useconds_t microseconds) {
  const timespec time{static_cast<time_t>(microseconds / 1000000),
                      static_cast<long>(microseconds % 1000000) * 1000};
  return parked_sleep(MPROF_CALL_SITE(), &time, nullptr, real_locks.nanosleep, is_eintr);
}

// Whole seconds that are left, as libc counts them.
MPROF_EXPORT unsigned sleep(unsigned seconds) {
  const timespec time{static_cast<time_t>(seconds), 0};
  timespec left{};
  const int result = parked_sleep(MPROF_CALL_SITE(), &time, &left, real_locks.nanosleep, is_eintr);
  return result == 0 ? 0 : static_cast<unsigned>(left.tv_sec);
}

MPROF_EXPORT int thrd_sleep(const timespec* time, timespec* left) {
  return parked_sleep(MPROF_CALL_SITE(), time, left, real_locks.thrd_sleep,
                      [](int result) { return result == -1; });
}

MPROF_EXPORT int pause() {
  return parked_call(WaitKind::kSignal, MPROF_CALL_SITE(), real_locks.pause);
}

MPROF_EXPORT int sigsuspend(const sigset_t* mask) {
  const Mask blocked(mask);
  return parked_call(WaitKind::kSignal, MPROF_CALL_SITE(),
                     [&] { return real_locks.sigsuspend(blocked.get()); });
}

// libc's own goes on after EINTR by itself.
MPROF_EXPORT int sigwait(const sigset_t* set, int* number) {
  int result;
  do {
    result = wait_for_signal(MPROF_CALL_SITE(), set, nullptr, nullptr);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return errno;
  *number = result;
  return 0;
}

MPROF_EXPORT int sigwaitinfo(const sigset_t* set, siginfo_t* info) {
  return wait_for_signal(MPROF_CALL_SITE(), set, info, nullptr);
}

MPROF_EXPORT int sigtimedwait(const sigset_t* set, siginfo_t* info, const timespec* time) {
  return wait_for_signal(MPROF_CALL_SITE(), set, info, time);
}

MPROF_EXPORT ssize_t msgrcv(int queue, void* message, size_t bytes, long type, int flags) {
  return parked_call(WaitKind::kPoll, MPROF_CALL_SITE(),
                     [=] { return real_locks.msgrcv(queue, message, bytes, type, flags); });
}

MPROF_EXPORT int msgsnd(int queue, const void* message, size_t bytes, int flags) {
  return parked_call(WaitKind::kPoll, MPROF_CALL_SITE(),
                     [=] { return real_locks.msgsnd(queue, message, bytes, flags); });
}

MPROF_EXPORT int semop(int set, sembuf* operations, size_t count) noexcept {
  return parked_call(WaitKind::kSemaphore, MPROF_CALL_SITE(),
                     [=] { return real_locks.semop(set, operations, count); });
}

MPROF_EXPORT int semtimedop(int set, sembuf* operations, size_t count,
                            const timespec* time) noexcept {
  return parked_for(WaitKind::kSemaphore, MPROF_CALL_SITE(), time, [=](const timespec* left) {
    return real_locks.semtimedop(set, operations, count, left);
  });
}

}  // extern "C"
