// SPDX-License-Identifier: Apache-2.0
// Locks of every place that a lock can lie in, each held by a function of known name while
// functions of known names wait for it. With an argument it stays until its input ends.
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <thread>

pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;
static std::mutex hidden_mutex;

struct Registry {
  long counters[4];
  std::mutex mutex;
};
Registry g_registry;

namespace store {
struct Table {
  static std::shared_mutex lock;
};
std::shared_mutex Table::lock;
}  // namespace store

struct Cache {
  long entries[8];
  std::mutex mutex;
};

namespace {

std::atomic<bool> is_held;
std::atomic<int> waiting;

// Until the others stand in their calls, and then that long.
[[gnu::noinline]] void keep(int waiters, int milliseconds) {
  is_held = true;
  while (waiting != waiters) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

[[gnu::noinline]] void wait_until_held() {
  while (!is_held) std::this_thread::yield();
  ++waiting;
}

[[gnu::noinline]] std::unique_ptr<Cache> make_cache() { return std::make_unique<Cache>(); }

std::mutex& local_mutex() {
  static std::mutex lock;
  return lock;
}

std::unique_ptr<Cache> cache;

[[gnu::noinline]] void flush_global() {
  pthread_mutex_lock(&g_mutex);
  keep(1, 120);
  pthread_mutex_unlock(&g_mutex);
}

[[gnu::noinline]] void scan_global() {
  pthread_mutex_lock(&g_mutex);
  keep(1, 50);
  pthread_mutex_unlock(&g_mutex);
}

[[gnu::noinline]] void put_global() {
  wait_until_held();
  pthread_mutex_lock(&g_mutex);
  pthread_mutex_unlock(&g_mutex);
}

[[gnu::noinline]] void get_global() {
  wait_until_held();
  pthread_mutex_lock(&g_mutex);
  pthread_mutex_unlock(&g_mutex);
}

[[gnu::noinline]] void hold_cache() {
  const std::lock_guard<std::mutex> guard(cache->mutex);
  keep(1, 110);
}

[[gnu::noinline]] void want_cache() {
  wait_until_held();
  const std::lock_guard<std::mutex> guard(cache->mutex);
}

[[gnu::noinline]] void hold_hidden() {
  const std::unique_lock<std::mutex> guard(hidden_mutex);
  keep(1, 90);
}

[[gnu::noinline]] void want_hidden() {
  wait_until_held();
  const std::unique_lock<std::mutex> guard(hidden_mutex);
}

[[gnu::noinline]] void hold_registry() {
  const std::scoped_lock guard(g_registry.mutex);
  keep(1, 70);
}

[[gnu::noinline]] void want_registry() {
  wait_until_held();
  const std::scoped_lock guard(g_registry.mutex);
}

[[gnu::noinline]] void hold_table() {
  const std::unique_lock guard(store::Table::lock);
  keep(1, 50);
}

[[gnu::noinline]] void want_table() {
  wait_until_held();
  const std::shared_lock guard(store::Table::lock);
}

[[gnu::noinline]] void hold_local() {
  const std::lock_guard guard(local_mutex());
  keep(1, 30);
}

[[gnu::noinline]] void want_local() {
  wait_until_held();
  const std::lock_guard guard(local_mutex());
}

void contend(void (*holder)(), void (*waiter)()) {
  is_held = false;
  waiting = 0;
  std::thread first(holder);
  std::thread second(waiter);
  first.join();
  second.join();
}

}  // namespace

int main(int argc, char**) {
  cache = make_cache();
  contend(flush_global, put_global);
  contend(scan_global, get_global);
  contend(hold_cache, want_cache);
  contend(hold_hidden, want_hidden);
  contend(hold_registry, want_registry);
  contend(hold_table, want_table);
  contend(hold_local, want_local);
  std::puts("done");
  std::fflush(stdout);
  if (argc > 1) std::getchar();
  cache.reset();
  return 0;
}
