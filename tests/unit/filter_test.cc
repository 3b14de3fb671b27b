// SPDX-License-Identifier: Apache-2.0
#include "preload/filter.h"

#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof::preload {
namespace {

const void* block_at(uintptr_t address) { return reinterpret_cast<const void*>(address); }

// Addresses of one hash value: a multiple of 16 whose two halves cancel out.
const void* alias(uintptr_t n) {
  const uintptr_t a = n << 16 | n;
  return block_at(a << 4);
}

TEST_CASE("filter: an address that was never added is not in it") {
  filter_clear();
  for (uintptr_t a = 16; a < 1 << 20; a += 16) REQUIRE_FALSE(may_be_sampled(block_at(a)));
}

TEST_CASE("filter: a byte counts, so the last of two removals is the one that clears it") {
  filter_clear();
  REQUIRE(&filter_byte(alias(1)) == &filter_byte(alias(2)));
  filter_add(alias(1));
  filter_add(alias(2));
  filter_remove(alias(1));
  CHECK(may_be_sampled(alias(2)));
  filter_remove(alias(2));
  CHECK_FALSE(may_be_sampled(alias(1)));
}

TEST_CASE("filter: a byte that reached 255 says look for ever") {
  filter_clear();
  for (int i = 0; i < 255; ++i) filter_add(alias(3));
  CHECK(filter_byte(alias(3)).load() == kFilterSticky);
  for (int i = 0; i < 1000; ++i) filter_remove(alias(3));
  CHECK(may_be_sampled(alias(3)));
  filter_byte(alias(3)).store(0);
}

TEST_CASE("filter: 254 blocks of one hash value still count down to none") {
  filter_clear();
  for (int i = 0; i < 254; ++i) filter_add(alias(4));
  for (int i = 0; i < 254; ++i) {
    REQUIRE(may_be_sampled(alias(4)));
    filter_remove(alias(4));
  }
  CHECK_FALSE(may_be_sampled(alias(4)));
}

TEST_CASE("filter: a mark stays through removals and through a fork's clearing") {
  filter_clear();
  const void* marked = block_at(0x1230);
  const void* added = block_at(0x4560);
  filter_mark_forever(marked);
  filter_add(added);
  filter_remove(marked);
  filter_clear();
  CHECK(may_be_sampled(marked));
  CHECK_FALSE(may_be_sampled(added));
  filter_byte(marked).store(0);
}

TEST_CASE("filter: eight threads that add and remove leave it as it was") {
  filter_clear();
  test::in_threads(8, [](int thread) {
    for (uintptr_t i = 0; i < 20000; ++i) {
      const void* block = alias(i % 16);
      filter_add(block);
      if (!may_be_sampled(block)) filter_mark_forever(block_at(0x10 + 16 * thread));
      filter_remove(block);
    }
  });
  for (auto& byte : filter) REQUIRE(byte.load() == 0);
}

TEST_CASE("filter: with everything marked every address is looked up") {
  filter_mark_all();
  for (uintptr_t a = 16; a < 1 << 20; a += 16) REQUIRE(may_be_sampled(block_at(a)));
  for (auto& byte : filter) byte.store(0);
}

}  // namespace
}  // namespace mprof::preload
