// SPDX-License-Identifier: Apache-2.0
// Hostile bytes as a profile of another writer: `mprof diff` and `mprof merge`.
#include <stdexcept>

#include "dumper/decode_pprof.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/use_dump.h"

namespace {

using namespace mprof::dumper;  // NOLINT: a test of that namespace

void combine(const Profile& profile) {
  ProfileSum sum;
  sum.add(profile);
  sum.add(profile);
  Profile twice = sum.take();
  mprof::fuzz::use_profile(twice, HeapView::kHeap);
  (void)encode_pprof(subtract(twice, profile, SubtractMode::kMarkBase));
  (void)scale_to_total(twice, profile);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const Profile profile = decode_pprof(bytes);
    mprof::fuzz::understood();
    (void)decode_pprof(encode_pprof(profile));
    combine(profile);
  } catch (const DecodeError&) {
    return 0;
  } catch (const std::invalid_argument&) {
    return 0;  // profiles that cannot be combined, or have no values to show
  }
  return 0;
}
