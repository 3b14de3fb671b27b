// SPDX-License-Identifier: Apache-2.0
// Catch2 as the distribution has it: one header in version 2, many in version 3.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
