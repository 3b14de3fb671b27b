// SPDX-License-Identifier: Apache-2.0
// A pprof file of any writer -> Profile. For `mprof diff` and `mprof merge`, and tests.
//
// Takes     gzip or plain protobuf; repeated numbers packed or not; ids in any order and size;
//           fields of later versions (skipped).
// Trust     none. Each count, id and index is checked, and memory is bounded by DecodeLimits
//           whatever the bytes say.
// Fails     DecodeError with one line: what is wrong, and at which byte of the decompressed data.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>

#include "dumper/profile.h"

namespace mprof::dumper {

struct DecodeLimits {
  uint64_t decompressed_bytes = uint64_t{1} << 30;
  // Of the Profile, estimated. Needed besides the first limit: a string may be named by many rows,
  // and an empty row takes two bytes in the file but a hundred in memory.
  uint64_t profile_bytes = uint64_t{4} << 30;
  // Nor more than these multiples of what was packed, and of what it unpacks to; small files are
  // let off. Profiles of real programs stay below a tenth of them.
  uint64_t free_bytes = uint64_t{64} << 20;
  uint64_t most_unpacked_to_one = 100;
  uint64_t most_memory_to_one = 100;
};

class DecodeError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[nodiscard]] Profile decode_pprof(std::string_view bytes, const DecodeLimits& limits = {});

}  // namespace mprof::dumper
