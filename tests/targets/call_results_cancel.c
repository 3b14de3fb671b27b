// SPDX-License-Identifier: Apache-2.0
// Cancellation: which functions act upon a request that is there already, and which calls that wait
// are ended by one.
#include <netdb.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#include "tests/targets/call_results.h"

static char in[16];
static struct iovec part = {in, sizeof in};
static struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
static struct mmsghdr messages;
static struct stat status_of;
static struct stat64 status64_of;
static struct statx statx_of;
static struct addrinfo* found;
static int ended_with;

// None of them waits; all but a few fail.
#define CALLS(X)                                 \
  X(read(-1, in, some(4)))                       \
  X(read(-1, in, 4))                             \
  X(write(-1, in, 4))                            \
  X(pread(-1, in, some(4), 0))                   \
  X(pread64(-1, in, some(4), 0))                 \
  X(pwrite(-1, in, 4, 0))                        \
  X(pwrite64(-1, in, 4, 0))                      \
  X(readv(-1, &part, 1))                         \
  X(writev(-1, &part, 1))                        \
  X(preadv(-1, &part, 1, 0))                     \
  X(preadv64(-1, &part, 1, 0))                   \
  X(preadv2(-1, &part, 1, 0, 0))                 \
  X(preadv64v2(-1, &part, 1, 0, 0))              \
  X(pwritev(-1, &part, 1, 0))                    \
  X(pwritev64(-1, &part, 1, 0))                  \
  X(pwritev2(-1, &part, 1, 0, 0))                \
  X(pwritev64v2(-1, &part, 1, 0, 0))             \
  X(open("none", O_RDONLY))                      \
  X(open("none", (int)some(O_RDONLY)))           \
  X(open64("none", (int)some(O_RDONLY)))         \
  X(openat(-1, "none", O_RDONLY))                \
  X(openat(-1, "none", (int)some(O_RDONLY)))     \
  X(openat64(-1, "none", (int)some(O_RDONLY)))   \
  X(creat("none/x", 0600))                       \
  X(creat64("none/x", 0600))                     \
  X(close(-1))                                   \
  X(fsync(-1))                                   \
  X(fdatasync(-1))                               \
  X(msync(nowhere(), 1, MS_SYNC))                \
  X(ftruncate(-1, 0))                            \
  X(ftruncate64(-1, 0))                          \
  X(fallocate(-1, 0, 0, 1))                      \
  X(fallocate64(-1, 0, 0, 1))                    \
  X(posix_fallocate(-1, 0, 1))                   \
  X(posix_fallocate64(-1, 0, 1))                 \
  X(sendfile(-1, -1, NULL, 1))                   \
  X(sendfile64(-1, -1, NULL, 1))                 \
  X(splice(-1, NULL, -1, NULL, 1, 0))            \
  X(copy_file_range(-1, NULL, -1, NULL, 1, 0))   \
  X(flock(-1, LOCK_EX))                          \
  X(lockf(-1, F_LOCK, 1))                        \
  X(lockf64(-1, F_LOCK, 1))                      \
  X(fcntl(-1, F_SETLKW, nowhere()))              \
  X(fcntl(-1, F_GETFD))                          \
  X(fcntl64(-1, F_OFD_SETLKW, nowhere()))        \
  X(ioctl(-1, FIONREAD, nowhere()))              \
  X(unlink("none"))                              \
  X(unlinkat(-1, "none", 0))                     \
  X(rename("none", "none"))                      \
  X(renameat(-1, "none", -1, "none"))            \
  X(renameat2(-1, "none", -1, "none", 0))        \
  X(stat("none", &status_of))                    \
  X(stat64("none", &status64_of))                \
  X(lstat("none", &status_of))                   \
  X(lstat64("none", &status64_of))               \
  X(fstatat(-1, "none", &status_of, 0))          \
  X(fstatat64(-1, "none", &status64_of, 0))      \
  X(statx(-1, "none", 0, STATX_SIZE, &statx_of)) \
  X(wait(&ended_with))                           \
  X(waitpid(-1, &ended_with, WNOHANG))           \
  X(wait3(&ended_with, 0, NULL))                 \
  X(wait4(-1, &ended_with, 0, NULL))             \
  X(waitid(P_ALL, 0, NULL, WEXITED))             \
  X(accept(-1, NULL, NULL))                      \
  X(accept4(-1, NULL, NULL, 0))                  \
  X(connect(-1, NULL, 0))                        \
  X(recv(-1, in, some(4), 0))                    \
  X(recvfrom(-1, in, some(4), 0, NULL, NULL))    \
  X(recvmsg(-1, &message, 0))                    \
  X(recvmmsg(-1, &messages, 1, 0, NULL))         \
  X(send(-1, in, 4, 0))                          \
  X(sendto(-1, in, 4, 0, NULL, 0))               \
  X(sendmsg(-1, &message, 0))                    \
  X(sendmmsg(-1, &messages, 1, 0))               \
  X(getaddrinfo(NULL, NULL, NULL, &found))

