// SPDX-License-Identifier: Apache-2.0
// deep_stack [--depth 30|100] [--size BYTES] [--ops TOTAL]
//
// malloc + free below `depth` distinct functions with frames of different sizes; the stack is left
// and entered anew every 16 blocks, as a program that works would. Built twice: deep_stack_fp
// keeps frame pointers, deep_stack_nofp has none.
#include "tests/bench/workload.h"

namespace mprof::bench {
namespace {

constexpr uint64_t kBlocksPerDescent = 16;

size_t size_bytes = 256;
volatile int sink;

[[gnu::noinline]] void allocate() {
  for (uint64_t i = 0; i < kBlocksPerDescent; i++) {
    void* block = std::malloc(size_bytes);
    touch(block, 1);
    std::free(block);
  }
}

template <int depth>
[[gnu::noinline]] int descend(int value) {
  if constexpr (depth == 0) {
    allocate();
    sink = value;
    return value;
  } else {
    volatile char frame[16 + (depth % 7) * 16];
    frame[0] = static_cast<char>(value);
    const int result = descend<depth - 1>(value + depth);
    sink = result + frame[0];  // work after the call: not a tail call, which would have no frame
    return result + 1;
  }
}

}  // namespace
}  // namespace mprof::bench

int main(int argc, char** argv) {
  using namespace mprof::bench;
  const Options options(argc, argv, {"--depth", "--size", "--ops"});
  pin_as_asked();
  const uint64_t depth = options.number("--depth", 30);
  const uint64_t descents = options.number("--ops", 1000000) / kBlocksPerDescent + 1;
  size_bytes = options.number("--size", size_bytes);
  if (depth != 30 && depth != 100) die("--depth is 30 or 100, not", options.text("--depth", ""));
  int (*const enter)(int) = depth == 30 ? descend<30> : descend<100>;
  const uint64_t elapsed = elapsed_ns(1, [=](unsigned) {
    for (uint64_t i = 0; i < descents; i++) enter(static_cast<int>(i % 128));
  });
  report(descents * kBlocksPerDescent, 1, elapsed);
}
