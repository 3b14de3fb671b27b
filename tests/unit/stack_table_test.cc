// SPDX-License-Identifier: Apache-2.0
#include "format/stack_table.h"

#include <array>
#include <map>
#include <set>
#include <vector>

#include "tests/unit/catch.h"
#include "tests/unit/recording.h"

namespace mprof {
namespace {

using format::kNoRow;
using format::StackNode;
using format::TableId;

using Stack = std::vector<uint64_t>;  // outermost frame first

uint32_t claim_node() {
  return preload::claim_row(preload::tables.stack_nodes, TableId::kStackNodes);
}

uint32_t add_frame(format::StackIndex& index, uint32_t parent, uint64_t pc, uint32_t module) {
  const auto is_loaded = [module](uint32_t other) { return other == module; };
  return index.find_or_add(
      parent, pc, is_loaded, [module] { return module; }, claim_node);
}

uint32_t add(format::StackIndex& index, const Stack& stack) {
  uint32_t node = format::kStackComplete;
  for (const uint64_t pc : stack)
    if (node != kNoRow) node = add_frame(index, node, pc, static_cast<uint32_t>(pc % 5));
  return node;
}

// The stack of a row, read as a reader does: parents are lower, every frame has a pc.
Stack read(const test::ReaderView& view, uint32_t row) {
  Stack stack;
  while (row >= format::kStackRoots) {
    const auto& node = view.row<StackNode>(TableId::kStackNodes, row);
    REQUIRE(node.pc != 0);
    REQUIRE(node.parent < row);
    REQUIRE(node.module == node.pc % 5);
    stack.insert(stack.begin(), node.pc);
    row = node.parent;
  }
  REQUIRE(row == format::kStackComplete);
  return stack;
}

// A thousand stacks that share their outer frames, and differ in the inner ones.
Stack stack_number(uint32_t n) {
  return {0x1000, 0x2000 + n % 3, 0x3000 + n % 40, 0x4000 + n % 500, 0x5000 + n};
}

TEST_CASE("stack table: the same stack has one row, and a longer one hangs below it") {
  const test::Recording recording;
  test::StackIndexMemory memory;
  const uint32_t first = add(memory.index, {0x10, 0x20, 0x30});
  CHECK(add(memory.index, {0x10, 0x20, 0x30}) == first);
  const uint64_t used = preload::tables.stack_nodes.used();
  const uint32_t longer = add(memory.index, {0x10, 0x20, 0x30, 0x40});
  CHECK(longer != first);
  CHECK(preload::tables.stack_nodes.used() == used + 1);
  CHECK(add(memory.index, {0x10, 0x20}) != first);
}

TEST_CASE("stack table: the same pc in another module or below another root is another frame") {
  const test::Recording recording;
  test::StackIndexMemory memory;
  std::set<uint32_t> rows;
  for (uint32_t root = 0; root < format::kStackRoots; ++root)
    for (const uint32_t module : {0u, 1u, kNoRow})
      rows.insert(add_frame(memory.index, root, 0x10, module));
  CHECK(rows.size() == 9);
}

TEST_CASE("stack table: one thread's stacks use exactly as many rows as there are frames") {
  const test::Recording recording;
  test::StackIndexMemory memory;
  std::set<Stack> frames;
  for (uint32_t n = 0; n < 1000; ++n) {
    (void)add(memory.index, stack_number(n));
    Stack stack = stack_number(n);
    for (; !stack.empty(); stack.pop_back()) frames.insert(stack);
  }
  CHECK(preload::tables.stack_nodes.used() == format::kStackRoots + frames.size());
}

TEST_CASE("stack table: eight threads that add the same thousand stacks get the same rows") {
  const test::Recording recording;
  test::StackIndexMemory memory;
  std::array<std::map<uint32_t, uint32_t>, 8> rows;  // stack number -> row
  test::in_threads(8, [&](int thread) {
    for (uint32_t round = 0; round < 2; ++round)
      for (uint32_t i = 0; i < 1000; ++i) {
        const uint32_t n = (i * 7 + static_cast<uint32_t>(thread) * 13 * (round + 1)) % 1000;
        rows[thread][n] = add(memory.index, stack_number(n));
      }
  });
  for (const auto& of_thread : rows) CHECK(of_thread == rows[0]);
  const test::ReaderView view;
  std::set<uint32_t> distinct;
  for (const auto& [n, row] : rows[0]) {
    REQUIRE(read(view, row) == stack_number(n));
    distinct.insert(row);
  }
  CHECK(distinct.size() == 1000);
}

TEST_CASE("stack table: rows that lost a race to a twin have pc 0, all others are distinct") {
  const test::Recording recording;
  test::StackIndexMemory memory;
  test::in_threads(8, [&](int) {
    for (uint32_t n = 0; n < 1000; ++n) (void)add(memory.index, stack_number(n));
  });
  const test::ReaderView view;
  std::set<Stack> seen;
  size_t whole = 0;
  for (uint32_t row = format::kStackRoots; row < view.used(TableId::kStackNodes); ++row) {
    if (view.row<StackNode>(TableId::kStackNodes, row).pc == 0) continue;
    ++whole;
    seen.insert(read(view, row));
  }
  CHECK(seen.size() == whole);
}

TEST_CASE("stack table: a full table declines, and what was there is found") {
  const test::Recording recording;
  test::StackIndexMemory memory;
  const uint32_t known = add(memory.index, {0x10, 0x20});
  preload::freeze_tables();
  CHECK(add(memory.index, {0x10, 0x20}) == known);
  CHECK(add(memory.index, {0x10, 0x30}) == kNoRow);
}

}  // namespace
}  // namespace mprof
