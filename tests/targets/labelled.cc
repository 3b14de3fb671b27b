// SPDX-License-Identifier: Apache-2.0
// A program that says what it does, by mprof.h. Each site allocates under labels of its own, or
// waits for a lock under them; what is there to find is in the names of the functions.
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "preload/mprof.h"

#define SITE extern "C" [[gnu::noinline]]

namespace {

void* kept[100];
int kept_count;

// At the site's own call of it: 1000 bytes that stay.
[[gnu::always_inline]] inline void take() { kept[kept_count++] = malloc(1000); }

void sleep_ms(long ms) {
  const timespec time{ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, nullptr);
}

}  // namespace

// ---- heap ---------------------------------------------------------------------------------------

SITE void plain_site() { take(); }
SITE void one_label_site() { take(); }
SITE void two_labels_site() { take(); }
SITE void inner_scope_site() { take(); }
SITE void after_scope_site() { take(); }
SITE void cleared_site() { take(); }
SITE void many_values_site() { take(); }

static void allocate() {
  plain_site();
  mprof_label_set("handler", "spin");
  one_label_site();
  mprof_label_set("request", "7");
  two_labels_site();
  {
    const mprof::ScopedLabels scope{{"request", "8"}, {"tenant", "t1"}};
    inner_scope_site();
  }
  after_scope_site();
  mprof_label_clear("handler");
  cleared_site();
  mprof_labels_clear();
  for (int i = 0; i < 10; ++i) {
    mprof_label_set("request", std::to_string(i).c_str());
    many_values_site();
  }
  free(kept[0]);
}

// ---- threads ------------------------------------------------------------------------------------

SITE void posix_thread_site() { take(); }
SITE void c11_thread_site() { take(); }
SITE void cxx_thread_site() { take(); }
SITE void changed_thread_site() { take(); }
SITE void creator_site() { take(); }
SITE void handed_over_site() { take(); }

static void* in_posix_thread(void*) {
  posix_thread_site();
  return nullptr;
}
static int in_c11_thread(void*) {
  c11_thread_site();
  return 0;
}

static void inherit() {
  mprof_label_set("request", "7");
  pthread_t posix;
  pthread_create(&posix, nullptr, in_posix_thread, nullptr);
  pthread_join(posix, nullptr);
  thrd_t c11;
  thrd_create(&c11, in_c11_thread, nullptr);
  thrd_join(c11, nullptr);
  std::thread([] {
    cxx_thread_site();
    mprof_label_set("request", "8");
    changed_thread_site();
  }).join();
  creator_site();
  const mprof_label_set_t labels = mprof_labels();
  mprof_labels_clear();
  std::thread([=] {
    mprof_set_labels(labels);
    handed_over_site();
  }).join();
}

// ---- locks --------------------------------------------------------------------------------------

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

SITE void waiter_site() {
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
}
SITE void holder_site() { pthread_mutex_unlock(&mutex); }

static void contend() {
  pthread_mutex_lock(&mutex);
  std::thread waiter([] {
    const mprof::ScopedLabels scope{{"role", "waiter"}};
    waiter_site();
  });
  sleep_ms(50);
  {
    const mprof::ScopedLabels scope{{"role", "holder"}};
    holder_site();
  }
  waiter.join();
}

// ---- processor time -----------------------------------------------------------------------------

static int64_t thread_ms() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static volatile uint64_t spun;
SITE void spin_site(int64_t ms) {
  const int64_t end = thread_ms() + ms;
  while (thread_ms() < end)
    for (int i = 0; i < 100000; ++i) spun = spun + 1;
}

static void spin() {
  {
    const mprof::ScopedLabels scope{{"handler", "heavy"}};
    spin_site(600);
  }
  const mprof::ScopedLabels scope{{"handler", "light"}};
  std::thread(spin_site, 200).join();
}

// ---- storm --------------------------------------------------------------------------------------

SITE void early_value_site() { take(); }
SITE void late_value_site() { take(); }
SITE void beside_late_value_site() { take(); }

