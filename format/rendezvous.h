// SPDX-License-Identifier: Apache-2.0
// Control::released: how the threads that answer one request for stacks have met.
//
// The number of the request, and in the lowest bit whether one of them gave up waiting. Set once
// for each request, by a thread.
#pragma once

#include <cstdint>

namespace mprof::format {

constexpr uint32_t all_met(uint32_t request) { return request << 1; }
constexpr uint32_t gave_up(uint32_t request) { return request << 1 | 1; }
constexpr bool is_released(uint32_t released, uint32_t request) {
  return released >> 1 == (request & 0x7fffffff);
}

}  // namespace mprof::format
