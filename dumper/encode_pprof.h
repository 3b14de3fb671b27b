// SPDX-License-Identifier: Apache-2.0
// Profile -> the gzip-compressed protobuf that pprof and its many readers take.
//
// Threads   any. Equal profiles give equal bytes (string order is the order of first use, the
//           gzip header has no time), so outputs can be compared and cached.
// Fails     std::invalid_argument for an inconsistent profile, std::runtime_error from zlib.
#pragma once

#include <string>

#include "dumper/profile.h"

namespace mprof::dumper {

[[nodiscard]] std::string encode_pprof(const Profile& profile);

// The same message without gzip.
[[nodiscard]] std::string encode_pprof_uncompressed(const Profile& profile);

}  // namespace mprof::dumper
