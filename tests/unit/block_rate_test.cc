// SPDX-License-Identifier: Apache-2.0
#include "preload/block_rate.h"

#include <cmath>
#include <functional>
#include <random>

#include "format/weights.h"
#include "tests/unit/catch.h"

namespace mprof::preload {
namespace {

constexpr uint64_t kMicrosecond = 1000;
constexpr uint64_t kMillisecond = 1000000;
constexpr uint64_t kSecond = 1000000000;
constexpr uint64_t kSetNs = 100 * kMicrosecond;

struct Recorded {
  uint64_t records = 0;
  uint64_t waits = 0;
  double weighed_waits = 0;
  double weighed_ns = 0;
  double true_ns = 0;
};

// A thread's waits, each as long as `next_ns` says, and a microsecond between them; drawn as
// docs/sampling.md says.
Recorded simulate(uint64_t length_ns, uint64_t busiest_ns, const std::function<uint64_t()>& next_ns,
                  BlockRate* rate) {
  static std::mt19937_64 random(5);
  std::uniform_real_distribution<double> uniform(0, 1);
  Recorded recorded;
  uint64_t last_record = 0;
  for (uint64_t now = kSecond; now < kSecond + length_ns; now += kMicrosecond) {
    const uint64_t waited = next_ns();
    now += waited;
    ++recorded.waits;
    recorded.true_ns += static_cast<double>(waited);
    const uint64_t drawn_with = rate->ns(kSetNs);
    if (uniform(random) >= static_cast<double>(waited) / static_cast<double>(drawn_with)) continue;
    const double weight = static_cast<double>(format::wait_weight(waited, drawn_with)) /
                          static_cast<double>(format::kWeightOne);
    ++recorded.records;
    recorded.weighed_waits += weight;
    recorded.weighed_ns += weight * static_cast<double>(waited);
    rate->note_record(kSetNs, busiest_ns, now - last_record < busiest_ns);
    last_record = now;
  }
  return recorded;
}

TEST_CASE("block rate: eight threads and fewer go to ten times what was set, to a millisecond") {
  CHECK(busiest_rate_ns(1000, 1) == 10000);
  CHECK(busiest_rate_ns(kSetNs, 8) == kMillisecond);
  CHECK(busiest_rate_ns(500 * kMicrosecond, 15) == kMillisecond);
  CHECK(busiest_rate_ns(20 * kMillisecond, 1) == 20 * kMillisecond);
  CHECK(busiest_rate_ns(kSetNs, 64) == 8 * kMillisecond);
}

TEST_CASE("block rate: a thread that seldom waits draws with the rate that was set") {
  BlockRate rate{};
  const Recorded seldom = simulate(
      10 * kSecond, kMillisecond,
      [once = 0]() mutable { return ++once % 2 == 0 ? kSetNs : 20 * kMillisecond; }, &rate);
  CHECK(rate.ns(kSetNs) < 2 * kSetNs);
  CHECK(seldom.records > seldom.waits * 9 / 10);
}

TEST_CASE("block rate: a thread that does nothing but wait records a bounded number of waits") {
  for (const uint64_t waited : {3 * kMicrosecond, 50 * kMicrosecond, 200 * kMicrosecond}) {
    BlockRate rate{};
    const Recorded busy = simulate(
        20 * kSecond, kMillisecond, [=] { return waited; }, &rate);
    INFO("waits of " << waited << " ns");
    CHECK(busy.records > 20 * 500);
    CHECK(busy.records < 20 * 1200);
  }
}

TEST_CASE("block rate: a busy thread that becomes idle draws with the rate that was set again") {
  BlockRate rate{};
  simulate(
      kSecond, kMillisecond, [] { return 5 * kMicrosecond; }, &rate);
  CHECK(rate.ns(kSetNs) > 8 * kSetNs);
  simulate(
      kSecond, kMillisecond, [] { return 30 * kMillisecond; }, &rate);
  CHECK(rate.ns(kSetNs) == kSetNs);
}

TEST_CASE("block rate: what a busy thread drew with is forgotten when another rate is set") {
  BlockRate rate{};
  simulate(
      kSecond, kMillisecond, [] { return 5 * kMicrosecond; }, &rate);
  for (const uint64_t set_ns : {kMicrosecond, 50 * kMillisecond}) CHECK(rate.ns(set_ns) == set_ns);
  rate.note_record(kMicrosecond, 10 * kMicrosecond, true);
  CHECK(rate.ns(kMicrosecond) == kMicrosecond * 9 / 8);
}

TEST_CASE("block rate: sums are unbiased while the rate goes up and down") {
  // Bursts of short waits, then long ones; the long ones are two thirds of the time.
  static std::mt19937_64 random(7);
  std::exponential_distribution<double> short_ns(1.0 / 5000);
  std::exponential_distribution<double> long_ns(1.0 / 300000);
  uint64_t n = 0;
  BlockRate rate{};
  const Recorded all = simulate(
      200 * kSecond, kMillisecond,
      [&] {
        const bool in_burst = n++ % 700 < 680;
        return 1 + static_cast<uint64_t>(in_burst ? short_ns(random) : long_ns(random));
      },
      &rate);
  CHECK(all.records > 20000);
  CHECK(std::fabs(all.weighed_ns / all.true_ns - 1) < 0.02);
  CHECK(std::fabs(all.weighed_waits / static_cast<double>(all.waits) - 1) < 0.05);
}

}  // namespace
}  // namespace mprof::preload
