// SPDX-License-Identifier: Apache-2.0
// What the benchmark programs share: options, threads that start together, one line of result.
//
// Allocates  Nothing between the start and the end of a measurement but what is being measured.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <latch>
#include <string_view>
#include <thread>
#include <vector>

namespace mprof::bench {

// xorshift64*: the same sequence on every machine, and cheap enough to stay inside a loop.
class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull | 1) {}

  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1Dull;
  }

  uint32_t below(uint32_t bound) { return static_cast<uint32_t>((next() >> 32) * bound >> 32); }

 private:
  uint64_t state_;
};

// First and last byte, through volatile: a block nobody uses could be optimized away.
inline void touch(void* block, size_t size_bytes) {
  auto* bytes = static_cast<volatile char*>(block);
  bytes[0] = 1;
  bytes[size_bytes - 1] = 1;
}

[[noreturn]] inline void die(const char* what, std::string_view detail) {
  std::fprintf(stderr, "%s: %.*s\n", what, static_cast<int>(detail.size()), detail.data());
  std::exit(2);
}

// "--name value" pairs; a name that is not in the list of known ones is an error.
class Options {
 public:
  Options(int argc, char** argv, std::initializer_list<std::string_view> known)
      : argc_(argc), argv_(argv) {
    for (int i = 1; i < argc; i += 2) {
      const std::string_view name = argv[i];
      if (std::find(known.begin(), known.end(), name) == known.end()) die("unknown option", name);
      if (i + 1 == argc) die("option without a value", name);
    }
  }

  std::string_view text(std::string_view name, std::string_view otherwise) const {
    for (int i = 1; i + 1 < argc_; i += 2)
      if (argv_[i] == name) return argv_[i + 1];
    return otherwise;
  }

  uint64_t number(std::string_view name, uint64_t otherwise) const {
    const std::string_view value = text(name, {});
    if (value.empty()) return otherwise;
    char* end = nullptr;
    const uint64_t parsed = std::strtoull(value.data(), &end, 10);
    if (*end != '\0' || parsed == 0) die("not a positive number", value);
    return parsed;
  }

 private:
  int argc_;
  char** argv_;
};

// The program pins itself (and not its launcher does), so that a profiler's helper process is free
// to use the other cores, as it would be for a user.
inline void pin_as_asked() {
  const char* cpu = std::getenv("WORKLOAD_CPU");
  if (cpu == nullptr || *cpu == '\0') return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(std::atoi(cpu)), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) die("cannot pin to cpu", cpu);
}

// The calling thread to one of the first `cores` cores that it may use. Where threads wait for each
// other, what a run takes depends on where the kernel has put them: pinned, runs can be compared.
inline void pin_thread(unsigned index, unsigned cores) {
  cpu_set_t allowed;
  if (cores == 0 || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  unsigned nth = index % std::min(cores, static_cast<unsigned>(CPU_COUNT(&allowed)));
  size_t cpu = 0;
  while (!CPU_ISSET(cpu, &allowed) || nth-- > 0) cpu++;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  sched_setaffinity(0, sizeof one, &one);
}

inline uint64_t now_ns() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

// Runs work(index) on `threads` threads that start together; returns the elapsed time until the
// last has ended. One thread means the calling one: glibc takes cheaper paths while a process has
// never had a second thread, and those are worth measuring.
template <class Work>
uint64_t elapsed_ns(unsigned threads, const Work& work) {
  if (threads == 1) {
    const uint64_t start_ns = now_ns();
    work(0u);
    return now_ns() - start_ns;
  }
  std::latch start(threads + 1);
  std::vector<std::thread> running;
  for (unsigned i = 0; i < threads; i++)
    running.emplace_back([&start, &work, i] {
      start.arrive_and_wait();
      work(i);
    });
  start.arrive_and_wait();
  const uint64_t start_ns = now_ns();
  for (std::thread& thread : running) thread.join();
  return now_ns() - start_ns;
}

inline unsigned cores_of(unsigned threads) {
  cpu_set_t set;
  const bool known = sched_getaffinity(0, sizeof set, &set) == 0;
  return std::min(threads, known ? static_cast<unsigned>(CPU_COUNT(&set)) : 1);
}

inline void report(uint64_t operations, uint64_t core_ns) {
  std::printf("{\"ns_per_op\": %.4f}\n",
              static_cast<double>(core_ns) / static_cast<double>(operations));
}

// Core time an operation, so that numbers with one and with many threads can be compared.
inline void report(uint64_t operations, unsigned threads, uint64_t elapsed) {
  report(operations, elapsed * cores_of(threads));
}

}  // namespace mprof::bench
