// SPDX-License-Identifier: Apache-2.0
// Throws through frames that allocate, in several threads, while every allocation is unwound by the
// profiler: neither unwinder may disturb the other.
#include <stdio.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

std::atomic<int> destroyed;

struct Counted {
  std::unique_ptr<int[]> memory{new int[25]};
  ~Counted() { destroyed++; }
};

[[gnu::noinline]] void descend(int depth) {
  const Counted counted;
  if (depth == 0) throw std::out_of_range(std::string(50, 'y'));
  descend(depth - 1);
  asm volatile("" : : "r"(counted.memory.get()) : "memory");
}

void work(int* caught) {
  for (int i = 0; i < 200; i++) {
    try {
      descend(30);
    } catch (const std::out_of_range& error) {
      *caught += error.what()[0] == 'y' ? 1 : 0;
    }
  }
}

}  // namespace

int main() {
  int caught[4] = {};
  std::vector<std::thread> threads;
  for (int& each : caught) threads.emplace_back(work, &each);
  for (std::thread& thread : threads) thread.join();
  printf("caught %d destroyed %d\n", caught[0] + caught[1] + caught[2] + caught[3],
         destroyed.load());
}
