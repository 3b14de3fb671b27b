// SPDX-License-Identifier: Apache-2.0
// Threads that allocate and free until the process is killed: storm THREADS COUNTERS [SECONDS]
//
// COUNTERS is a file with the truth, written through a shared mapping, so that it survives the
// kill: for each thread how many allocations and frees it began. What the dump holds may be less by
// the one call that the thread was in, and never more. With SECONDS the program ends by itself.
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace {

constexpr size_t kMaxThreads = 64;
constexpr size_t kKept = 32;

// Read by the test as six 64-bit words a thread.
struct alignas(64) Counters {
  std::atomic<uint64_t> allocs_begun;
  std::atomic<uint64_t> allocs_ended;
  std::atomic<uint64_t> frees_begun;
  std::atomic<uint64_t> frees_ended;
  std::atomic<uint64_t> bytes_begun;
  std::atomic<uint64_t> bytes_ended;
};
static_assert(sizeof(Counters) == 64);

Counters* counters;
std::atomic<bool> stop;

// Only the thread itself writes its counters. Release, and the calls in between: the kernel keeps
// what was stored before the kill, in the order of the program.
void add(std::atomic<uint64_t>& counter, uint64_t amount) {
  counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_release);
}

}  // namespace

extern "C" [[gnu::noinline]] void* storm_allocates(size_t bytes) {
  void* block = malloc(bytes);
  asm volatile("" : : "r"(block) : "memory");
  return block;
}

namespace {

void* work(void* argument) {
  Counters& mine = *static_cast<Counters*>(argument);
  void* kept[kKept] = {};
  uint64_t random = reinterpret_cast<uintptr_t>(argument) | 1;
  while (!stop.load(std::memory_order_relaxed)) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    void*& slot = kept[random >> 59];
    if (slot != nullptr) {
      add(mine.frees_begun, 1);
      free(slot);
      add(mine.frees_ended, 1);
    }
    const size_t bytes = 16 + (random >> 40) % 2000;
    add(mine.bytes_begun, bytes);
    add(mine.allocs_begun, 1);
    slot = storm_allocates(bytes);
    add(mine.allocs_ended, 1);
    add(mine.bytes_ended, bytes);
  }
  return nullptr;
}

Counters* map_counters(const char* path) {
  const size_t bytes = kMaxThreads * sizeof(Counters);
  const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) return nullptr;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  return memory == MAP_FAILED ? nullptr : static_cast<Counters*>(memory);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const size_t threads = strtoul(argv[1], nullptr, 10);
  const double seconds = argc > 3 ? atof(argv[3]) : 0;
  counters = map_counters(argv[2]);
  if (threads > kMaxThreads || counters == nullptr) return 2;
  pthread_t ids[kMaxThreads];
  for (size_t i = 0; i < threads; i++)
    if (pthread_create(&ids[i], nullptr, work, &counters[i]) != 0) return 2;
  if (seconds > 0) {
    usleep(static_cast<useconds_t>(seconds * 1e6));
    stop.store(true);
  }
  for (size_t i = 0; i < threads; i++) pthread_join(ids[i], nullptr);
}
