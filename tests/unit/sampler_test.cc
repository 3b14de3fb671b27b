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
void begin(uint64_t rate, uint64_t seed) {
  self.steps_until_sample = 0;
  self.random = 0;
  heap_rate = rate;
  seed_sampler(seed);
}

bool is_sampled(uint64_t size) { return crosses_sampling_point(size) && sample_due(size); }

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

Sums estimate(uint64_t rate, uint64_t blocks) {
  Sums sums;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t size = size_of_block(i);
    if (is_sampled(size)) sums.add(size, format::sample_weight(size, rate));
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
    const Sums sums = estimate(rate, kBlocks);
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
    const Sums sums = estimate(kRate, kFew);
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
    self.steps_until_sample = 0;
    self.random = 0;
    seen += is_sampled(kSize) ? 1 : 0;
  }
  const double p = 1 - std::exp(-(kSize + 1.0) / kRate);
  CHECK(std::fabs(seen - kThreads * p) < 4 * std::sqrt(kThreads * p * (1 - p)));
}

TEST_CASE("sampler: asking first and stepping then is the same as doing both at once") {
  begin(4096, 9);
  (void)is_sampled(1);
  for (uint64_t i = 0; i < 10000; ++i) {
    const uint64_t before = self.steps_until_sample;
    const bool would = would_cross_sampling_point(i % 700);
    take_steps(i % 700);
    const uint64_t after = self.steps_until_sample;
    self.steps_until_sample = before;
    REQUIRE(crosses_sampling_point(i % 700) == would);
    REQUIRE(self.steps_until_sample == after);
    if (would) (void)sample_due(i % 700);
  }
}

TEST_CASE("sampler: the largest size there is takes no step") {
  begin(524288, 9);
  (void)is_sampled(1);
  const uint64_t before = self.steps_until_sample;
  CHECK_FALSE(crosses_sampling_point(SIZE_MAX));
  CHECK(self.steps_until_sample == before);
}

TEST_CASE("sampler: stopped means no crossing again, asked again means the next one") {
  begin(524288, 9);
  stop_sampling();
  for (int i = 0; i < 1000; ++i) REQUIRE_FALSE(crosses_sampling_point(uint64_t{1} << 40));
  ask_again();
  CHECK(crosses_sampling_point(0));
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
