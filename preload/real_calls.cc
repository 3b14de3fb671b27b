// SPDX-License-Identifier: Apache-2.0
#include "preload/real_calls.h"

#include "preload/look_up.h"

namespace mprof::preload {

extern "C" {

#define MPROF_DECLARE(result, name, ...) result mprof_stand_in_##name(__VA_ARGS__);
MPROF_CALL_FUNCTIONS(MPROF_DECLARE)
#undef MPROF_DECLARE

constinit RealCalls mprof_real_calls = {
#define MPROF_START(result, name, ...) mprof_stand_in_##name,
    MPROF_CALL_FUNCTIONS(MPROF_START)
#undef MPROF_START
};

[[gnu::used]] void mprof_fill_calls() {
#define MPROF_NAME(result, name, ...) #name "\0\0"
  fill_table(&mprof_real_calls, MPROF_CALL_FUNCTIONS(MPROF_NAME));
#undef MPROF_NAME
}

}  // extern "C"

#define MPROF_CODE(result, name, ...) MPROF_STAND_IN("mprof_fill_calls", #name)
asm(MPROF_STAND_INS_BEGIN("mprof_fill_calls", "mprof_real_calls") MPROF_CALL_FUNCTIONS(MPROF_CODE)
        MPROF_STAND_INS_END);
#undef MPROF_CODE

}  // namespace mprof::preload
