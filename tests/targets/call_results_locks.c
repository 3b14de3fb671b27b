// SPDX-License-Identifier: Apache-2.0
// Locks of files, and the functions that take their last argument as "...".
#include <sys/file.h>
#include <sys/ioctl.h>

#include "tests/targets/call_results.h"

static const char kFile[] = "call_results_locked";

static int opened(void) { return open(kFile, O_CREAT | O_RDWR, 0600); }

static void try_flock(void) {
  const int one = opened(), two = opened();
  TRY(flock(one, LOCK_SH));
  TRY(flock(two, LOCK_SH | LOCK_NB));
  TRY(flock(two, LOCK_EX | LOCK_NB));
  TRY(flock(two, LOCK_UN));
  TRY(flock(one, LOCK_EX));
  TRY(flock(two, LOCK_SH | LOCK_NB));
  TRY(flock(one, 99));
  TRY(flock(-1, LOCK_SH));
  TRY(close(one));
  TRY(flock(two, LOCK_EX));
  TRY(close(two));
}

static void try_lockf(void) {
  const int fd = opened();
  TRY(lockf(fd, F_LOCK, 10));
  TRY(lockf64(fd, F_TLOCK, 10));
  TRY(lockf(fd, F_TEST, 10));
  TRY(lockf64(fd, F_ULOCK, 10));
  TRY(lockf(fd, 99, 10));
  TRY(lockf(-1, F_LOCK, 10));
  TRY(lockf64(-1, F_TEST, 10));
  TRY(close(fd));
}

static struct flock whole_file(short type) {
  return (struct flock){.l_type = type, .l_whence = SEEK_SET};
}

// A child that has the lock gives it up after a while, without a word.
static void hold_in_child(int fd, void (*wait_for_it)(int fd)) {
  struct flock lock = whole_file(F_WRLCK);
  const struct Pipe told = make_pipe();
  const pid_t child = fork();
  if (child == 0) {
    if (fcntl(fd, F_SETLK, &lock) != 0 || write(told.in, "", 1) != 1) _exit(1);
    nap_ms(20);
    _exit(0);
  }
  char byte;
  if (read(told.out, &byte, 1) != 1) exit(3);
  wait_for_it(fd);
  int status = 0;
  waitpid(child, &status, 0);
  show_number("  the child", status);
  close_both(told);
}
static void wait_with_fcntl(int fd) {
  struct flock lock = whole_file(F_WRLCK);
  TRY(fcntl(fd, F_SETLK, &lock));
  TRY(fcntl(fd, F_SETLKW, &lock));
  lock = whole_file(F_UNLCK);
  TRY(fcntl(fd, F_SETLKW, &lock));
}
static void wait_with_fcntl64(int fd) {
  struct flock64 lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
  TRY(fcntl64(fd, F_SETLKW64, &lock));
  lock.l_type = F_UNLCK;
  TRY(fcntl64(fd, F_SETLK64, &lock));
}
static void wait_with_open_file(int fd) {
  struct flock lock = whole_file(F_WRLCK);
  TRY(fcntl(fd, F_OFD_SETLK, &lock));
  TRY(fcntl(fd, F_OFD_SETLKW, &lock));
  lock = whole_file(F_UNLCK);
  TRY(fcntl64(fd, F_OFD_SETLKW, &lock));
}
static void wait_with_lockf(int fd) {
  TRY(lockf(fd, F_TEST, 0));
  TRY(lockf(fd, F_TLOCK, 0));
  TRY(lockf(fd, F_LOCK, 0));
  TRY(lockf64(fd, F_ULOCK, 0));
}

void try_locks(void) {
  section = "locks";
  try_flock();
  try_lockf();
  const int fd = opened();
  hold_in_child(fd, wait_with_fcntl);
  hold_in_child(fd, wait_with_fcntl64);
  hold_in_child(fd, wait_with_open_file);
  hold_in_child(fd, wait_with_lockf);
  struct flock lock = whole_file(F_WRLCK);
  TRY(fcntl(-1, F_SETLKW, &lock));
  TRY(fcntl(fd, F_SETLKW, nowhere()));
  lock.l_type = 99;
  TRY(fcntl(fd, F_SETLKW, &lock));
  TRY(fcntl64(fd, F_OFD_SETLKW, &lock));
  TRY(close(fd));
  TRY(unlink(kFile));
}

void try_control(void) {
  section = "control";
  const struct Pipe ends = make_pipe();
  int bytes = -1;
  struct winsize size;
  TRY(fcntl(ends.out, F_GETFD));
  TRY(fcntl(ends.out, F_SETFD, FD_CLOEXEC));
  TRY(fcntl64(ends.out, F_GETFD));
  TRY(fcntl(ends.out, F_GETFL));
  TRY(fcntl64(ends.out, F_SETFL, O_NONBLOCK));
  TRY(fcntl(ends.out, F_GETFL));
  TRY(fcntl(ends.out, F_DUPFD, 100));
  TRY(fcntl64(ends.out, F_DUPFD_CLOEXEC, 100));
  TRY(close(100));
  TRY(close(101));
  TRY(fcntl(ends.out, F_SETPIPE_SZ, 8192));
  TRY(fcntl(ends.out, F_GETPIPE_SZ));
  TRY(fcntl(ends.out, F_SETOWN, getpid()));
  TRY(fcntl(ends.out, F_GETOWN) == getpid());
  TRY(fcntl(ends.out, 12345, 6));
  TRY(fcntl(-1, F_GETFL));
  TRY(fcntl64(-1, F_DUPFD, 0));
  if (write(ends.in, "abc", 3) != 3) exit(3);
  TRY(ioctl(ends.out, FIONREAD, &bytes));
  show_number("  to read", bytes);
  TRY(ioctl(ends.out, FIOCLEX));
  TRY(ioctl(ends.out, TIOCGWINSZ, &size));
  TRY(ioctl(ends.out, FIONREAD, nowhere()));
  TRY(ioctl(-1, FIONREAD, &bytes));
  close_both(ends);
}
