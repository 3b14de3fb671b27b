// SPDX-License-Identifier: Apache-2.0
// Label sets, interned: the writing side of format/label_table.h.
//
// Called by preload/contention.cc, hooks_process.cc. Threads: any. Signals: safe. Allocates: rows
// of the dump. Blocks: no. Fails: a label that has no room is left out, which is counted as
// Lost::kNotCounted.
#pragma once

#include "format/label_table.h"

namespace mprof::preload {

bool labels_init();
size_t labels_index_bytes();

// The program's labels in force in this thread, as the base of the label set of a sample. None,
// which is counted, when such sets take up their share of the table.
uint32_t base_labels();

enum class LabelName : uint32_t { kWait, kLock, kLockSite, kVictim, kStart, kCount };

// Each gives `set` with one more label.
uint32_t with_wait(uint32_t set, format::WaitKind kind);
// `in_module`: whether it lies in a loaded object.
uint32_t with_address(uint32_t set, LabelName name, const void* address, bool* in_module = nullptr);
uint32_t with_stack(uint32_t set, LabelName name, uint32_t stack);

}  // namespace mprof::preload
