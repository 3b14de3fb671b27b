// SPDX-License-Identifier: Apache-2.0
// The same of C11.
#include <threads.h>

#include "tests/targets/lock_results.h"

static void show_thrd(const char* what, int result) {
  static const char* const kNames[] = {"thrd_success", "thrd_busy", "thrd_error", "thrd_nomem",
                                       "thrd_timedout"};
  printf("%s: %s: %s\n", section, what, result >= 0 && result <= 4 ? kNames[result] : "another");
}
static int c11_trylock(void* mutex) { return mtx_trylock(mutex); }
static int c11_unlock(void* mutex) { return mtx_unlock(mutex); }
static int c11_timedlock(void* mutex) {
  const struct timespec end = in_ms(CLOCK_REALTIME, kShortMs);
  return mtx_timedlock(mutex, &end);
}
static int c11_hold(void* argument) {
  struct Hold* hold = argument;
  mtx_lock((mtx_t*)hold->mutex);
  atomic_store(&hold->held, 1);
  nap_ms(kShortMs);
  return mtx_unlock((mtx_t*)hold->mutex);
}
static void try_mtx(const char* name, int type) {
  mtx_t mutex;
  section = name;
  show_thrd("init", mtx_init(&mutex, type));
  show_thrd("trylock", mtx_trylock(&mutex));
  show_thrd("trylock, own", mtx_trylock(&mutex));
  if (type & mtx_recursive) show_thrd("unlock", mtx_unlock(&mutex));
  show_thrd("timedlock, own", c11_timedlock(&mutex));
  if (type & mtx_recursive) show_thrd("unlock", mtx_unlock(&mutex));
  show_thrd("trylock elsewhere", in_another_thread(c11_trylock, &mutex));
  show_thrd("timedlock elsewhere", in_another_thread(c11_timedlock, &mutex));
  show_thrd("timedlock, negative ns", mtx_timedlock(&mutex, &kNegative));
  if (type & mtx_recursive) show_thrd("unlock", mtx_unlock(&mutex));
  if (type & mtx_recursive) show_thrd("unlock elsewhere", in_another_thread(c11_unlock, &mutex));
  show_thrd("unlock", mtx_unlock(&mutex));
  if (type & mtx_recursive) show_thrd("unlock, free", mtx_unlock(&mutex));
  struct Hold hold = {(pthread_mutex_t*)&mutex, 0, 0};
  thrd_t thread;
  int result = -1;
  thrd_create(&thread, c11_hold, &hold);
  await(&hold.held, 1);
  show_thrd("lock, behind another", mtx_lock(&mutex));
  show_thrd("unlock", mtx_unlock(&mutex));
  show_thrd("join", thrd_join(thread, &result));
  show_thrd("unlock by the one before", result);
  mtx_destroy(&mutex);
}

static mtx_t c11_mutex;
static cnd_t c11_cond;
static int c11_sleep(void* unused) {
  (void)unused;
  mtx_lock(&c11_mutex);
  atomic_fetch_add(&asleep, 1);
  const int result = cnd_wait(&c11_cond, &c11_mutex);
  mtx_unlock(&c11_mutex);
  return result;
}
static void try_cnd_woken(const char* how, int (*wake)(cnd_t*), int sleepers) {
  thrd_t threads[3];
  atomic_store(&asleep, 0);
  for (int i = 0; i < sleepers; i++) thrd_create(&threads[i], c11_sleep, NULL);
  await(&asleep, sleepers);
  mtx_lock(&c11_mutex);
  show_thrd(how, wake(&c11_cond));
  mtx_unlock(&c11_mutex);
  for (int i = 0; i < sleepers; i++) {
    int result = -1;
    show_thrd("join", thrd_join(threads[i], &result));
    show_thrd("woken", result);
  }
}
static void try_cnd(void) {
  section = "cnd";
  mtx_init(&c11_mutex, mtx_plain);
  show_thrd("init", cnd_init(&c11_cond));
  show_thrd("signal, nobody there", cnd_signal(&c11_cond));
  mtx_lock(&c11_mutex);
  const struct timespec end = in_ms(CLOCK_REALTIME, kShortMs);
  show_thrd("timedwait", cnd_timedwait(&c11_cond, &c11_mutex, &end));
  show_number("at its deadline", is_past(CLOCK_REALTIME, end));
  show_thrd("timedwait in the past", cnd_timedwait(&c11_cond, &c11_mutex, &kPast));
  show_thrd("timedwait, negative ns", cnd_timedwait(&c11_cond, &c11_mutex, &kNegative));
  show_thrd("trylock elsewhere after it", in_another_thread(c11_trylock, &c11_mutex));
  show_thrd("unlock", mtx_unlock(&c11_mutex));
  try_cnd_woken("signal", cnd_signal, 1);
  try_cnd_woken("broadcast", cnd_broadcast, 3);
  cnd_destroy(&c11_cond);
}
static int c11_exits(void* unused) {
  (void)unused;
  thrd_exit(-7);
}
static int c11_join_self(void* unused) {
  (void)unused;
  return thrd_join(thrd_current(), NULL);
}
static void try_thrd(void) {
  thrd_t thread;
  int result = 0;
  section = "thrd";
  show_thrd("create", thrd_create(&thread, c11_exits, NULL));
  show_thrd("join", thrd_join(thread, &result));
  show_number("result", result);
  show_thrd("join self", in_another_thread(c11_join_self, NULL));
}
void try_c11(void) {
  try_mtx("mtx_plain", mtx_plain);
  try_mtx("mtx_timed", mtx_timed);
  try_mtx("mtx_recursive", mtx_plain | mtx_recursive);
  try_mtx("mtx_timed recursive", mtx_timed | mtx_recursive);
  try_cnd();
  try_thrd();
}
