// SPDX-License-Identifier: Apache-2.0
#include "preload/modules.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <atomic>

#include "preload/clock.h"
#include "preload/dump_file.h"
#include "preload/low.h"
#include "preload/spin.h"
#include "preload/sys.h"

extern "C" {
__attribute__((weak)) int _dl_find_object(void*, dl_find_object*);
// This library's own first and last byte, set by the linker.
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));
}

namespace mprof::preload {
namespace {

using format::kNoRow;
using format::ModuleRow;

// The objects loaded now, found by the start of their mapping. Slots are filled under `writing`
// and published by `start`; a closed one keeps its place with `map` null.
struct Slot {
  std::atomic<uintptr_t> start;
  std::atomic<const void*> map;  // the loader's link_map
  std::atomic<uint32_t> row;
};
constexpr uint32_t kSlots = 8192;
constexpr uint32_t kMaxObjects = kSlots / 2;
Slot slots[kSlots];
uint32_t slots_used;
std::atomic<bool> writing;
std::atomic<uint32_t> epoch{1};

struct Object {
  uintptr_t start;
  uintptr_t end;
  const link_map* map;
};
Object loader;

bool find_object(uintptr_t pc, Object* out) {
  dl_find_object found;
  if (_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0) return false;
  *out = {reinterpret_cast<uintptr_t>(found.dlfo_map_start),
          reinterpret_cast<uintptr_t>(found.dlfo_map_end), found.dlfo_link_map};
  return true;
}

uint32_t slot_hash(uintptr_t start) { return static_cast<uint32_t>(mix(start)) & (kSlots - 1); }

// The slot with `start`, or the first empty one after its place; nullptr when all are taken.
Slot* slot_of(uintptr_t start) {
  for (uint32_t i = 0; i < kSlots; ++i) {
    Slot& slot = slots[(slot_hash(start) + i) & (kSlots - 1)];
    const uintptr_t seen = slot.start.load(std::memory_order_acquire);
    if (seen == start || seen == 0) return &slot;
  }
  return nullptr;
}

uint32_t row_if_known(const Object& object) {
  const Slot* slot = slot_of(object.start);
  if (slot == nullptr || slot->start.load(std::memory_order_relaxed) == 0) return kNoRow;
  if (slot->map.load(std::memory_order_acquire) != object.map) return kNoRow;
  return slot->row.load(std::memory_order_relaxed);
}

// The program headers lie in the object's first page, mapped with its ELF header; anything that
// looks otherwise is recorded without segment and build id.
const ElfW(Phdr) * program_headers(const Object& object, size_t* count) {
  const auto* ehdr = reinterpret_cast<const ElfW(Ehdr)*>(object.start);
  *count = 0;
  if (memcmp(ehdr->e_ident, ELFMAG, SELFMAG) != 0) return nullptr;
  const size_t bytes = static_cast<size_t>(ehdr->e_phnum) * sizeof(ElfW(Phdr));
  if (ehdr->e_phentsize != sizeof(ElfW(Phdr)) || ehdr->e_phoff + bytes > format::kPageBytes)
    return nullptr;
  *count = ehdr->e_phnum;
  return reinterpret_cast<const ElfW(Phdr)*>(object.start + ehdr->e_phoff);
}

void read_build_id(const Object& object, const ElfW(Phdr) & notes, ModuleRow* row) {
  const uintptr_t begin = object.map->l_addr + notes.p_vaddr;
  const uintptr_t end = begin + notes.p_memsz;
  if (begin < object.start || end > object.end || end < begin) return;
  for (uintptr_t at = begin; at + sizeof(ElfW(Nhdr)) <= end;) {
    const auto* note = reinterpret_cast<const ElfW(Nhdr)*>(at);
    const uintptr_t name = at + sizeof *note;
    const uintptr_t data = name + ((note->n_namesz + 3u) & ~3u);
    at = data + ((note->n_descsz + 3u) & ~3u);
    if (at > end || at <= name) return;
    if (note->n_type != NT_GNU_BUILD_ID || note->n_namesz != 4 ||
        memcmp(reinterpret_cast<const void*>(name), "GNU", 4) != 0)
      continue;
    row->build_id_bytes =
        note->n_descsz < sizeof row->build_id ? note->n_descsz : sizeof row->build_id;
    memcpy(row->build_id, reinterpret_cast<const void*>(data), row->build_id_bytes);
    return;
  }
}

void read_segments(const Object& object, ModuleRow* row) {
  size_t count;
  const ElfW(Phdr)* headers = program_headers(object, &count);
  for (size_t i = 0; i < count; ++i) {
    const ElfW(Phdr)& header = headers[i];
    if (header.p_type == PT_LOAD && (header.p_flags & PF_X) != 0 && row->text_end == 0) {
      row->text_start = object.map->l_addr + header.p_vaddr;
      row->text_end = row->text_start + header.p_memsz;
      row->text_offset = header.p_offset;
    }
    if (header.p_type == PT_NOTE && row->build_id_bytes == 0) read_build_id(object, header, row);
  }
}

char path_text[4096];  // under `writing`; too large for a signal stack

void read_path(const Object& object, ModuleRow* row) {
  const char* name = object.map->l_name;
  if (name == nullptr || *name == '\0') {
    name = sys::readlink("/proc/self/exe", path_text, sizeof path_text);
  }
  row->path_bytes = static_cast<uint32_t>(strnlen(name, sizeof path_text));
  row->path = add_string(name, row->path_bytes);
  if (row->path == kNoRow) row->path_bytes = 0;
}

uint32_t make_row(const Object& object) {
  const uint32_t number = claim_row(tables.modules, format::TableId::kModules);
  if (number == kNoRow) return kNoRow;
  ModuleRow* row = tables.modules.at(number);
  row->end = object.end;
  row->load_bias = object.map->l_addr;
  row->first_seen_ticks = ticks();
  read_segments(object, row);
  read_path(object, row);
  row->start.store(object.start, std::memory_order_release);
  return number;
}

bool lock() {
  return spin_until([] { return !writing.exchange(true, std::memory_order_acquire); });
}
void unlock() { writing.store(false, std::memory_order_release); }

[[gnu::noinline, gnu::cold]] uint32_t register_object(const Object& object) {
  const ErrnoGuard keep_errno;
  if (!lock()) return kNoRow;
  uint32_t row = row_if_known(object);
  Slot* slot = slot_of(object.start);
  const bool is_new = slot != nullptr && slot->start.load(std::memory_order_relaxed) == 0;
  if (row == kNoRow && slot != nullptr && (!is_new || slots_used < kMaxObjects)) {
    row = make_row(object);
    slot->row.store(row, std::memory_order_relaxed);
    slot->map.store(row == kNoRow ? nullptr : object.map, std::memory_order_release);
    if (is_new) ++slots_used;
    slot->start.store(object.start, std::memory_order_release);
  }
  unlock();
  return row;
}

bool same_build_id(const Object& object, uint32_t number) {
  ModuleRow now{};
  read_segments(object, &now);
  const ModuleRow* then = tables.modules.at(number);
  return now.build_id_bytes == then->build_id_bytes &&
         memcmp(now.build_id, then->build_id, now.build_id_bytes) == 0;
}

void close_if_gone(Slot& slot) {
  const void* map = slot.map.load(std::memory_order_relaxed);
  if (map == nullptr) return;
  const uintptr_t start = slot.start.load(std::memory_order_relaxed);
  const uint32_t row = slot.row.load(std::memory_order_relaxed);
  Object now;
  if (find_object(start, &now) && now.start == start && now.map == map && same_build_id(now, row))
    return;
  slot.map.store(nullptr, std::memory_order_release);
  tables.modules.at(row)->unloaded_ticks.store(ticks(), std::memory_order_relaxed);
}

}  // namespace

uint32_t module_epoch() { return epoch.load(std::memory_order_acquire); }

bool modules_init() {
  if (_dl_find_object == nullptr) return false;
  find_object(getauxval(AT_BASE), &loader);
  return true;
}

bool in_own_library(uintptr_t pc) {
  return pc >= reinterpret_cast<uintptr_t>(__ehdr_start) && pc < reinterpret_cast<uintptr_t>(_end);
}
bool in_loader(uintptr_t pc) { return pc >= loader.start && pc < loader.end; }

uint32_t module_of(uintptr_t pc) {
  Object object;
  if (!find_object(pc, &object)) return kNoRow;
  const uint32_t row = row_if_known(object);
  return row != kNoRow ? row : register_object(object);
}

bool is_loaded(uint32_t row) {
  return row != kNoRow &&
         tables.modules.at(row)->unloaded_ticks.load(std::memory_order_relaxed) == 0;
}

void close_unloaded_modules() {
  if (!lock()) return;
  for (Slot& slot : slots)
    if (slot.start.load(std::memory_order_relaxed) != 0) close_if_gone(slot);
  unlock();
  epoch.fetch_add(1, std::memory_order_release);
}

void forget_modules() {
  for (Slot& slot : slots) {
    slot.map.store(nullptr, std::memory_order_relaxed);
    slot.start.store(0, std::memory_order_relaxed);
  }
  slots_used = 0;
  writing.store(false, std::memory_order_relaxed);
  epoch.fetch_add(1, std::memory_order_release);
}

}  // namespace mprof::preload
