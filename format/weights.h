// SPDX-License-Identifier: Apache-2.0
// What one heap sample stands for, and how far it is to the next one.
//
// A thread walks along the bytes it allocates; sampling points lie on that line as a Poisson
// process with a mean distance of `rate` bytes. A block of s bytes takes s + 1 steps (so that a
// block of 0 bytes can be seen too) and is sampled if a point lies on them:
//     p = 1 - exp(-(s + 1) / rate)
// It then stands for 1/p blocks and s/p bytes. Each sample is weighed by itself, so sums are
// unbiased whatever sizes a call site mixes. With rate 524288: 100 B stands for 5191 blocks,
// 512 KiB for 1.58, 4 MiB for 1.0003. Rate 1 means every block, with weight 1.
//
// Variance of the estimate (Horvitz-Thompson): the sum over samples of value^2 (1 - p) / p^2,
// that is, per sample, w (w - 1) blocks^2 and s^2 w (w - 1) bytes^2.
//
// Waits (block profile) are sampled by their length instead, see wait_weight(); how busy locks are
// thinned out for the mutex profile is in docs/sampling.md.
//
// The functions are own code because the target links libc only (exp and log live in libm).
#pragma once

#include <bit>
#include <cstdint>

namespace mprof::format {

// Weights are numbers of blocks with 16 fractional bits.
inline constexpr uint32_t kWeightFractionBits = 16;
inline constexpr uint64_t kWeightOne = uint64_t{1} << kWeightFractionBits;
// The weight of a part that is given back while the rest of its block stays: bytes, and no block.
inline constexpr uint64_t kBytesOnly = 0;
inline constexpr uint64_t kMaxHeapRate = uint64_t{1} << 40;

// Natural logarithm of x in (0, 1e308), error below 1e-12: with x = 2^e m and
// t = (m - 1) / (m + 1), ln m = 2 (t + t^3/3 + t^5/5 + ...).
constexpr double natural_log(double x) {
  const auto bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>((bits >> 52) & 0x7ff) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0x000fffffffffffff) | 0x3ff0000000000000);
  if (mantissa > 1.4142135623730951) {  // keeps |t| below 0.172
    mantissa *= 0.5;
    exponent += 1;
  }
  const double t = (mantissa - 1) / (mantissa + 1);
  const double t2 = t * t;
  double sum = 0;
  for (int k = 15; k >= 1; k -= 2) sum = sum * t2 + 1.0 / k;
  return 2 * t * sum + exponent * 0.6931471805599453;
}

// 1 - exp(-x) for x >= 0, relative error below 1e-12.
constexpr double one_minus_exp_neg(double x) {
  if (x > 40) return 1;
  // expm1 by its series on x / 2^k, then (1 - e^-2y) = (1 - e^-y)(2 - (1 - e^-y)).
  int halvings = 0;
  while (x > 0.25) {
    x *= 0.5;
    ++halvings;
  }
  double term = x;
  double result = 0;
  for (int n = 2; n <= 14; ++n) {
    result += term;
    term *= -x / n;
  }
  for (; halvings > 0; --halvings) result *= 2 - result;
  return result;
}

// Blocks that a sampled block of `size_bytes` stands for, in 1/65536 blocks.
constexpr uint64_t sample_weight(uint64_t size_bytes, uint64_t rate_bytes) {
  if (rate_bytes <= 1) return kWeightOne;
  const double steps = static_cast<double>(size_bytes) + 1;
  const double p = one_minus_exp_neg(steps / static_cast<double>(rate_bytes));
  return static_cast<uint64_t>(static_cast<double>(kWeightOne) / p + 0.5);
}

// What a value stands for: value * weight, rounded.
constexpr uint64_t weighted_value(uint64_t value, uint64_t weight) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(value) * weight;
  return static_cast<uint64_t>((product + kWeightOne / 2) >> kWeightFractionBits);
}

// The bytes of a block; of a part with kBytesOnly, its size.
constexpr uint64_t weighted_bytes(uint64_t size_bytes, uint64_t weight) {
  return weight == kBytesOnly ? size_bytes : weighted_value(size_bytes, weight);
}

// A wait of d ticks, drawn with `rate`, is recorded always if d >= rate, else with chance d / rate,
// and then stands for rate / d waits: so both the number of waits and their time are unbiased.
constexpr uint64_t wait_weight(uint64_t ticks, uint64_t rate_ticks) {
  if (ticks >= rate_ticks || ticks == 0) return kWeightOne;
  return static_cast<uint64_t>(static_cast<double>(kWeightOne) * static_cast<double>(rate_ticks) /
                                   static_cast<double>(ticks) +
                               0.5);
}

// A stretch of d ticks in which a point of a Poisson process with mean distance `mean_ticks` lies
// was met with p = 1 - exp(-d / mean), and stands for 1/p stretches.
constexpr uint64_t stretch_weight(uint64_t ticks, uint64_t mean_ticks) {
  if (mean_ticks == 0 || ticks == 0) return kWeightOne;
  const double p = one_minus_exp_neg(static_cast<double>(ticks) / static_cast<double>(mean_ticks));
  return static_cast<uint64_t>(static_cast<double>(kWeightOne) / p + 0.5);
}

// w (w - 1), the factor of both variances.
constexpr double variance_factor(uint64_t weight) {
  const double w = static_cast<double>(weight) / static_cast<double>(kWeightOne);
  return w * (w - 1);
}

// Steps to the next sampling point for a uniform random `random` (all 64 bits are used).
constexpr uint64_t draw_distance(uint64_t random, uint64_t rate_bytes) {
  const double uniform = (static_cast<double>(random >> 11) + 1) * 0x1.0p-53;  // (0, 1]
  return static_cast<uint64_t>(-natural_log(uniform) * static_cast<double>(rate_bytes));
}

static_assert(wait_weight(50, 200) == 4 * kWeightOne && wait_weight(200, 200) == kWeightOne);
static_assert(sample_weight(100, 1) == kWeightOne);
static_assert(sample_weight(4 << 20, 524288) < kWeightOne + 32);
static_assert(weighted_bytes(1000, kWeightOne) == 1000);
static_assert(weighted_bytes(1000, kBytesOnly) == 1000 && variance_factor(kBytesOnly) == 0);

}  // namespace mprof::format
