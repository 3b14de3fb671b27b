// SPDX-License-Identifier: Apache-2.0
// A pprof file from disk, or from a pipe.
//
// Fails     std::system_error, or DecodeError that says what the file is not; both name it.
#pragma once

#include <string>

#include "dumper/profile.h"

namespace mprof::dumper {

[[nodiscard]] Profile read_pprof(const std::string& path);

}  // namespace mprof::dumper
