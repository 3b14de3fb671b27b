// SPDX-License-Identifier: Apache-2.0
#include "preload/control.h"

namespace mprof::preload {

void notice_control() {}

}  // namespace mprof::preload
