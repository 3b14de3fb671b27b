// SPDX-License-Identifier: Apache-2.0
#include "preload/unwind_object.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstddef>
#include <cstring>

extern "C" [[gnu::weak]] int _dl_find_object(void* address, dl_find_object* result) noexcept;

namespace mprof::preload {

namespace {

constexpr size_t kPageBytes = 4096;

bool find_object(uintptr_t address, dl_find_object& object) {
  return can_find_objects() && _dl_find_object(reinterpret_cast<void*>(address), &object) == 0;
}

// The program headers, where the first segment starts with the ELF header, as linkers make it.
// They are read within one page: the least that a mapped segment has.
const Elf64_Phdr* program_headers(const dl_find_object& object, size_t& count) {
  const auto* base = static_cast<const unsigned char*>(object.dlfo_map_start);
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(base);
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return nullptr;
  if (header->e_phentsize != sizeof(Elf64_Phdr)) return nullptr;
  count = header->e_phnum;
  if (header->e_phoff > kPageBytes - count % kPageBytes) return nullptr;
  if (header->e_phoff + count * sizeof(Elf64_Phdr) > kPageBytes) return nullptr;
  if (header->e_phoff % alignof(Elf64_Phdr) != 0) return nullptr;
  return reinterpret_cast<const Elf64_Phdr*>(base + header->e_phoff);
}

// An object's range may have holes without access between its segments, so what is readable from
// `address` on goes to its own segment's end. Empty: not in a readable segment.
Bytes readable_from(const dl_find_object& object, uintptr_t address) {
  size_t count = 0;
  const Elf64_Phdr* segments = program_headers(object, count);
  if (segments == nullptr) return {};
  const uintptr_t bias = object.dlfo_link_map->l_addr;
  for (const Elf64_Phdr* segment = segments; segment != segments + count; ++segment) {
    if (segment->p_type != PT_LOAD || (segment->p_flags & PF_R) == 0) continue;
    const uintptr_t offset = address - (bias + segment->p_vaddr);
    if (offset >= segment->p_filesz) continue;
    const auto* begin = reinterpret_cast<const uint8_t*>(address);
    return {begin, begin + (segment->p_filesz - offset)};
  }
  return {};
}

}  // namespace

bool can_find_objects() { return _dl_find_object != nullptr; }

bool is_in_object(uintptr_t address) {
  dl_find_object object;
  return find_object(address, object);
}

ObjectLookup find_eh_frame(uintptr_t address, EhFrameTable& table) {
  dl_find_object object;
  if (!find_object(address, object)) return ObjectLookup::kNoObject;
  table.header = readable_from(object, reinterpret_cast<uintptr_t>(object.dlfo_eh_frame));
  if (table.header.begin == nullptr) return ObjectLookup::kNoTable;
  table.frames = readable_from(object, eh_frame_address(table.header));
  return table.frames.begin == nullptr ? ObjectLookup::kNoTable : ObjectLookup::kFound;
}

}  // namespace mprof::preload
