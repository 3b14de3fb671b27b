// SPDX-License-Identifier: Apache-2.0
// malloc_threads --test larson|xmalloc [--threads N] [--ops TOTAL]
//
//   larson   every thread replaces random blocks of its array (16..1039 bytes); after a while it
//            ends and a new thread takes the array over, so blocks are freed by other threads than
//            allocated them and the profiler sees many short-lived threads
//   xmalloc  threads push batches of 120 blocks on shared stacks and free batches of others
#include <array>
#include <memory>
#include <mutex>

#include "tests/bench/workload.h"

namespace mprof::bench {
namespace {

constexpr size_t kLarsonBlocks = 256;
constexpr unsigned kGenerations = 4;
constexpr size_t kBatchBlocks = 120;

struct Array {
  std::array<void*, kLarsonBlocks> blocks{};
  uint64_t seed = 0;
};

void replace_blocks(Array& array, uint64_t operations) {
  Rng rng{array.seed};
  for (uint64_t i = 0; i < operations; i++) {
    const uint64_t bits = rng.next();
    void*& block = array.blocks[(bits >> 40) % kLarsonBlocks];
    const size_t size = 16 + (bits >> 16) % 1024;
    std::free(block);
    block = std::malloc(size);
    touch(block, size);
  }
  array.seed = rng.next();
}

void larson(Array& array, uint64_t operations, unsigned generations) {
  replace_blocks(array, operations);
  if (generations > 1) std::thread([&] { larson(array, operations, generations - 1); }).join();
}

void run_larson(unsigned threads, uint64_t total) {
  const auto arrays = std::make_unique<Array[]>(threads);
  const uint64_t each = total / threads / kGenerations + 1;
  const uint64_t elapsed = elapsed_ns(threads, [&](unsigned i) {
    arrays[i].seed = i + 1;
    larson(arrays[i], each, kGenerations);
  });
  for (unsigned i = 0; i < threads; i++)
    for (void* block : arrays[i].blocks) std::free(block);
  report(each * kGenerations * threads, threads, elapsed);
}

struct Batch {
  Batch* next = nullptr;
  std::array<void*, kBatchBlocks> blocks{};
};

Batch* make_batch(Rng& rng) {
  auto* batch = new Batch;
  for (void*& block : batch->blocks) {
    const size_t size = 16 + rng.below(400);
    block = std::malloc(size);
    touch(block, size);
  }
  return batch;
}

void free_batch(Batch* batch) {
  for (void* block : batch->blocks) std::free(block);
  delete batch;
}

class BatchStack {
 public:
  ~BatchStack() {
    while (Batch* batch = pop()) free_batch(batch);
  }

  void push(Batch* batch) {
    const std::lock_guard lock(mutex_);
    batch->next = top_;
    top_ = batch;
  }

  Batch* pop() {
    const std::lock_guard lock(mutex_);
    Batch* batch = top_;
    if (batch != nullptr) top_ = batch->next;
    return batch;
  }

 private:
  std::mutex mutex_;
  Batch* top_ = nullptr;
};

void run_xmalloc(unsigned threads, uint64_t total) {
  std::array<BatchStack, 16> stacks;
  const uint64_t batches = total / threads / kBatchBlocks + 1;
  const uint64_t elapsed = elapsed_ns(threads, [&](unsigned seed) {
    Rng rng{seed + 1};
    for (uint64_t i = 0; i < batches; i++) {
      stacks[rng.below(16)].push(make_batch(rng));
      if (Batch* other = stacks[rng.below(16)].pop()) free_batch(other);
    }
  });
  report(batches * kBatchBlocks * threads, threads, elapsed);
}

}  // namespace
}  // namespace mprof::bench

int main(int argc, char** argv) {
  using namespace mprof::bench;
  const Options options(argc, argv, {"--test", "--threads", "--ops"});
  pin_as_asked();
  const std::string_view test = options.text("--test", "larson");
  const auto threads = static_cast<unsigned>(options.number("--threads", 2));
  const uint64_t operations = options.number("--ops", 4000000);
  if (test == "larson")
    run_larson(threads, operations);
  else if (test == "xmalloc")
    run_xmalloc(threads, operations);
  else
    die("unknown test", test);
}
