// SPDX-License-Identifier: Apache-2.0
#include "preload/real_locks.h"

#include "preload/look_up.h"

namespace mprof::preload {

extern "C" {

#define MPROF_DECLARE(result, name, version, ...) result mprof_stand_in_##name(__VA_ARGS__);
MPROF_LOCK_FUNCTIONS(MPROF_DECLARE)
#undef MPROF_DECLARE

constinit RealLocks mprof_real_locks = {
#define MPROF_START(result, name, version, ...) mprof_stand_in_##name,
    MPROF_LOCK_FUNCTIONS(MPROF_START)
#undef MPROF_START
};

[[gnu::used]] void mprof_fill_locks() {
#define MPROF_NAME(result, name, version, ...) #name "\0" version "\0"
  fill_table(&mprof_real_locks, MPROF_LOCK_FUNCTIONS(MPROF_NAME));
#undef MPROF_NAME
}

}  // extern "C"

#define MPROF_CODE(result, name, ...) MPROF_STAND_IN("mprof_fill_locks", #name)
asm(MPROF_STAND_INS_BEGIN("mprof_fill_locks", "mprof_real_locks") MPROF_LOCK_FUNCTIONS(MPROF_CODE)
        MPROF_STAND_INS_END);
#undef MPROF_CODE

}  // namespace mprof::preload
