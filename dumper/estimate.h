// SPDX-License-Identifier: Apache-2.0
// Sums of weighed samples (format/weights.h) as estimates with a standard error.
//
// Counts have 16 fractional bits in the dump. They are rounded along the running sum, so the total
// of a profile is the rounded total and not a sum of rounding errors.
#pragma once

#include <cmath>
#include <cstdint>

#include "format/weights.h"

namespace mprof::dumper {

struct Estimate {
  double value = 0;
  double standard_error = 0;
};

// A hostile dump may hold any double.
inline double sane_variance(double variance) {
  return std::isfinite(variance) && variance > 0 ? variance : 0;
}

inline int64_t clamp_value(uint64_t value) {
  return value > uint64_t{INT64_MAX} ? INT64_MAX : static_cast<int64_t>(value);
}

inline double whole_count(uint64_t count) {
  return static_cast<double>(count) / static_cast<double>(format::kWeightOne);
}

// Adds up values and variances.
class EstimateSum {
 public:
  void add(double value, double variance) {
    value_ += value;
    variance_ += sane_variance(variance);
  }
  [[nodiscard]] Estimate estimate() const { return {value_, std::sqrt(variance_)}; }

 private:
  double value_ = 0;
  double variance_ = 0;
};

class CumulativeRounding {
 public:
  int64_t round(uint64_t count) {
    const uint64_t fraction = (count & (format::kWeightOne - 1)) + carry_;
    carry_ = fraction & (format::kWeightOne - 1);
    return clamp_value((count >> format::kWeightFractionBits) +
                       (fraction >> format::kWeightFractionBits));
  }

 private:
  uint64_t carry_ = format::kWeightOne / 2;
};

}  // namespace mprof::dumper
