// SPDX-License-Identifier: Apache-2.0
// Calls that a handler interrupts: EINTR without SA_RESTART, and on they go with it.
#include <sys/file.h>

#include "tests/targets/call_results.h"

static const char kFile[] = "call_results_interrupted";
static const char kFifo[] = "call_results_fifo";
static const char kAddress[] = "call_results_waiting";

static atomic_int ticks;

// Again and again: whenever the call begins, one comes while it waits.
static timer_t start_ticking(int flags, void (*handler)(int)) {
  const struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  const struct itimerspec every = {{0, 3000000}, {0, 3000000}};
  timer_t timer;
  atomic_store(&ticks, 0);
  sigaction(SIGUSR1, &action, NULL);
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) exit(3);
  timer_settime(timer, 0, &every, NULL);
  return timer;
}

static void count_tick(int number) {
  (void)number;
  atomic_fetch_add(&ticks, 1);
}

// Made before the ticking begins, which would end what waits here, too.
static struct Pipe empty, full, quiet_pair, full_pair;
static int server, locked, unlocked, told;
static pid_t sleeper;

static void lock_in_child(const char* path) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  const struct Pipe ready = make_pipe();
  sleeper = fork();
  if (sleeper == 0) {
    const int fd = open(path, O_RDWR);
    if (fcntl(fd, F_SETLK, &lock) != 0 || write(ready.in, "", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte;
  if (read(ready.out, &byte, 1) != 1) exit(3);
  close_both(ready);
}

static void make_all(void) {
  const struct sockaddr_un address = address_of(kAddress);
  empty = make_pipe();
  full = make_pipe();
  fill(full.in);
  quiet_pair = make_pair(SOCK_STREAM);
  full_pair = make_pair(SOCK_STREAM);
  fill(full_pair.in);
  server = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(server, (const struct sockaddr*)&address, sizeof address) != 0) exit(3);
  listen(server, 1);
  locked = open(kFile, O_CREAT | O_RDWR, 0600);
  unlocked = open(kFile, O_RDWR);
  flock(locked, LOCK_EX);
  lock_in_child(kFile);
  if (mkfifo(kFifo, 0600) != 0) exit(3);
}
static void end_all(void) {
  kill(sleeper, SIGKILL);
  waitpid(sleeper, NULL, 0);
  close_both(empty);
  close_both(full);
  close_both(quiet_pair);
  close_both(full_pair);
  close(server);
  close(locked);
  close(unlocked);
  unlink(kFile);
  unlink(kFifo);
  unlink(kAddress);
}

void try_interruptions(void) {
  section = "interrupted";
  make_all();
  char in[16];
  struct iovec part = {in, sizeof in};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  struct mmsghdr messages = {.msg_hdr = message};
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  siginfo_t info;
  int status;
  const timer_t timer = start_ticking(0, count_tick);
  TRY(read(empty.out, in, some(16)));
  TRY(read(empty.out, in, 16));
  TRY(readv(empty.out, &part, 1));
  TRY(write(full.in, "x", 1));
  TRY(writev(full.in, &part, 1));
  TRY(recv(quiet_pair.out, in, some(16), 0));
  TRY(recvfrom(quiet_pair.out, in, some(16), 0, NULL, NULL));
  TRY(recvmsg(quiet_pair.out, &message, 0));
  TRY(recvmmsg(quiet_pair.out, &messages, 1, 0, NULL));
  TRY(send(full_pair.in, "x", 1, 0));
  TRY(sendto(full_pair.in, "x", 1, 0, NULL, 0));
  TRY(sendmsg(full_pair.in, &message, 0));
  TRY(accept(server, NULL, NULL));
  TRY(accept4(server, NULL, NULL, 0));
  TRY(flock(unlocked, LOCK_EX));
  TRY(fcntl(unlocked, F_SETLKW, &lock));
  TRY(fcntl64(unlocked, F_OFD_SETLKW, &lock));
  TRY(lockf(unlocked, F_LOCK, 1));
  TRY(splice(empty.out, NULL, unlocked, NULL, 4, 0));
  TRY(open(kFifo, O_RDONLY));
  TRY(openat64(AT_FDCWD, kFifo, O_RDONLY));
  TRY(wait(&status));
  TRY(waitpid(sleeper, &status, 0));
  TRY(wait4(sleeper, &status, 0, NULL));
  TRY(waitid(P_ALL, 0, &info, WEXITED));
  timer_delete(timer);
  show_number("were there ticks", atomic_load(&ticks) >= 25);
  end_all();
}

// The third one lets the call go on, by calls of its own.
static void answer_third_tick(int number) {
  (void)number;
  const int error = errno;
  char byte;
  struct stat status;
  stat("none", &status);
  if (read(-1, &byte, some(1)) != -1 || errno != EBADF) _exit(5);
  if (atomic_fetch_add(&ticks, 1) == 2 && write(told, "hello", 5) != 5) _exit(6);
  errno = error;
}

void try_restarts(void) {
  section = "restarted";
  char in[16];
  for (int i = 0; i < 3; ++i) {
    const struct Pipe ends = i == 0 ? make_pipe() : make_pair(SOCK_STREAM);
    told = ends.in;
    const timer_t timer = start_ticking(SA_RESTART, answer_third_tick);
    if (i < 2) TRY(read(ends.out, in, some(16)));
    if (i == 2) TRY(recv(ends.out, in, some(16), 0));
    timer_delete(timer);
    show_number("after ticks", atomic_load(&ticks) >= 3);
    show_text("has read", in, 5);
    close_both(ends);
  }
}
