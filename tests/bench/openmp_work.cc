// SPDX-License-Identifier: Apache-2.0
// openmp_work STEPS: a grid that is smoothed by all threads, with barriers between the steps, and
// what they see there counted under locks: std::mutex, omp_lock_t and a critical section.
#include <omp.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

namespace {

constexpr int kSide = 256;
using Grid = std::vector<double>;

double& cell(Grid& grid, int row, int column) {
  return grid[static_cast<size_t>(row * kSide + column)];
}

class Histogram {
 public:
  void add(double value) {
    Bin& bin = bins_[static_cast<size_t>(value * 15.99)];
    const std::lock_guard guard(bin.mutex);
    bin.count++;
  }
  long total() const {
    long sum = 0;
    for (const Bin& bin : bins_) sum += bin.count;
    return sum;
  }

 private:
  struct alignas(64) Bin {
    std::mutex mutex;
    long count = 0;
  };
  std::array<Bin, 16> bins_;
};

struct Extremes {
  Extremes() { omp_init_lock(&lock); }
  ~Extremes() { omp_destroy_lock(&lock); }
  omp_lock_t lock;
  double highest = 0;
  double change = 0;
};

void smooth_row(Grid& from, Grid& to, int row, Histogram& histogram, Extremes& extremes) {
  double change = 0;
  for (int column = 1; column < kSide - 1; column++) {
    const double mean = (cell(from, row - 1, column) + cell(from, row + 1, column) +
                         cell(from, row, column - 1) + cell(from, row, column + 1)) /
                        4;
    change += std::fabs(mean - cell(from, row, column));
    cell(to, row, column) = mean;
    if (column % 8 == 0) histogram.add(mean);
  }
  omp_set_lock(&extremes.lock);
  extremes.highest = std::fmax(extremes.highest, cell(to, row, kSide / 2));
  omp_unset_lock(&extremes.lock);
#pragma omp critical
  extremes.change += change;
}

void smooth(Grid& grid, Grid& next, int steps, Histogram& histogram, Extremes& extremes) {
#pragma omp parallel
  for (int step = 0; step < steps; step++) {
#pragma omp for schedule(dynamic, 8)
    for (int row = 1; row < kSide - 1; row++) smooth_row(grid, next, row, histogram, extremes);
#pragma omp single
    std::swap(grid, next);
#pragma omp barrier
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int steps = argc == 2 ? std::atoi(argv[1]) : 0;
  if (steps <= 0) {
    std::fprintf(stderr, "usage: openmp_work STEPS\n");
    return 2;
  }
  Grid grid(kSide * kSide);
  for (size_t i = 0; i < grid.size(); i++) grid[i] = static_cast<double>(i * 7919 % 1000) / 1000;
  Grid next = grid;
  Histogram histogram;
  Extremes extremes;
  smooth(grid, next, steps, histogram, extremes);
  const long seen = static_cast<long>(steps) * (kSide - 2) * ((kSide - 2) / 8);
  std::printf("%ld %f %f\n", histogram.total(), extremes.highest, extremes.change);
  return histogram.total() == seen ? 0 : 1;
}
