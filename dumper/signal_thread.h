// SPDX-License-Identifier: Apache-2.0
// Which thread of a running target may be sent mprof's signal, and sending it.
//
// A handler runs in the target then. Some system calls return EINTR after any handler, SA_RESTART
// or not; a thread that sits in one is left alone, so that the program sees no EINTR which it would
// not see otherwise. Where /proc does not tell the call (another security module, ptrace_scope),
// the hooks do: a thread that they know to be in such a call is parked; see format/thread_table.h.
//
// Races     A thread may enter such a call, or the process end, between the look and the signal.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dumper/dump_reader.h"
#include "dumper/proc_threads.h"

namespace mprof::dumper {

// The row of a thread that has not ended; kNoRow: hooks do not know of it.
[[nodiscard]] uint32_t row_of_thread(const Dump& dump, uint32_t tid);

struct Refusal {
  std::string why;
  bool is_for_its_call = false;  // a signal would do no harm but EINTR
};
// Why it may not be signalled now; nothing if it may. `row`: its row, may be nullptr.
[[nodiscard]] std::optional<Refusal> refusal_of(const Dump& dump, const ProcThread& thread,
                                                const format::ThreadRow* row);
[[nodiscard]] std::optional<std::string> why_not_signal(const Dump& dump, uint32_t tid);

// Sends the signal to that thread, if the process is still the dump's. False: it is not there.
bool signal_thread(const Dump& dump, uint32_t tid);
// The same for who has just made sure of the process.
bool send_signal(const Dump& dump, uint32_t tid);

// The threads that may be signalled, those that answer soonest first: running, then waiting.
struct ThreadsToAsk {
  std::vector<uint32_t> tids;
  std::string why_none;  // of one of the others
  // On a processor, or ready to: what they block they may block for a moment.
  bool some_run = false;
};
[[nodiscard]] ThreadsToAsk threads_to_ask(const Dump& dump);

}  // namespace mprof::dumper
