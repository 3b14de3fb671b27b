// SPDX-License-Identifier: Apache-2.0
// System calls as such, past libc's wrappers.
//
// libc's open, read, write, close, nanosleep and others are cancellation points: a thread that is
// to be cancelled would be unwound in the middle of malloc. Programs and other preloads replace
// them; and they set errno. These do none of that.
//
// Threads: any. Signals: safe. Fails: the negative error number, as the kernel gives it.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include <cstddef>
#include <cstdint>

namespace mprof::preload::sys {

// -EPERM where the program's seccomp filters would not let the call through; see seccomp.h.
long numbered(long number, long a, long b, long c, long d, long e, long f);

// The number is a constant at each place: scripts/check_calls.py reads it there.
template <long kNumber>
[[gnu::always_inline]] inline long call(long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                                        long f = 0) {
  return numbered(kNumber, a, b, c, d, e, f);
}

inline long address(const void* p) { return reinterpret_cast<long>(p); }
inline bool is_error(long result) { return result < 0 && result >= -4095; }

inline int open(const char* path, int flags, int mode = 0) {
  return static_cast<int>(call<SYS_openat>(AT_FDCWD, address(path), flags, mode));
}
inline void close(int fd) { call<SYS_close>(fd); }
inline long read(int fd, void* out, size_t size) {
  return call<SYS_read>(fd, address(out), static_cast<long>(size));
}
inline long write(int fd, const void* data, size_t size) {
  return call<SYS_write>(fd, address(data), static_cast<long>(size));
}
inline long pwrite(int fd, const void* data, size_t size, size_t offset) {
  return call<SYS_pwrite64>(fd, address(data), static_cast<long>(size), static_cast<long>(offset));
}
// nullptr on failure.
inline void* mmap(size_t bytes, int flags, int fd, size_t offset) {
  const long result = call<SYS_mmap>(0, static_cast<long>(bytes), PROT_READ | PROT_WRITE, flags, fd,
                                     static_cast<long>(offset));
  return is_error(result) ? nullptr : reinterpret_cast<void*>(result);
}
inline void munmap(void* memory, size_t bytes) {
  call<SYS_munmap>(address(memory), static_cast<long>(bytes));
}
inline int madvise(void* memory, size_t bytes, int advice) {
  return static_cast<int>(call<SYS_madvise>(address(memory), static_cast<long>(bytes), advice));
}
inline int fallocate(int fd, int mode, size_t offset, size_t bytes) {
  return static_cast<int>(
      call<SYS_fallocate>(fd, mode, static_cast<long>(offset), static_cast<long>(bytes)));
}
inline int ftruncate(int fd, size_t bytes) {
  return static_cast<int>(call<SYS_ftruncate>(fd, static_cast<long>(bytes)));
}
inline int fstat(int fd, struct stat* out) {
  return static_cast<int>(call<SYS_fstat>(fd, address(out)));
}
inline int link(const char* path, const char* other) {
  return static_cast<int>(call<SYS_linkat>(AT_FDCWD, address(path), AT_FDCWD, address(other), 0));
}
inline void unlink(const char* path) { call<SYS_unlink>(address(path)); }
// The text of a link, terminated and cut to size; "" on failure.
inline const char* readlink(const char* path, char* out, size_t size) {
  const long got = call<SYS_readlink>(address(path), address(out), static_cast<long>(size - 1));
  out[got < 0 ? 0 : got] = '\0';
  return out;
}
inline bool getcwd(char* out, size_t size) {
  return call<SYS_getcwd>(address(out), static_cast<long>(size)) > 0;
}
// For the end of a child, whether or not it sends a signal.
inline void wait_for(int child) { call<SYS_wait4>(child, 0, __WALL); }
inline int getpid() { return static_cast<int>(call<SYS_getpid>()); }
inline int getppid() { return static_cast<int>(call<SYS_getppid>()); }
inline int gettid() { return static_cast<int>(call<SYS_gettid>()); }
inline int clock_gettime(clockid_t clock, timespec* out) {
  return static_cast<int>(call<SYS_clock_gettime>(clock, address(out)));
}
inline void prctl(int option, void* argument) { call<SYS_prctl>(option, address(argument)); }
inline bool getrlimit(int resource, rlimit* out) {
  return call<SYS_prlimit64>(0, resource, 0, address(out)) == 0;
}
inline void sched_yield() { call<SYS_sched_yield>(); }
inline void sleep_ns(long ns) {
  const timespec pause{0, ns};
  call<SYS_nanosleep>(address(&pause));
}
inline void tgkill(int pid, int tid, int number) { call<SYS_tgkill>(pid, tid, number); }
inline void sigprocmask(int how, const sigset_t* set, sigset_t* before) {
  constexpr long kKernelSetBytes = 8;
  call<SYS_rt_sigprocmask>(how, address(set), address(before), kKernelSetBytes);
}
inline void sigaltstack(const stack_t* stack, stack_t* before) {
  call<SYS_sigaltstack>(address(stack), address(before));
}
inline int timer_create(clockid_t clock, const sigevent* event, int* timer) {
  return static_cast<int>(call<SYS_timer_create>(clock, address(event), address(timer)));
}
inline void timer_settime(int timer, int flags, const itimerspec* times) {
  call<SYS_timer_settime>(timer, flags, address(times));
}
inline void timer_delete(int timer) { call<SYS_timer_delete>(timer); }
inline long process_vm_readv(int pid, const iovec* local, const iovec* remote) {
  return call<SYS_process_vm_readv>(pid, address(local), 1, address(remote), 1, 0);
}

}  // namespace mprof::preload::sys
