// SPDX-License-Identifier: Apache-2.0
// malloc_micro --test pair|fixed|logmix|realloc|xfree [--threads N] [--ops TOTAL]
//
//   pair     malloc(64), touch, free: a thread-cache hit, the worst case for an interposer
//   fixed    16..512 bytes, 512 live blocks a thread, replaced at random
//   logmix   log-uniform 16 bytes..64 KiB, 512 live blocks a thread, replaced at random
//   realloc  a buffer grows from 16 bytes to 64 KiB by halves; one operation = one realloc
//   xfree    half of the threads allocate 16..512 bytes, the other half frees them
#include <array>
#include <atomic>
#include <cmath>
#include <memory>

#include "tests/bench/workload.h"

namespace mprof::bench {
namespace {

constexpr size_t kLiveBlocks = 512;
constexpr size_t kPairBytes = 64;
constexpr size_t kReallocLimitBytes = 65536;

// Drawn beforehand, so that neither exp2() nor a division is part of the loop that is timed.
std::array<uint32_t, 4096> sizes_bytes;

void draw_sizes(bool log_uniform) {
  Rng rng{42};
  for (uint32_t& size : sizes_bytes) {
    const double uniform = static_cast<double>(rng.next() >> 11) * 0x1p-53;
    size =
        log_uniform ? static_cast<uint32_t>(std::exp2(4.0 + 12.0 * uniform)) : 16 + rng.below(497);
  }
}

void pair(uint64_t operations) {
  for (uint64_t i = 0; i < operations; i++) {
    void* block = std::malloc(kPairBytes);
    touch(block, kPairBytes);
    std::free(block);
  }
}

void replace_at_random(uint64_t operations, unsigned seed) {
  std::array<void*, kLiveBlocks> live{};
  Rng rng{seed + 1};
  for (uint64_t i = 0; i < operations; i++) {
    const uint64_t bits = rng.next();
    void*& block = live[(bits >> 40) % kLiveBlocks];
    const size_t size = sizes_bytes[(bits >> 20) % sizes_bytes.size()];
    std::free(block);
    block = std::malloc(size);
    touch(block, size);
  }
  for (void* block : live) std::free(block);
}

void grow(uint64_t operations) {
  void* block = nullptr;
  size_t size = 16;
  for (uint64_t i = 0; i < operations; i++) {
    block = std::realloc(block, size);
    touch(block, size);
    size += size / 2;
    if (size <= kReallocLimitBytes) continue;
    std::free(block);
    block = nullptr;
    size = 16;
  }
  std::free(block);
}

// Blocks change threads by the parcel: one at a time, the cache line of the channel's indices would
// cost more than malloc and free do.
using Parcel = std::array<void*, 64>;

// From one producer to one consumer. Ordering: (A) head_ hands a parcel over, (B) tail_ gives the
// slot back; each side reads its own index relaxed because only it writes that one.
class Channel {
 public:
  bool push(const Parcel& parcel) {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    if (head - tail_.load(std::memory_order_acquire) == slots_.size()) return false;  // (B)
    slots_[head % slots_.size()] = parcel;
    head_.store(head + 1, std::memory_order_release);  // (A)
    return true;
  }

  bool pop(Parcel& parcel) {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail == head_.load(std::memory_order_acquire)) return false;  // (A)
    parcel = slots_[tail % slots_.size()];
    tail_.store(tail + 1, std::memory_order_release);  // (B)
    return true;
  }

 private:
  alignas(64) std::atomic<uint32_t> head_{0};
  alignas(64) std::atomic<uint32_t> tail_{0};
  alignas(64) std::array<Parcel, 16> slots_{};
};

void produce(Channel& channel, uint64_t parcels, unsigned seed) {
  Rng rng{seed + 7};
  for (uint64_t i = 0; i < parcels; i++) {
    Parcel parcel;
    for (void*& block : parcel) {
      const size_t size = sizes_bytes[rng.next() % sizes_bytes.size()];
      block = std::malloc(size);
      touch(block, size);
    }
    while (!channel.push(parcel)) sched_yield();
  }
}

void consume(Channel& channel, uint64_t parcels) {
  Parcel parcel;
  for (uint64_t i = 0; i < parcels; i++) {
    while (!channel.pop(parcel)) sched_yield();
    for (void* block : parcel) std::free(block);
  }
}

uint64_t run_xfree(unsigned threads, uint64_t operations) {
  const uint64_t parcels = operations / std::tuple_size_v<Parcel>;
  if (threads % 2 != 0) die("xfree needs an even number of", "threads");
  const auto channels = std::make_unique<Channel[]>(threads / 2);
  return elapsed_ns(threads, [&](unsigned i) {
    if (i % 2 == 0)
      produce(channels[i / 2], parcels, i);
    else
      consume(channels[i / 2], parcels);
  });
}

uint64_t run(std::string_view test, unsigned threads, uint64_t operations) {
  if (test == "pair") return elapsed_ns(threads, [=](unsigned) { pair(operations); });
  if (test == "fixed" || test == "logmix")
    return elapsed_ns(threads, [=](unsigned i) { replace_at_random(operations, i); });
  if (test == "realloc") return elapsed_ns(threads, [=](unsigned) { grow(operations); });
  if (test == "xfree") return run_xfree(threads, operations);
  die("unknown test", test);
}

}  // namespace
}  // namespace mprof::bench

int main(int argc, char** argv) {
  using namespace mprof::bench;
  const Options options(argc, argv, {"--test", "--threads", "--ops"});
  pin_as_asked();
  const std::string_view test = options.text("--test", "pair");
  const auto threads = static_cast<unsigned>(options.number("--threads", 1));
  const unsigned allocating = test == "xfree" ? threads / 2 : threads;
  const uint64_t each = options.number("--ops", 1000000) / std::max(allocating, 1u) + 1;
  draw_sizes(test == "logmix");
  const uint64_t elapsed = run(test, threads, each);
  report(each * allocating, threads, elapsed);
}
