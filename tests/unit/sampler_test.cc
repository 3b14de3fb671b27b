// SPDX-License-Identifier: Apache-2.0
#include "preload/sampler.h"

#include <cmath>
#include <thread>
#include <vector>

#include "format/weights.h"
#include "tests/unit/catch.h"

namespace mprof::preload {
namespace {

// A thread as it begins its life, with the given seed and rate.
void begin_thread() {
  self.steps_until_look = 0;
  self.steps_beyond = 0;
  self.drawn_rate = 0;
  self.random = 0;
}

void begin(uint64_t rate, uint64_t seed) {
  begin_thread();
  heap_rate = rate;
  seed_sampler(seed);
}

// The rate with which a block was sampled, 0 if it was not.
uint64_t rate_of(uint64_t size) { return leaves_piece(size) ? sampled_rate(size) : 0; }
bool is_sampled(uint64_t size) { return rate_of(size) != 0; }

struct Sums {
  double objects = 0;
  double bytes = 0;
  double objects_variance = 0;
  double bytes_variance = 0;
  uint64_t samples = 0;

  void add(uint64_t size, uint64_t weight) {
    const double factor = format::variance_factor(weight);
    objects += static_cast<double>(weight) / format::kWeightOne;
    bytes += static_cast<double>(format::weighted_bytes(size, weight));
    objects_variance += factor;
    bytes_variance += static_cast<double>(size) * static_cast<double>(size) * factor;
    ++samples;
  }
};

// Sizes that a program mixes: many small ones, some of kilobytes, a few large ones.
uint64_t size_of_block(uint64_t i) {
  if (i % 1000 == 0) return 1 << 20;
  if (i % 50 == 0) return 16 << 10;
  return i * 37 % 500;
}

constexpr uint64_t kBlocks = 1000000;

Sums estimate(uint64_t blocks) {
  Sums sums;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t size = size_of_block(i);
    if (const uint64_t rate = rate_of(size)) sums.add(size, format::sample_weight(size, rate));
  }
  return sums;
}

Sums truth_of(uint64_t blocks) {
  Sums sums;
  for (uint64_t i = 0; i < blocks; ++i) sums.add(size_of_block(i), format::kWeightOne);
  return sums;
}

TEST_CASE("sampler: a million blocks of mixed sizes are estimated within four standard errors") {
  const Sums truth = truth_of(kBlocks);
  for (const uint64_t rate : {512ull, 8192ull, 524288ull}) {
    begin(rate, 11);
    const Sums sums = estimate(kBlocks);
    INFO("rate " << rate << ", samples " << sums.samples);
    CHECK(std::fabs(sums.objects - truth.objects) < 4 * std::sqrt(sums.objects_variance));
    CHECK(std::fabs(sums.bytes - truth.bytes) < 4 * std::sqrt(sums.bytes_variance));
  }
}

TEST_CASE("sampler: over many runs there is no bias, and the variance that is claimed is true") {
  constexpr int kRuns = 400;
  constexpr uint64_t kFew = 4000;
  constexpr uint64_t kRate = 16384;
  const Sums truth = truth_of(kFew);
  double error = 0;
  double squares = 0;
  double claimed = 0;
  for (int run = 0; run < kRuns; ++run) {
    begin(kRate, 1000 + run);
    const Sums sums = estimate(kFew);
    error += sums.objects - truth.objects;
    squares += (sums.objects - truth.objects) * (sums.objects - truth.objects);
    claimed += sums.objects_variance;
  }
  CHECK(std::fabs(error / kRuns) < 4 * std::sqrt(claimed / kRuns / kRuns));
  // The spread of a variance estimated from 400 runs is about 10 %.
  CHECK(std::fabs(squares / claimed - 1) < 0.4);
}

TEST_CASE("sampler: rate 1 samples every block, also empty ones") {
  begin(1, 3);
  for (uint64_t i = 0; i < 10000; ++i) REQUIRE(is_sampled(i % 3));
}

TEST_CASE("sampler: rate 2 can see an empty block and can miss one") {
  begin(2, 3);
  uint64_t seen = 0;
  for (int i = 0; i < 10000; ++i) seen += is_sampled(0) ? 1 : 0;
  const double p = 1 - std::exp(-0.5);
  CHECK(std::fabs(static_cast<double>(seen) - 10000 * p) < 4 * std::sqrt(10000 * p * (1 - p)));
}

TEST_CASE("sampler: a new thread's first block is sampled no more often than any other") {
  constexpr int kThreads = 20000;
  constexpr uint64_t kSize = 1023;
  constexpr uint64_t kRate = 4096;
  seed_sampler(5);
  heap_rate = kRate;
  int seen = 0;
  for (int i = 0; i < kThreads; ++i) {
    begin_thread();
    seen += is_sampled(kSize) ? 1 : 0;
  }
  const double p = 1 - std::exp(-(kSize + 1.0) / kRate);
  CHECK(std::fabs(seen - kThreads * p) < 4 * std::sqrt(kThreads * p * (1 - p)));
}

TEST_CASE("sampler: the largest size there is takes no step") {
  begin(524288, 9);
  (void)is_sampled(1);
  const uint64_t before = self.steps_until_look;
  CHECK_FALSE(leaves_piece(SIZE_MAX));
  CHECK(self.steps_until_look == before);
}

TEST_CASE("sampler: stopped means that no allocation takes the slow path again") {
  begin(524288, 9);
  stop_sampling();
  for (int i = 0; i < 1000; ++i) REQUIRE_FALSE(leaves_piece(uint64_t{1} << 40));
}

TEST_CASE("sampler: looking soon means the next allocation, and does not move the sampling point") {
  begin(uint64_t{1} << 30, 9);
  (void)is_sampled(1);
  const uint64_t left = self.steps_until_look + self.steps_beyond;
  look_soon();
  REQUIRE(leaves_piece(0));
  CHECK(sampled_rate(0) == 0);
  CHECK(self.steps_until_look + self.steps_beyond == left - 1);
}

TEST_CASE("sampler: a thread looks once in a mebibyte, at any rate and when it is off") {
  for (const uint64_t rate : {uint64_t{0}, uint64_t{1} << 20, uint64_t{1} << 40}) {
    begin(rate, 9);
    uint64_t looks = 0;
    for (int i = 0; i < 100 * 1024; ++i) {
      if (!leaves_piece(1023)) continue;
      ++looks;
      (void)sampled_rate(1023);
    }
    INFO("rate " << rate);
    CHECK(looks >= 100);
    CHECK(looks <= (rate == uint64_t{1} << 20 ? 300 : 101));
  }
}

TEST_CASE("sampler: a handler that took steps across the point leaves it where it is") {
  begin(1 << 20, 9);
  (void)is_sampled(1);
  REQUIRE(leaves_piece(kPieceSteps));
  self.steps_until_look -= 3 * kPieceSteps;  // before the slow half came to draw
  self.steps_beyond = 0;
  CHECK(sampled_rate(kPieceSteps) == 1 << 20);
  CHECK(self.steps_until_look <= kPieceSteps);
}

// The rate goes through all of these, at blocks that have nothing to do with sampling points; half
// of the changes are told to the thread at once, as by a signal.
struct Change {
  uint64_t at_block;
  uint64_t rate;
};
constexpr Change kChanges[] = {{0, 16384},      {700, 262144}, {1300, 4096},
                               {2000, 1 << 22}, {3100, 8192},  {3700, 65536}};

Sums estimate_across_changes(uint64_t blocks) {
  Sums sums;
  const Change* next = kChanges;
  for (uint64_t i = 0; i < blocks; ++i) {
    if (next != std::end(kChanges) && next->at_block == i) {
      heap_rate = next->rate;
      if ((next++ - kChanges) % 2 == 1) notice_heap_rate();
    }
    const uint64_t size = size_of_block(i);
    if (const uint64_t rate = rate_of(size)) sums.add(size, format::sample_weight(size, rate));
  }
  return sums;
}

TEST_CASE("sampler: changes of the rate bias nothing") {
  constexpr int kRuns = 20000;
  constexpr uint64_t kFew = 4000;
  const Sums truth = truth_of(kFew);
  Sums sums;
  for (int run = 0; run < kRuns; ++run) {
    begin(kChanges[0].rate, 5000 + run);
    const Sums one = estimate_across_changes(kFew);
    sums.objects += one.objects;
    sums.bytes += one.bytes;
    sums.objects_variance += one.objects_variance;
    sums.bytes_variance += one.bytes_variance;
  }
  CHECK(std::fabs(sums.objects - kRuns * truth.objects) < 4 * std::sqrt(sums.objects_variance));
  CHECK(std::fabs(sums.bytes - kRuns * truth.bytes) < 4 * std::sqrt(sums.bytes_variance));
  // Tight enough to see that a block in which an old point lies must count with the old rate.
  CHECK(std::sqrt(sums.bytes_variance) < 0.004 * kRuns * truth.bytes);
}

TEST_CASE("sampler: off records nothing, and on again records from where the thread looks") {
  begin(4096, 21);
  (void)estimate(1000);
  heap_rate = 0;
  notice_heap_rate();
  CHECK(estimate(100000).samples == 0);
  heap_rate = 4096;
  notice_heap_rate();
  const Sums truth = truth_of(kBlocks);
  const Sums sums = estimate(kBlocks);
  CHECK(std::fabs(sums.bytes - truth.bytes) < 4 * std::sqrt(sums.bytes_variance));
  CHECK(std::fabs(sums.objects - truth.objects) < 4 * std::sqrt(sums.objects_variance));
}

std::vector<uint64_t> sampled_blocks(uint64_t seed) {
  begin(4096, seed);
  std::vector<uint64_t> sampled;
  for (uint64_t i = 0; i < 20000; ++i)
    if (is_sampled(size_of_block(i))) sampled.push_back(i);
  return sampled;
}

TEST_CASE("sampler: the same seed gives the same samples, another one others") {
  CHECK(sampled_blocks(42) == sampled_blocks(42));
  CHECK(sampled_blocks(42) != sampled_blocks(43));
}

TEST_CASE("sampler: two threads do not sample in step") {
  begin(4096, 42);
  std::vector<uint64_t> first;
  std::vector<uint64_t> second;
  const auto run = [](std::vector<uint64_t>& out) {
    for (uint64_t i = 0; i < 20000; ++i)
      if (is_sampled(100)) out.push_back(i);
  };
  std::thread(run, std::ref(first)).join();
  std::thread(run, std::ref(second)).join();
  CHECK(first.size() > 100);
  CHECK(first != second);
}

}  // namespace
}  // namespace mprof::preload
