// SPDX-License-Identifier: Apache-2.0
// Allocates much, in blocks of mixed sizes, and prints its truth as JSON: what a sampled profile
// is compared with. Every size takes the same number of bytes, so that each has enough samples at
// the default rate.
#include <malloc.h>

#include "tests/targets/truth.h"

namespace {

constexpr size_t kChurnBytes = 256u << 20;
constexpr size_t kLiveBytes = 256u << 20;

template <size_t size_bytes>
void churn(truth::Output& out) {
  constexpr uint64_t kObjects = kChurnBytes / size_bytes;
  for (uint64_t i = 0; i < kObjects; i++) free(truth::site<size_bytes>());
  truth::print_site(out, size_bytes, {kObjects, kObjects, 0}, false);
}

template <size_t size_bytes>
void keep(truth::Output& out, bool last) {
  constexpr uint64_t kObjects = kLiveBytes / size_bytes;
  static truth::Chain kept;  // reachable: the blocks live until the end
  for (uint64_t i = 0; i < kObjects; i++) kept.push(truth::site<size_bytes>());
  truth::print_site(out, size_bytes, {kObjects, 0, kObjects}, last);
}

}  // namespace

int main() {
  // Blocks of 1 MiB from the heap: mmap and munmap of each would take most of the time.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  truth::Output out;
  out.add("{\"sites\": {\n");
  churn<64>(out);
  churn<500>(out);
  churn<4000>(out);
  churn<60000>(out);
  churn<1000000>(out);
  keep<1024>(out, false);
  keep<16384>(out, false);
  keep<700000>(out, true);
  out.add("}}\n");
}
