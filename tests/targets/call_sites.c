// SPDX-License-Identifier: Apache-2.0
// Makes every call that the trace records, each in a function of its own, in this order, while a
// trace is on. Prints where these functions begin.
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/mprof.h"

// What a fortified program calls.
ssize_t __read_chk(int fd, void* out, size_t bytes, size_t room);
ssize_t __pread_chk(int fd, void* out, size_t bytes, off_t at, size_t room);
ssize_t __pread64_chk(int fd, void* out, size_t bytes, off64_t at, size_t room);
ssize_t __recv_chk(int fd, void* out, size_t bytes, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void* out, size_t bytes, size_t room, int flags,
                       struct sockaddr* from, socklen_t* from_bytes);
int __open_2(const char* path, int flags);
int __open64_2(const char* path, int flags);
int __openat_2(int folder, const char* path, int flags);
int __openat64_2(int folder, const char* path, int flags);

static char in[4];
static struct iovec part = {in, sizeof in};
static struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
static struct mmsghdr messages;
static struct stat status;
static struct stat64 status64;
static struct statx statusx;
static struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
static const struct addrinfo wrong = {.ai_flags = 1 << 30};
static struct addrinfo* found;
static int ended_with;

#define SITES(X)                                                 \
  X(read, read(-1, in, 4))                                       \
  X(__read_chk, __read_chk(-1, in, 4, 4))                        \
  X(write, write(-1, in, 4))                                     \
  X(pread, pread(-1, in, 4, 0))                                  \
  X(pread64, pread64(-1, in, 4, 0))                              \
  X(__pread_chk, __pread_chk(-1, in, 4, 0, 4))                   \
  X(__pread64_chk, __pread64_chk(-1, in, 4, 0, 4))               \
  X(pwrite, pwrite(-1, in, 4, 0))                                \
  X(pwrite64, pwrite64(-1, in, 4, 0))                            \
  X(readv, readv(-1, &part, 1))                                  \
  X(writev, writev(-1, &part, 1))                                \
  X(preadv, preadv(-1, &part, 1, 0))                             \
  X(preadv64, preadv64(-1, &part, 1, 0))                         \
  X(preadv2, preadv2(-1, &part, 1, 0, 0))                        \
  X(preadv64v2, preadv64v2(-1, &part, 1, 0, 0))                  \
  X(pwritev, pwritev(-1, &part, 1, 0))                           \
  X(pwritev64, pwritev64(-1, &part, 1, 0))                       \
  X(pwritev2, pwritev2(-1, &part, 1, 0, 0))                      \
  X(pwritev64v2, pwritev64v2(-1, &part, 1, 0, 0))                \
  X(open, open("none", O_RDONLY))                                \
  X(open64, open64("none", O_RDONLY))                            \
  X(openat, openat(-1, "none", O_RDONLY))                        \
  X(openat64, openat64(-1, "none", O_RDONLY))                    \
  X(__open_2, __open_2("none", O_RDONLY))                        \
  X(__open64_2, __open64_2("none", O_RDONLY))                    \
  X(__openat_2, __openat_2(-1, "none", O_RDONLY))                \
  X(__openat64_2, __openat64_2(-1, "none", O_RDONLY))            \
  X(creat, creat("none/x", 0600))                                \
  X(creat64, creat64("none/x", 0600))                            \
  X(close, close(-1))                                            \
  X(fsync, fsync(-1))                                            \
  X(fdatasync, fdatasync(-1))                                    \
  X(msync, msync(in, 1, -1))                                     \
  X(ftruncate, ftruncate(-1, 0))                                 \
  X(ftruncate64, ftruncate64(-1, 0))                             \
  X(fallocate, fallocate(-1, 0, 0, 1))                           \
  X(fallocate64, fallocate64(-1, 0, 0, 1))                       \
  X(posix_fallocate, posix_fallocate(-1, 0, 1))                  \
  X(posix_fallocate64, posix_fallocate64(-1, 0, 1))              \
  X(sendfile, sendfile(-1, -1, NULL, 1))                         \
  X(sendfile64, sendfile64(-1, -1, NULL, 1))                     \
  X(splice, splice(-1, NULL, -1, NULL, 1, 0))                    \
  X(copy_file_range, copy_file_range(-1, NULL, -1, NULL, 1, 0))  \
  X(flock, flock(-1, LOCK_EX))                                   \
  X(lockf, lockf(-1, F_LOCK, 1))                                 \
  X(lockf64, lockf64(-1, F_LOCK, 1))                             \
  X(fcntl, fcntl(-1, F_SETLKW, &lock))                           \
  X(fcntl64, fcntl64(-1, F_OFD_SETLKW, &lock))                   \
  X(ioctl, ioctl(-1, FIONREAD, &ended_with))                     \
  X(unlink, unlink("none"))                                      \
  X(unlinkat, unlinkat(-1, "none", 0))                           \
  X(rename, rename("none", "none"))                              \
  X(renameat, renameat(-1, "none", -1, "none"))                  \
  X(renameat2, renameat2(-1, "none", -1, "none", 0))             \
  X(stat, stat("none", &status))                                 \
  X(stat64, stat64("none", &status64))                           \
  X(lstat, lstat("none", &status))                               \
  X(lstat64, lstat64("none", &status64))                         \
  X(fstatat, fstatat(-1, "none", &status, 0))                    \
  X(fstatat64, fstatat64(-1, "none", &status64, 0))              \
  X(statx, statx(-1, "none", 0, STATX_SIZE, &statusx))           \
  X(wait, wait(&ended_with))                                     \
  X(waitpid, waitpid(-1, &ended_with, 0))                        \
  X(wait3, wait3(&ended_with, 0, NULL))                          \
  X(wait4, wait4(-1, &ended_with, 0, NULL))                      \
  X(waitid, waitid(P_ALL, 0, NULL, WEXITED))                     \
  X(accept, accept(-1, NULL, NULL))                              \
  X(accept4, accept4(-1, NULL, NULL, 0))                         \
  X(connect, connect(-1, NULL, 0))                               \
  X(recv, recv(-1, in, 4, 0))                                    \
  X(__recv_chk, __recv_chk(-1, in, 4, 4, 0))                     \
  X(recvfrom, recvfrom(-1, in, 4, 0, NULL, NULL))                \
  X(__recvfrom_chk, __recvfrom_chk(-1, in, 4, 4, 0, NULL, NULL)) \
  X(recvmsg, recvmsg(-1, &message, 0))                           \
  X(recvmmsg, recvmmsg(-1, &messages, 1, 0, NULL))               \
  X(send, send(-1, in, 4, 0))                                    \
  X(sendto, sendto(-1, in, 4, 0, NULL, 0))                       \
  X(sendmsg, sendmsg(-1, &message, 0))                           \
  X(sendmmsg, sendmmsg(-1, &messages, 1, 0))                     \
  X(getaddrinfo, getaddrinfo("127.0.0.1", NULL, &wrong, &found))

static volatile long result;

#define SITE(name, call) \
  __attribute__((noinline)) static void site_##name(void) { result = (long)(call); }
SITES(SITE)

static const struct {
  const char* name;
  void (*function)(void);
} kSites[] = {
#define ROW(name, call) {#name, site_##name},
    SITES(ROW)
#undef ROW
};
enum { kSiteCount = sizeof kSites / sizeof *kSites };

int main(void) {
  for (int i = 0; i < kSiteCount; ++i) printf("%p %s\n", (void*)kSites[i].function, kSites[i].name);
  fflush(stdout);
  if (mprof_trace_start() != 0) return 1;
  for (int i = 0; i < kSiteCount; ++i) kSites[i].function();
  fcntl(-1, F_GETFD);  // waits for nothing, and is not in the trace
  return mprof_trace_stop();
}
