// SPDX-License-Identifier: Apache-2.0
// Settings that a controller changes while the program runs.
#pragma once

namespace mprof::preload {

// Brings what a controller wants into force; called when it is another epoch than the applied one.
void notice_control();

}  // namespace mprof::preload
