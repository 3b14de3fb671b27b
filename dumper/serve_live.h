// SPDX-License-Identifier: Apache-2.0
// What /debug/pprof/ asks of the running process itself and not only of its dump: the stacks of its
// threads, a CPU profile of the next seconds, a trace.
//
// Fails     HttpError, as serve_profile.h.
#pragma once

#include "dumper/serve_profile.h"

namespace mprof::dumper {

// goroutine: every thread of the process.
[[nodiscard]] HttpResponse answer_threads(const HttpRequest& request, Dump& dump,
                                          SharedSymbols& symbols);
// profile: processor time of the next `seconds`, 30 if it was not said.
[[nodiscard]] HttpResponse answer_cpu(const HttpRequest& request, Dump& dump,
                                      SharedSymbols& symbols);
// trace: what each thread does in the next `seconds`, 1 if it was not said, for `go tool trace`.
[[nodiscard]] HttpResponse answer_trace(const HttpRequest& request, Dump& dump,
                                        SharedSymbols& symbols);

}  // namespace mprof::dumper
