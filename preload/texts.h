// SPDX-License-Identifier: Apache-2.0
// Texts that the program gives, in the dump's string table: each is there once, so that texts are
// compared by their row.
//
// Layout    Open addressing in anonymous memory; a slot is one word: what the text hashes to, its
//           length and its row. Slots are filled and never change again. In the string table a zero
//           byte stands behind each of these texts.
// Insert    find_or_add_text() claims the bytes, fills them and publishes them by the slot. The
//           thread whose CAS of the slot fails looks at what is there now; bytes that it has
//           claimed then stay unused.
// Ordering  (X) release CAS of a slot <-> acquire load of it.
// Called by preload/program_labels.cc, custom_profiles.cc. Threads: any. Signals: lock-free, safe.
// Allocates: bytes of the dump. Blocks: no. Fails: kNoRow beyond kMostTexts or kMostTextBytes, and
// when the dump is full.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mprof::preload {

inline constexpr uint32_t kMostTexts = 81920;
inline constexpr uint64_t kMostTextBytes = 8 << 20;
inline constexpr uint32_t kLongestText = 256;

bool texts_init();
size_t texts_index_bytes();

// The row of `bytes` bytes of text without a zero, 1 to kLongestText of them; if new and `may_add`,
// it is added, else kNoRow.
uint32_t find_or_add_text(const char* text, uint32_t bytes, bool may_add = true);

}  // namespace mprof::preload
