// SPDX-License-Identifier: Apache-2.0
// System calls that go through syscall(): the futex, and whatever else.
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/targets/lock_results.h"

static int futex_word;
static long futex(int operation, int value, const struct timespec* timeout, int* second,
                  unsigned third) {
  errno = 0;
  return syscall(SYS_futex, &futex_word, operation, value, timeout, second, third);
}
static int futex_wait_for_change(void* unused) {
  (void)unused;
  return futex(FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) == 0 ? 0 : errno;
}
static void try_futex_wake(void) {
  struct Call call = {futex_wait_for_change, NULL, -1};
  pthread_t thread;
  futex_word = 0;
  pthread_create(&thread, NULL, run_call, &call);
  long woken;
  while ((woken = futex(FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0)) == 0) nap_ms(1);
  show_errno("wake of one that waits", woken);
  pthread_join(thread, NULL);
  show("it was woken", call.result);
}
static void try_futex_calls(void) {
  static int second_word;
  const struct timespec brief = {0, kShortMs * 1000000};
  const struct timespec soon = in_ms(CLOCK_MONOTONIC, kShortMs);
  section = "futex";
  futex_word = 1;
  show_errno("wait, another value", futex(FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0));
  show_errno("wait, timeout", futex(FUTEX_WAIT_PRIVATE, 1, &brief, NULL, 0));
  show_errno("wait, negative ns", futex(FUTEX_WAIT_PRIVATE, 1, &kNegative, NULL, 0));
  show_errno("wait_bitset, timeout", futex(FUTEX_WAIT_BITSET_PRIVATE, 1, &soon, NULL, 1));
  show_errno("wait_bitset, past", futex(FUTEX_WAIT_BITSET_PRIVATE, 1, &kPast, NULL, 1));
  show_errno("wait_bitset, no bits", futex(FUTEX_WAIT_BITSET_PRIVATE, 1, &soon, NULL, 0));
  show_errno("wait, shared, timeout", futex(FUTEX_WAIT, 1, &brief, NULL, 0));
  show_errno("wake, nobody there", futex(FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
  show_errno("wake_op", futex(FUTEX_WAKE_OP_PRIVATE, 1, (void*)1, &second_word,
                              (unsigned)FUTEX_OP(FUTEX_OP_SET, 5, FUTEX_OP_CMP_EQ, 0)));
  show_number("second word", second_word);
  show_errno("cmp_requeue, another value",
             futex(FUTEX_CMP_REQUEUE_PRIVATE, 1, (void*)1, &second_word, 0));
  show_errno("no such operation", futex(99, 1, NULL, NULL, 0));
  futex_word = 0;
  show_errno("lock_pi", futex(FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
  show_number("it is mine", futex_word == gettid());
  show_errno("lock_pi again", futex(FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
  show_errno("unlock_pi", futex(FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
  errno = 0;
  show_errno("nowhere", syscall(SYS_futex, NULL, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0));
  show_errno("between words",
             syscall(SYS_futex, (char*)&futex_word + 1, FUTEX_WAIT_PRIVATE, 0, &brief, NULL, 0));
  try_futex_wake();
}
static void try_other_calls(void) {
  section = "syscall";
  errno = 0;
  show_number("getpid", syscall(SYS_getpid) == getpid());
  show_errno("no such call", syscall(99999));
  show_errno("close of nothing", syscall(SYS_close, -1));
  void* page = (void*)syscall(SYS_mmap, NULL, 4096L, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  memset(page, 1, 4096);
  show_errno("munmap", syscall(SYS_munmap, page, 4096L));
  show_number("mmap of the sixth argument",
              (long)syscall(SYS_mmap, NULL, 4096L, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 1L));
  errno = 4242;
  syscall(SYS_gettid);
  show_number("errno after success", errno);
}

void try_futexes(void) {
  try_futex_calls();
  try_other_calls();
}