static void label_million() {
  char value[32];
  const mprof::ScopedLabels none{};
  for (int i = 0; i < 1000000; ++i) {
    snprintf(value, sizeof value, "request-%d", i);
    mprof_label_set("request", value);
    if (i == 17) early_value_site();
  }
  late_value_site();
  mprof_label_set("handler", "spin");
  beside_late_value_site();
}

// So many sets at one site that each would be a bucket of its own.
SITE void bucket_storm_site(int i) {
  void* block = malloc(1000);
  free(block);
  if (i < 0) abort();
}
static void label_buckets() {
  for (int thread = 0; thread < 4; ++thread)
    std::thread([] {
      for (int i = 0; i < 40000; ++i) {
        mprof_label_set("request", std::to_string(i).c_str());
        bucket_storm_site(i);
      }
    }).join();
}

// ---- fork ---------------------------------------------------------------------------------------

SITE void child_site() { take(); }
SITE void labelled_child_site() { take(); }
SITE void restored_child_site() { take(); }
SITE void parent_site() { take(); }

static void fork_labelled() {
  mprof_label_set("request", "7");
  const mprof_label_set_t before = mprof_labels();
  if (fork() == 0) {
    child_site();
    mprof_label_set("request", "child");
    labelled_child_site();
    mprof_set_labels(before);
    restored_child_site();
    fflush(nullptr);
    _exit(0);
  }
  wait(nullptr);
  parent_site();
}

// ---- signals ------------------------------------------------------------------------------------

static std::atomic<uint64_t> handled;
static void label_in_handler(int) {
  const mprof::ScopedLabels scope{{"handler", "alarm"}};
  mprof_label_set("number", std::to_string(handled % 10).c_str());  // short: no allocation
  handled += 1;
}

SITE void interrupted_site() { take(); }

static void interrupt() {
  struct sigaction action {};
  action.sa_handler = label_in_handler;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, nullptr);
  const itimerval often{{0, 200}, {0, 200}};
  setitimer(ITIMER_REAL, &often, nullptr);
  mprof_label_set("request", "7");
  while (handled < 5000) {
    const mprof::ScopedLabels scope{{"request", "8"}};
    free(malloc(100));
  }
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  interrupted_site();
}

// ---- pause and report ---------------------------------------------------------------------------

SITE void paused_site() { take(); }
SITE void nested_pause_site() { take(); }
SITE void resumed_site() { take(); }
SITE void freed_in_pause_site() { take(); }
SITE void thread_beside_pause_site() { take(); }
SITE void arena_memory_site(char** memory) { *memory = static_cast<char*>(malloc(100000)); }
SITE void arena_block_site(char* block) { mprof_alloc(block, 500); }

static void report() {
  freed_in_pause_site();
  mprof_pause();
  paused_site();
  mprof_pause();
  mprof_resume();
  nested_pause_site();
  free(kept[0]);
  std::thread(thread_beside_pause_site).join();
  mprof_resume();
  mprof_resume();
  resumed_site();
  // The first block of the arena begins where its memory does.
  char* memory;
  arena_memory_site(&memory);
  for (int i = 0; i < 100; ++i) arena_block_site(memory + i * 500);
  for (int i = 0; i < 40; ++i) mprof_free(memory + i * 500);
  mprof_free(memory + 7);
  mprof_free(nullptr);
  mprof_alloc(nullptr, 5);
}

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    void (*run)();
  } kParts[] = {{"heap", allocate},      {"threads", inherit},     {"locks", contend},
                {"cpu", spin},           {"storm", label_million}, {"buckets", label_buckets},
                {"fork", fork_labelled}, {"signals", interrupt},   {"report", report}};
  for (const auto& part : kParts)
    if (argc == 2 && strcmp(argv[1], part.name) == 0) {
      part.run();
      puts("done");
      return 0;
    }
  fprintf(stderr, "usage: %s heap|threads|locks|cpu|storm|buckets|fork|signals|report\n", *argv);
  return 2;
}
