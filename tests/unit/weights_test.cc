// SPDX-License-Identifier: Apache-2.0
#include "format/weights.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/unit/catch.h"

namespace mprof::format {
namespace {

double relative_error(double got, double truth) {
  return truth == 0 ? std::fabs(got) : std::fabs(got - truth) / std::fabs(truth);
}

TEST_CASE("weights: natural_log agrees with libm over the whole range of doubles") {
  double worst = 0;
  for (double x = std::numeric_limits<double>::min(); x < 1e308; x *= 1.0037)
    worst = std::max(worst, std::fabs(natural_log(x) - std::log(x)));
  CHECK(worst < 1e-12);
}

TEST_CASE("weights: natural_log keeps its digits around one, where the logarithm is small") {
  double worst = 0;
  for (double d = 1e-15; d < 0.5; d *= 1.1) {
    worst = std::max(worst, relative_error(natural_log(1 + d), std::log1p((1 + d) - 1)));
    worst = std::max(worst, relative_error(natural_log(1 - d), std::log1p((1 - d) - 1)));
  }
  CHECK(worst < 1e-12);
  CHECK(natural_log(1) == 0);
}

TEST_CASE("weights: one_minus_exp_neg agrees with libm from tiny to huge") {
  double worst = 0;
  for (double x = 1e-13; x < 100; x *= 1.0011)
    worst = std::max(worst, relative_error(one_minus_exp_neg(x), -std::expm1(-x)));
  CHECK(worst < 1e-12);
  CHECK(one_minus_exp_neg(0) == 0);
  CHECK(one_minus_exp_neg(1e300) == 1);
}

TEST_CASE("weights: a weight is the inverse of the chance to be sampled") {
  for (const uint64_t rate : {2ull, 64ull, 4096ull, 524288ull, 1ull << 30}) {
    for (const uint64_t size : {0ull, 1ull, 16ull, 100ull, 4096ull, 524288ull, 1ull << 32}) {
      const double p = -std::expm1(-(static_cast<double>(size) + 1) / static_cast<double>(rate));
      const double weight = static_cast<double>(sample_weight(size, rate)) / kWeightOne;
      INFO("rate " << rate << " size " << size);
      CHECK(relative_error(weight, 1 / p) < 1e-5);
    }
  }
}

TEST_CASE("weights: the numbers that the comment gives are true") {
  const auto blocks = [](uint64_t size) {
    return static_cast<double>(sample_weight(size, 524288)) / kWeightOne;
  };
  CHECK(std::lround(blocks(100)) == 5191);
  CHECK(relative_error(blocks(512 << 10), 1.582) < 0.001);
  CHECK(relative_error(blocks(4 << 20), 1.0003) < 0.0001);
}

TEST_CASE("weights: rate 1 and rate 0 give exactly one block whatever its size") {
  for (const uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 40, UINT64_MAX}) {
    CHECK(sample_weight(size, 1) == kWeightOne);
    CHECK(sample_weight(size, 0) == kWeightOne);
  }
  CHECK(variance_factor(kWeightOne) == 0);
}

TEST_CASE("weights: the largest rate and the largest block do not overflow") {
  CHECK(sample_weight(0, kMaxHeapRate) > kWeightOne * ((kMaxHeapRate >> 1) - 1));
  CHECK(sample_weight(0, kMaxHeapRate) < uint64_t{1} << 57);
  CHECK(sample_weight(UINT64_MAX, kMaxHeapRate) == kWeightOne);
  CHECK(weighted_bytes(uint64_t{1} << 47, kWeightOne) == uint64_t{1} << 47);
  CHECK(weighted_bytes(3, kWeightOne / 2) == 2);  // 1.5 is rounded up
}

TEST_CASE("weights: a part that is given back is bytes without a block and without variance") {
  CHECK(weighted_bytes(12288, kBytesOnly) == 12288);
  CHECK(variance_factor(kBytesOnly) == 0);
}

TEST_CASE("weights: distances are exponential with the rate as their mean") {
  constexpr int kDraws = 200000;
  constexpr double kRate = 524288;
  std::mt19937_64 random(7);
  std::vector<double> distances(kDraws);
  for (double& d : distances) d = static_cast<double>(draw_distance(random(), 524288));
  std::sort(distances.begin(), distances.end());
  double sum = 0;
  double gap = 0;  // Kolmogorov-Smirnov
  for (int i = 0; i < kDraws; ++i) {
    sum += distances[i];
    const double truth = -std::expm1(-distances[i] / kRate);
    gap = std::max({gap, std::fabs((i + 1.0) / kDraws - truth),
                    std::fabs(static_cast<double>(i) / kDraws - truth)});
  }
  CHECK(std::fabs(sum / kDraws - kRate) < 4 * kRate / std::sqrt(kDraws));
  CHECK(gap * std::sqrt(kDraws) < 1.95);  // exceeded by chance once in a thousand seeds
}

TEST_CASE("weights: a kept wait stands for as many as were as long, and for their time") {
  constexpr uint64_t kRate = 300'000;
  for (const uint64_t ticks : {1ull, 2ull, 999ull, 150'000ull, 299'999ull}) {
    INFO(ticks);
    const double chance = static_cast<double>(ticks) / kRate;
    const uint64_t weight = wait_weight(ticks, kRate);
    CHECK(std::fabs(static_cast<double>(weight) * chance / kWeightOne - 1) < 1e-4);
    // Each short wait that is kept adds the rate to the time, whatever its length.
    CHECK(std::fabs(static_cast<double>(weighted_value(ticks, weight)) - kRate) < 3);
  }
  for (const uint64_t ticks : {uint64_t{0}, kRate, kRate + 1, UINT64_MAX})
    CHECK(wait_weight(ticks, kRate) == kWeightOne);
  CHECK(wait_weight(1, 1) == kWeightOne);
}

TEST_CASE("weights: waits that are kept by their length add up to all waits, and all their time") {
  constexpr int kWaits = 400000;
  std::mt19937 random(3);
  for (const uint64_t rate : {2ull, 1000ull, 300'000ull, 10'000'000'000ull})
    for (const double share : {0.0005, 0.01, 0.3, 0.9, 1.0, 7.0}) {
      const auto ticks = static_cast<uint64_t>(share * static_cast<double>(rate));
      if (ticks == 0) continue;
      double waits = 0;
      double time = 0;
      for (int i = 0; i < kWaits; ++i) {
        // The decision of preload/contention.cc.
        const bool kept = ticks >= rate || weighted_value(rate, random()) >> 16 < ticks;
        if (!kept) continue;
        const uint64_t weight = wait_weight(ticks, rate);
        waits += static_cast<double>(weight) / kWeightOne / kWaits;
        time += static_cast<double>(weighted_value(ticks, weight)) / kWaits;
      }
      const double chance = std::min(1.0, static_cast<double>(ticks) / static_cast<double>(rate));
      const double error = std::sqrt((1 - chance) / chance / kWaits);
      INFO("rate " << rate << ", ticks " << ticks);
      CHECK(std::fabs(waits - 1) < 4 * error + 1e-5);
      CHECK(relative_error(time, static_cast<double>(ticks)) < 4 * error + 1e-5);
    }
}

TEST_CASE("weights: a stretch stands for the inverse of the chance to be met by a point") {
  for (const uint64_t mean : {100ull, 100'000ull, 1ull << 40})
    for (const double share : {1e-6, 0.001, 0.1, 1.0, 5.0, 60.0}) {
      const auto ticks = static_cast<uint64_t>(share * static_cast<double>(mean));
      if (ticks == 0) continue;
      const double p = -std::expm1(-static_cast<double>(ticks) / static_cast<double>(mean));
      INFO("mean " << mean << ", ticks " << ticks);
      CHECK(relative_error(static_cast<double>(stretch_weight(ticks, mean)) / kWeightOne, 1 / p) <
            1e-5);
    }
  CHECK(stretch_weight(0, 1000) == kWeightOne);
  CHECK(stretch_weight(1, 0) == kWeightOne);
  CHECK(stretch_weight(UINT64_MAX, 1000) == kWeightOne);
}

TEST_CASE("weights: the extreme random words give finite distances") {
  CHECK(draw_distance(UINT64_MAX, kMaxHeapRate) == 0);
  CHECK(draw_distance(0, kMaxHeapRate) < 37 * kMaxHeapRate);
  CHECK(draw_distance(0, kMaxHeapRate) > 36 * kMaxHeapRate);
}

}  // namespace
}  // namespace mprof::format