static struct Pipe empty, full, pair;
static int server;
static pid_t sleeper;

// What only the request ends, if anything does.
#define WAITS(X)                                     \
  X(read(empty.out, in, some(4)))                    \
  X(readv(empty.out, &part, 1))                      \
  X(write(full.in, in, 4))                           \
  X(writev(full.in, &part, 1))                       \
  X(recv(pair.out, in, some(4), 0))                  \
  X(recvfrom(pair.out, in, some(4), 0, NULL, NULL))  \
  X(recvmsg(pair.out, &message, 0))                  \
  X(accept(server, NULL, NULL))                      \
  X(accept4(server, NULL, NULL, 0))                  \
  X(open("call_results_fifo", O_RDONLY))             \
  X(openat(AT_FDCWD, "call_results_fifo", O_RDONLY)) \
  X(wait(&ended_with))                               \
  X(waitpid(sleeper, &ended_with, 0))                \
  X(wait4(sleeper, &ended_with, 0, NULL))            \
  X(waitid(P_ALL, 0, NULL, WEXITED))

#define NAME(call) #call,
static const char* const kCallNames[] = {CALLS(NAME)};
static const char* const kWaitNames[] = {WAITS(NAME)};
enum {
  kCalls = sizeof kCallNames / sizeof *kCallNames,
  kWaits = sizeof kWaitNames / sizeof *kWaitNames,
};

#define SELECT(call) \
  if (number-- == 0) return call;
static long make_call(int number) {
  CALLS(SELECT)
  return -1;
}
static long make_wait(int number) {
  WAITS(SELECT)
  return -1;
}

struct Fate {
  long (*make)(int number);
  int number;
  int disabled;
  int cancel_first;
  atomic_int tid;
  atomic_int go;
  atomic_int returned;
  int cleaned_up;
};
static void on_cancel(void* argument) { ((struct Fate*)argument)->cleaned_up = 1; }
static void* live(void* argument) {
  struct Fate* fate = argument;
  int before;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
  atomic_store(&fate->tid, gettid());
  while (fate->cancel_first && !atomic_load(&fate->go)) nap_ms(1);
  if (!fate->disabled) pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before);
  pthread_cleanup_push(on_cancel, fate);
  fate->make(fate->number);
  atomic_store(&fate->returned, 1);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
  pthread_cleanup_pop(0);
  return NULL;
}

static int is_asleep(pid_t tid) {
  char path[64], text[512] = "";
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  const int fd = open(path, O_RDONLY);
  if (fd < 0 || read(fd, text, some(sizeof text - 1)) < 0) exit(3);
  close(fd);
  const char* after_name = strrchr(text, ')');
  return after_name != NULL && after_name[2] == 'S';
}

static void show_fate(const char* when, const char* call, const struct Fate* fate, void* result) {
  printf("cancel %s: %s: %s, %s, cleanup %s\n", when, call,
         result == PTHREAD_CANCELED ? "cancelled" : "not cancelled",
         fate->returned ? "returned" : "did not return", fate->cleaned_up ? "ran" : "did not run");
}

static void cancel_before(int number, int disabled) {
  struct Fate fate = {.make = make_call, .number = number, .disabled = disabled, .cancel_first = 1};
  pthread_t thread;
  void* result;
  pthread_create(&thread, NULL, live, &fate);
  pthread_cancel(thread);
  atomic_store(&fate.go, 1);
  pthread_join(thread, &result);
  show_fate(disabled ? "disabled" : "before", kCallNames[number], &fate, result);
}

static void cancel_waiting(int number) {
  struct Fate fate = {.make = make_wait, .number = number};
  pthread_t thread;
  void* result;
  pthread_create(&thread, NULL, live, &fate);
  while (atomic_load(&fate.tid) == 0 || !is_asleep(fate.tid)) nap_ms(1);
  pthread_cancel(thread);
  pthread_join(thread, &result);
  show_fate("while it waits", kWaitNames[number], &fate, result);
}

static void make_all(void) {
  const struct sockaddr_un address = address_of("call_results_socket");
  empty = make_pipe();
  full = make_pipe();
  fill(full.in);
  pair = make_pair(SOCK_STREAM);
  server = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(server, (const struct sockaddr*)&address, sizeof address) != 0) exit(3);
  listen(server, 1);
  if (mkfifo("call_results_fifo", 0600) != 0) exit(3);
  sleeper = fork();
  if (sleeper == 0)
    for (;;) pause();
}
static void end_all(void) {
  kill(sleeper, SIGKILL);
  waitpid(sleeper, NULL, 0);
  close_both(empty);
  close_both(full);
  close_both(pair);
  close(server);
  unlink("call_results_fifo");
  unlink("call_results_socket");
}

void try_cancellation(void) {
  for (int i = 0; i < kCalls; ++i) cancel_before(i, 0);
  for (int i = 0; i < kCalls; ++i) cancel_before(i, 1);
  if (found != NULL) freeaddrinfo(found);
  make_all();
  for (int i = 0; i < kWaits; ++i) cancel_waiting(i);
  end_all();
}
