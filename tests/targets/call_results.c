// SPDX-License-Identifier: Apache-2.0
// Calls every function of libc's that the trace records, with good and bad arguments, and prints
// what a program can see of the answer, a line a case. The output must be the same under the
// library, whether or not a trace is on.
#include "tests/targets/call_results.h"

const char* section = "";

// Before any constructor, that of a preloaded library included.
static long before[4];
static int errno_before;
static void call_before_all(void) {
  char text[4];
  errno = kErrnoBefore;
  const int fd = open("/dev/zero", O_RDONLY);
  before[0] = fd;
  before[1] = read(fd, text, some(sizeof text));
  before[2] = close(fd);
  errno_before = errno;
  before[3] = close(fd);
}
__attribute__((section(".preinit_array"), used)) static void (*const first)(void) = call_before_all;

static void show_before(void) {
  section = "before constructors";
  for (int i = 0; i < 4; ++i) show_number("result", before[i]);
  show_number("errno", errno_before);
}

// After the atexit handlers, stdio's included.
__attribute__((destructor)) static void call_after_all(void) {
  static const char kText[] = "after main\n";
  if (write(1, kText, sizeof kText - 1) < 0) _exit(4);
}

int main(void) {
  // A case that hangs is the one after the last line, and ends it.
  setlinebuf(stdout);
  alarm(60);
  umask(0);
  signal(SIGPIPE, SIG_IGN);
  show_before();
  try_opening();
  try_reading_and_writing();
  try_sizes();
  try_copying();
  try_names();
  try_locks();
  try_control();
  try_sockets();
  try_connections();
  try_names_of_hosts();
  try_children();
  try_vfork();
  try_interruptions();
  try_restarts();
  try_cancellation();
  return 0;
}
