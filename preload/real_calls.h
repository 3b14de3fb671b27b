// SPDX-License-Identifier: Apache-2.0
// libc's functions that may block in the kernel: what the hooks of these forward to.
//
// Every pointer is valid from the first instruction on; see look_up.h. Each of these functions has
// one version. Where libc declares a last argument as "...", it is one word here: it arrives in the
// same register, or that register holds anything and nobody reads it.
//
// Threads: any. Signals: safe once looked up. Allocates: no.
#pragma once

#include <fcntl.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>

namespace mprof::preload {

// X(result, name, parameters...); names that begin with "__" are what a fortified program calls.
#define MPROF_CALL_FUNCTIONS(X)                                                      \
  X(ssize_t, read, int, void*, size_t)                                               \
  X(ssize_t, __read_chk, int, void*, size_t, size_t)                                 \
  X(ssize_t, write, int, const void*, size_t)                                        \
  X(ssize_t, pread, int, void*, size_t, off_t)                                       \
  X(ssize_t, pread64, int, void*, size_t, off64_t)                                   \
  X(ssize_t, __pread_chk, int, void*, size_t, off_t, size_t)                         \
  X(ssize_t, __pread64_chk, int, void*, size_t, off64_t, size_t)                     \
  X(ssize_t, pwrite, int, const void*, size_t, off_t)                                \
  X(ssize_t, pwrite64, int, const void*, size_t, off64_t)                            \
  X(ssize_t, readv, int, const iovec*, int)                                          \
  X(ssize_t, writev, int, const iovec*, int)                                         \
  X(ssize_t, preadv, int, const iovec*, int, off_t)                                  \
  X(ssize_t, preadv64, int, const iovec*, int, off64_t)                              \
  X(ssize_t, preadv2, int, const iovec*, int, off_t, int)                            \
  X(ssize_t, preadv64v2, int, const iovec*, int, off64_t, int)                       \
  X(ssize_t, pwritev, int, const iovec*, int, off_t)                                 \
  X(ssize_t, pwritev64, int, const iovec*, int, off64_t)                             \
  X(ssize_t, pwritev2, int, const iovec*, int, off_t, int)                           \
  X(ssize_t, pwritev64v2, int, const iovec*, int, off64_t, int)                      \
  X(int, open, const char*, int, mode_t)                                             \
  X(int, open64, const char*, int, mode_t)                                           \
  X(int, __open_2, const char*, int)                                                 \
  X(int, __open64_2, const char*, int)                                               \
  X(int, openat, int, const char*, int, mode_t)                                      \
  X(int, openat64, int, const char*, int, mode_t)                                    \
  X(int, __openat_2, int, const char*, int)                                          \
  X(int, __openat64_2, int, const char*, int)                                        \
  X(int, creat, const char*, mode_t)                                                 \
  X(int, creat64, const char*, mode_t)                                               \
  X(int, close, int)                                                                 \
  X(int, fsync, int)                                                                 \
  X(int, fdatasync, int)                                                             \
  X(int, msync, void*, size_t, int)                                                  \
  X(int, ftruncate, int, off_t)                                                      \
  X(int, ftruncate64, int, off64_t)                                                  \
  X(int, fallocate, int, int, off_t, off_t)                                          \
  X(int, fallocate64, int, int, off64_t, off64_t)                                    \
  X(int, posix_fallocate, int, off_t, off_t)                                         \
  X(int, posix_fallocate64, int, off64_t, off64_t)                                   \
  X(ssize_t, sendfile, int, int, off_t*, size_t)                                     \
  X(ssize_t, sendfile64, int, int, off64_t*, size_t)                                 \
  X(ssize_t, splice, int, off64_t*, int, off64_t*, size_t, unsigned)                 \
  X(ssize_t, copy_file_range, int, off64_t*, int, off64_t*, size_t, unsigned)        \
  X(int, flock, int, int)                                                            \
  X(int, lockf, int, int, off_t)                                                     \
  X(int, lockf64, int, int, off64_t)                                                 \
  X(int, fcntl, int, int, long)                                                      \
  X(int, fcntl64, int, int, long)                                                    \
  X(int, ioctl, int, unsigned long, long)                                            \
  X(int, unlink, const char*)                                                        \
  X(int, unlinkat, int, const char*, int)                                            \
  X(int, rename, const char*, const char*)                                           \
  X(int, renameat, int, const char*, int, const char*)                               \
  X(int, renameat2, int, const char*, int, const char*, unsigned)                    \
  X(int, stat, const char*, struct stat*)                                            \
  X(int, stat64, const char*, struct stat64*)                                        \
  X(int, lstat, const char*, struct stat*)                                           \
  X(int, lstat64, const char*, struct stat64*)                                       \
  X(int, fstatat, int, const char*, struct stat*, int)                               \
  X(int, fstatat64, int, const char*, struct stat64*, int)                           \
  X(int, statx, int, const char*, int, unsigned, struct statx*)                      \
  X(pid_t, wait, int*)                                                               \
  X(pid_t, waitpid, pid_t, int*, int)                                                \
  X(pid_t, wait3, int*, int, rusage*)                                                \
  X(pid_t, wait4, pid_t, int*, int, rusage*)                                         \
  X(int, waitid, idtype_t, id_t, siginfo_t*, int)                                    \
  X(int, accept, int, sockaddr*, socklen_t*)                                         \
  X(int, accept4, int, sockaddr*, socklen_t*, int)                                   \
  X(int, connect, int, const sockaddr*, socklen_t)                                   \
  X(ssize_t, recv, int, void*, size_t, int)                                          \
  X(ssize_t, __recv_chk, int, void*, size_t, size_t, int)                            \
  X(ssize_t, recvfrom, int, void*, size_t, int, sockaddr*, socklen_t*)               \
  X(ssize_t, __recvfrom_chk, int, void*, size_t, size_t, int, sockaddr*, socklen_t*) \
  X(ssize_t, recvmsg, int, msghdr*, int)                                             \
  X(int, recvmmsg, int, mmsghdr*, unsigned, int, timespec*)                          \
  X(ssize_t, send, int, const void*, size_t, int)                                    \
  X(ssize_t, sendto, int, const void*, size_t, int, const sockaddr*, socklen_t)      \
  X(ssize_t, sendmsg, int, const msghdr*, int)                                       \
  X(int, sendmmsg, int, mmsghdr*, unsigned, int)                                     \
  X(int, getaddrinfo, const char*, const char*, const addrinfo*, addrinfo**)         \
  X(int, malloc_trim, size_t)

struct RealCalls {
#define MPROF_POINTER(result, name, ...) result (*name)(__VA_ARGS__);
  MPROF_CALL_FUNCTIONS(MPROF_POINTER)
#undef MPROF_POINTER
};
// A C name: read by the assembly of the stand-ins. Hidden: read past the offset table.
extern "C" [[gnu::visibility("hidden")]] RealCalls mprof_real_calls;
inline constexpr RealCalls& real_calls = mprof_real_calls;

// Looks everything up; libc has all of it, so that nothing is allocated.
extern "C" void mprof_fill_calls();

}  // namespace mprof::preload
