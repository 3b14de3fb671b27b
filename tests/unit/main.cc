// SPDX-License-Identifier: Apache-2.0
// main() of every unit test program, for either version of Catch2.
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_RUNNER
#endif
#include "tests/unit/catch.h"

int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
