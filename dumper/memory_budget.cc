// SPDX-License-Identifier: Apache-2.0
#include "dumper/memory_budget.h"

#include <fmt/format.h>

namespace mprof::dumper {

bool MemoryBudget::take(uint64_t bytes) {
  if (bytes <= left_) {
    left_ -= bytes;
    return true;
  }
  dump_.add_damage(fmt::format(
      "{} would take more memory than {} MiB and {} times the dump; the rest is left out", what_,
      kFreeBytes >> 20, kMostToOne));
  return false;
}

}  // namespace mprof::dumper
