// SPDX-License-Identifier: Apache-2.0
// Hostile bytes as .eh_frame_hdr and .eh_frame of a loaded library, as the walker inside the
// program reads them; and as DWARF expressions.
//
// They lie at one address, so that a finding can be repeated: tables speak of addresses. What is
// beside them cannot be read.
#include <sys/mman.h>

#include "preload/eh_frame.h"
#include "preload/unwind_expression.h"
#include "tests/fuzz/driver.h"

#ifdef __has_feature  // clang
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) (void)0
#define ASAN_UNPOISON_MEMORY_REGION(address, size) (void)0
#endif

namespace {

using namespace mprof::preload;  // NOLINT: a test of that namespace
using mprof::fuzz::Input;
using mprof::fuzz::require;

constexpr uintptr_t kPlace = 0x200000000000;
constexpr size_t kMostBytes = 1 << 16;

// Their last byte is the last one of the page.
uint8_t* place(std::string_view bytes) {
  static uint8_t* const area = [] {
    void* got = mmap(reinterpret_cast<void*>(kPlace), 2 * kMostBytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    require(got == reinterpret_cast<void*>(kPlace) &&
            mprotect(got, kMostBytes, PROT_READ | PROT_WRITE) == 0);
    return static_cast<uint8_t*>(got);
  }();
  ASAN_UNPOISON_MEMORY_REGION(area, kMostBytes);
  uint8_t* begin = area + kMostBytes - bytes.size();
  memcpy(begin, bytes.data(), bytes.size());
  ASAN_POISON_MEMORY_REGION(area, kMostBytes - bytes.size());
  return begin;
}

void evaluate(const Registers& at, const RowEntry& entry, uintptr_t cfa) {
  if (entry.place != Place::kExpression && entry.place != Place::kValExpression) return;
  uintptr_t words[64] = {1, 2, 3};
  StackWindow window{};
  StackMemory memory({reinterpret_cast<uintptr_t>(words), reinterpret_cast<uintptr_t>(words + 64)},
                     reinterpret_cast<uintptr_t>(words), window);
  ExpressionMachine machine(at, memory);
  machine.push(cfa);
  uintptr_t result = 0;
  (void)machine.evaluate(entry.expression(), entry.expression_bytes, result);
}

}  // namespace

// An address to look up, the size of the header, then both sections.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const auto offset = input.number<int32_t>();
  const size_t header_bytes = input.number<uint16_t>();
  const std::string_view bytes = input.bytes(kMostBytes);
  const uint8_t* begin = place(bytes);
  const uint8_t* end = begin + bytes.size();
  const uint8_t* frames = begin + std::min(header_bytes, bytes.size());
  const auto base = reinterpret_cast<uintptr_t>(begin);
  const uintptr_t address = base + static_cast<uintptr_t>(static_cast<intptr_t>(offset));
  (void)eh_frame_address({begin, end});
  CfiRow row;
  if (find_cfi_row({{begin, end}, {frames, end}}, address, row) != CfiStatus::kFound) return 0;
  mprof::fuzz::understood();
  const Registers at{address + 1, base, base};
  for (const RowEntry& entry : {row.cfa, row.fp, row.return_address}) evaluate(at, entry, base);
  return 0;
}
