// SPDX-License-Identifier: Apache-2.0
// What the parts of call_results share: how a case is tried and printed, and what it is tried on.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Before every case of a part.
extern const char* section;

// A call that succeeds leaves errno as it was.
enum { kErrnoBefore = 4242 };

// One case, by its own text: result and errno.
#define TRY(call)                               \
  do {                                          \
    errno = kErrnoBefore;                       \
    const long result_of_call = (long)(call);   \
    const int errno_of_call = errno;            \
    show(#call, result_of_call, errno_of_call); \
  } while (0)

static inline void show(const char* what, long result, int error) {
  printf("%s: %s: %ld %s\n", section, what, result,
         error == kErrnoBefore ? "errno kept" : strerrorname_np(error));
}
static inline void show_text(const char* what, const char* text, long bytes) {
  printf("%s: %s: \"%.*s\"\n", section, what, bytes < 0 ? 0 : (int)bytes, text);
}
static inline void show_number(const char* what, long number) {
  printf("%s: %s: %ld\n", section, what, number);
}

// Numbers and addresses that the compiler does not know: then a fortified program calls the
// checked functions, and no warning says that a case is a bad one.
static inline size_t some(size_t number) {
  volatile size_t unknown = number;
  return unknown;
}
static inline void* nowhere(void) {
  void* volatile address = (void*)8;
  return address;
}

struct Pipe {
  int out, in;
};
static inline struct Pipe make_pipe(void) {
  int ends[2];
  if (pipe(ends) != 0) exit(3);
  return (struct Pipe){ends[0], ends[1]};
}
static inline struct Pipe make_pair(int type) {
  int ends[2];
  if (socketpair(AF_UNIX, type, 0, ends) != 0) exit(3);
  return (struct Pipe){ends[0], ends[1]};
}
static inline void close_both(struct Pipe ends) {
  close(ends.out);
  close(ends.in);
}
static inline struct sockaddr_un address_of(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  return address;
}
// Until nothing more goes in without waiting.
static inline void fill(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  char block[4096] = "";
  fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  while (write(fd, block, sizeof block) > 0) continue;
  fcntl(fd, F_SETFL, flags);
}
static inline void nap_ms(int ms) {
  const struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
  nanosleep(&time, NULL);
}

// call_results_files.c: opening, reading, writing, sizes, names
void try_opening(void);
void try_reading_and_writing(void);
void try_sizes(void);
void try_copying(void);
void try_names(void);
// call_results_locks.c
void try_locks(void);
void try_control(void);
// call_results_sockets.c
void try_sockets(void);
void try_connections(void);
void try_names_of_hosts(void);
// call_results_children.c
void try_children(void);
void try_vfork(void);
// call_results_signals.c
void try_interruptions(void);
void try_restarts(void);
// call_results_cancel.c
void try_cancellation(void);
