// SPDX-License-Identifier: Apache-2.0
// The dump as the target holds it: created, mapped, grown by chunks, cut at a clean end.
//
// Called by preload/lifecycle.cc and, through claim(), by whoever needs a row. Threads: any.
// Signals: safe. Allocates: from the kernel only. Blocks: a growing thread waits for the disk;
// the others go on while their table has room.
// Fails: create() says why on fd 2; claim_row() gives kNoRow. What that loses, a block, a wait or a
// label only, the caller counts.
//
// No descriptor is kept open: the program may close, count or inherit descriptors. To grow, the
// file is opened again by its absolute path and recognised by device and inode; after chroot or
// when it was removed that fails, and the tables stay as large as they are.
#pragma once

#include "format/bucket.h"
#include "format/config.h"
#include "format/count_bucket.h"
#include "format/label_table.h"
#include "format/live_table.h"
#include "format/module_table.h"
#include "format/profbuf.h"
#include "format/stack_table.h"
#include "format/table.h"
#include "format/thread_table.h"
#include "format/trace_ring.h"

namespace mprof::preload {

struct Tables {
  format::Table<format::StackNode> stack_nodes;
  format::Table<format::BucketRow> buckets;
  format::Table<format::CountRow> counts;
  format::Table<format::LiveRow> live;
  format::Table<format::ThreadRow> threads;
  format::Table<format::ModuleRow> modules;
  format::Table<format::LabelRow> labels;
  format::Table<char> strings;
  format::Table<format::CustomRow> customs;
  format::Table<format::ProfbufHead> profbufs;
  format::Table<char> profbuf_data;  // in bytes: row n of the profbufs begins at n * its size
  format::Table<format::ProfbufHead> trace_rings;
  format::Table<char> trace_data;  // in bytes: row n of the trace rings begins at n * its size
};

extern format::DumpHeader* header;  // nullptr while there is no dump
extern Tables tables;

// Makes the dump of this process. False: nothing is mapped, and a line on fd 2 said why.
bool create_dump(const format::Settings& settings);
// Forgets the parent's dump in a forked child: unmaps it without a write.
void abandon_dump();
// From now on rows that exist stay usable and new ones are declined.
void freeze_tables();
// After that, when no thread is inside any more: gives back what the file does not use.
void cut_dump();

const char* dump_path();
// The file, by its name, for reading and writing; -1 if that is no longer the dump's.
int reopen_dump();

// Moves DumpHeader::clock_last to now.
void update_clock();

// One more chunk for a table whose capacity the caller saw as `seen_capacity`; true also when
// another thread was faster. False if that cannot be had (now).
bool grow_table(format::TableId table, uint64_t seen_capacity);
// The same for who has no room at all: waits, for a bounded time, if another thread is growing one.
bool grow_full_table(format::TableId table, uint64_t seen_capacity);

void count_lost(format::Lost reason, uint64_t by = 1);

// A new row of a table, growing it when needed; kNoRow if it cannot be had.
template <class Row>
uint32_t claim_row(format::Table<Row>& table, format::TableId id, uint32_t count = 1) {
  const uint64_t capacity = table.capacity();
  const uint32_t row = table.claim_run(count);
  if (row != format::kNoRow) [[likely]] {
    if (table.nearly_full()) [[unlikely]]
      grow_table(id, capacity);
    return row;
  }
  return grow_full_table(id, capacity) ? table.claim_run(count) : format::kNoRow;
}

// Copies text into the string table; kNoRow if it is full.
uint32_t add_string(const char* text, uint32_t bytes);

}  // namespace mprof::preload
