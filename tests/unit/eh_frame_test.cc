// SPDX-License-Identifier: Apache-2.0
#include "preload/eh_frame.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "preload/stack_memory.h"
#include "preload/unwind_expression.h"
#include "preload/unwind_object.h"
#include "tests/unit/catch.h"

using namespace mprof::preload;

namespace {

using ByteVector = std::vector<uint8_t>;

// Builds .eh_frame_hdr and .eh_frame in one exactly sized heap block, so that AddressSanitizer
// sees a read of one byte too many. Functions are at base + 0x10000 and up.
class TableBuilder {
 public:
  std::string augmentation = "zR";
  uint8_t pointer_encoding = 0x00;                      // absptr
  ByteVector cie_instructions = {0x0c, 7, 8, 0x90, 1};  // def_cfa rsp, 8; offset ra, cfa-8
  uint8_t version = 1;
  bool with_index = true;

  void function(uint64_t offset, uint64_t size, ByteVector instructions) {
    functions_.push_back({offset, size, std::move(instructions)});
  }

  void build() {
    const size_t header_bytes = 12 + (with_index ? functions_.size() * 8 : 0);
    ByteVector frames;
    std::vector<size_t> fde_offsets;
    add_record(frames, cie());
    const size_t total = header_bytes + frame_bytes();
    block_ = std::make_unique<uint8_t[]>(total);
    size_ = total;
    for (const Function& function : functions_) {
      fde_offsets.push_back(frames.size());
      add_record(frames, fde(function, frames.size() + 4, header_bytes));
    }
    append(frames, uint32_t{0});
    REQUIRE(frames.size() == frame_bytes());
    ByteVector header = {1, 0x1b, 0x03, static_cast<uint8_t>(with_index ? 0x3b : 0xff)};
    append(header, static_cast<int32_t>(header_bytes - 4));
    append(header, static_cast<uint32_t>(functions_.size()));
    for (size_t i = 0; with_index && i < functions_.size(); ++i) {
      append(header, static_cast<int32_t>(functions_[i].offset));
      append(header, static_cast<int32_t>(header_bytes + fde_offsets[i]));
    }
    std::memcpy(block_.get(), header.data(), header.size());
    std::memcpy(block_.get() + header.size(), frames.data(), frames.size());
    header_bytes_ = header_bytes;
  }

  [[nodiscard]] uintptr_t base() const { return reinterpret_cast<uintptr_t>(block_.get()); }
  [[nodiscard]] EhFrameTable table() const {
    return {{block_.get(), block_.get() + size_},
            {block_.get() + header_bytes_, block_.get() + size_}};
  }
  uint8_t* bytes() { return block_.get(); }
  [[nodiscard]] size_t size() const { return size_; }

  CfiStatus row(uint64_t offset, CfiRow& row) const {
    return find_cfi_row(table(), base() + offset, row);
  }

 private:
  struct Function {
    uint64_t offset;
    uint64_t size;
    ByteVector instructions;
  };

  template <typename T>
  static void append(ByteVector& bytes, T value) {
    const auto* raw = reinterpret_cast<const uint8_t*>(&value);
    bytes.insert(bytes.end(), raw, raw + sizeof(value));
  }
  static void append(ByteVector& bytes, const ByteVector& more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  static void add_record(ByteVector& frames, ByteVector body) {
    append(frames, static_cast<uint32_t>(body.size()));
    append(frames, body);
  }

  [[nodiscard]] ByteVector cie() const {
    ByteVector body;
    append(body, uint32_t{0});
    body.push_back(version);
    body.insert(body.end(), augmentation.begin(), augmentation.end());
    body.push_back(0);
    if (version == 4) append(body, ByteVector{8, 0});
    append(body, ByteVector{1, 0x78, 16});  // code alignment 1, data alignment -8, ra
    if (augmentation[0] == 'z') {
      ByteVector data;
      for (const char letter : augmentation.substr(1)) {
        if (letter == 'R') data.push_back(pointer_encoding);
        if (letter == 'L') data.push_back(0x1b);
        if (letter == 'P') append(data, ByteVector{0x9b, 1, 2, 3, 4});
      }
      body.push_back(static_cast<uint8_t>(data.size()));
      append(body, data);
    }
    append(body, cie_instructions);
    return body;
  }

  [[nodiscard]] ByteVector fde(const Function& function, size_t at, size_t header_bytes) const {
    ByteVector body;
    append(body, static_cast<uint32_t>(at));  // the CIE is at 0
    const uintptr_t begin = base() + function.offset;
    if (pointer_encoding == 0x1b) {
      append(body, static_cast<int32_t>(begin - (base() + header_bytes + at + 4)));
      append(body, static_cast<int32_t>(function.size));
    } else {
      append(body, begin);
      append(body, function.size);
    }
    if (augmentation[0] == 'z') body.push_back(0);
    append(body, function.instructions);
    return body;
  }

  [[nodiscard]] size_t frame_bytes() const {
    size_t bytes = 4 + cie().size() + 4;
    for (const Function& function : functions_) {
      const size_t pointers = pointer_encoding == 0x1b ? 8 : 16;
      bytes += 4 + 4 + pointers + (augmentation[0] == 'z' ? 1 : 0) + function.instructions.size();
    }
    return bytes;
  }

  std::vector<Function> functions_;
  std::unique_ptr<uint8_t[]> block_;
  size_t size_ = 0;
  size_t header_bytes_ = 0;
};

// push rbp (1 byte); mov rsp, rbp (3 bytes); ...; at 20, rbp is popped.
const ByteVector kFramePointerFunction = {
    0x41, 0x0e, 16, 0x86, 2,     // advance 1; def_cfa_offset 16; offset rbp, cfa-16
    0x43, 0x0d, 6,               // advance 3; def_cfa_register rbp
    0x50, 0x0c, 7,  8,    0xc6,  // advance 16; def_cfa rsp, 8; restore rbp
};

CfiRow row_at(const TableBuilder& builder, uint64_t offset) {
  CfiRow row;
  REQUIRE(builder.row(offset, row) == CfiStatus::kFound);
  return row;
}

}  // namespace

TEST_CASE("eh_frame: the rows of a function with a frame pointer") {
  TableBuilder builder;
  builder.pointer_encoding = GENERATE(as<uint8_t>{}, 0x00, 0x1b, 0x04);
  builder.augmentation = GENERATE(as<std::string>{}, "zR", "zPLR", "zRS", "zRB");
  builder.version = GENERATE(as<uint8_t>{}, 1, 3, 4);
  builder.with_index = GENERATE(true, false);
  builder.function(0x10000, 0x40, kFramePointerFunction);
  builder.function(0x10100, 0x40, {});
  builder.build();

  CfiRow row = row_at(builder, 0x10000);
  CHECK(row.cfa.place == Place::kSp);
  CHECK(row.cfa.operand == 8);
  CHECK(row.fp.place == Place::kSame);
  CHECK(row.return_address.place == Place::kAtCfa);
  CHECK(row.return_address.operand == -8);
  CHECK(row.is_signal_frame == (builder.augmentation == "zRS"));

  row = row_at(builder, 0x10001);
  CHECK(row.cfa.place == Place::kSp);
  CHECK(row.cfa.operand == 16);
  CHECK(row.fp.place == Place::kAtCfa);
  CHECK(row.fp.operand == -16);

  row = row_at(builder, 0x10004);
  CHECK(row.cfa.place == Place::kFp);
  CHECK(row.cfa.operand == 16);
  CHECK(row_at(builder, 0x10013).cfa.place == Place::kFp);

  row = row_at(builder, 0x10014);
  CHECK(row.cfa.place == Place::kSp);
  CHECK(row.cfa.operand == 8);
  CHECK(row.fp.place == Place::kSame);
  CHECK(row_at(builder, 0x1013f).cfa.place == Place::kSp);
}

TEST_CASE("eh_frame: addresses between, before and behind functions are not covered") {
  TableBuilder builder;
  builder.with_index = GENERATE(true, false);
  builder.function(0x10000, 0x40, {});
  builder.function(0x10100, 0x40, {});
  builder.build();
  CfiRow row;
  for (const uint64_t offset : {0xffffu, 0x10040u, 0x100ffu, 0x10140u, 0x90000000u}) {
    CHECK(builder.row(offset, row) == CfiStatus::kNotCovered);
  }
}

TEST_CASE("eh_frame: every call frame instruction") {
  TableBuilder builder;
  builder.function(
      0x10000, 0x100000,
      {0x00, 0x2e, 0x20,                             // nop; GNU_args_size
       0x02, 1,    0x0e, 16,                         // advance_loc1 1: CFA rsp+16
       0x03, 1,    0,    0x13, 0x7d,                 // advance_loc2 1: def_cfa_offset_sf -3*-8
       0x04, 1,    0,    0,    0,    0x12, 6, 0x7c,  // advance_loc4 1: def_cfa_sf rbp, 32
       0x41, 0x0a, 0x0c, 7,    64,                   // remember; CFA rsp+64
       0x41, 0x0b,                                   // restore_state: rbp+32
       0x41, 0x05, 6,    4,                          // offset_extended rbp, 4: CFA-32
       0x41, 0x06, 6,                                // restore_extended rbp
       0x41, 0x07, 16,                               // undefined ra
       0x41, 0x08, 16,                               // same_value ra
       0x41, 0x09, 6,    3,                          // register rbp in rbx
       0x41, 0x11, 6,    0x7d,                       // offset_extended_sf rbp: CFA+24
       0x41, 0x14, 6,    2,                          // val_offset rbp: CFA-16
       0x41, 0x15, 6,    0x7e,                       // val_offset_sf rbp: CFA+16
       0x41, 0x2f, 6,    2,                          // GNU_negative_offset_extended: CFA+16
       0x41, 0x10, 6,    2,    0x76, 0x00,           // expression rbp
       0x41, 0x16, 16,   1,    0x30,                 // val_expression ra
       0x41, 0x0f, 3,    0x76, 0x78, 0x06,           // def_cfa_expression
       0x1d, 1,    0,    0,    0,    0,    0, 0,    0, 0x0c, 10, 0,  // advance_loc8: CFA r10
       0x41, 0x83, 2,    0xc3, 0x05, 3,    2});  // rbx's place is of no interest
  builder.build();
  const auto at = [&](uint64_t i) { return row_at(builder, 0x10000 + i); };
  CHECK(at(0).cfa.operand == 8);
  CHECK(at(1).cfa.operand == 16);
  CHECK(at(2).cfa.operand == 24);
  CHECK(at(3).cfa.place == Place::kFp);
  CHECK(at(3).cfa.operand == 32);
  CHECK(at(4).cfa.operand == 64);
  CHECK(at(5).cfa.place == Place::kFp);
  CHECK(at(5).cfa.operand == 32);
  CHECK(at(6).fp.operand == -32);
  CHECK(at(7).fp.place == Place::kSame);
  CHECK(at(8).return_address.place == Place::kUndefined);
  CHECK(at(9).return_address.place == Place::kSame);
  CHECK(at(10).fp.place == Place::kUnsupported);
  CHECK(at(11).fp.operand == 24);
  CHECK(at(12).fp.place == Place::kCfaPlus);
  CHECK(at(12).fp.operand == -16);
  CHECK(at(13).fp.operand == 16);
  CHECK(at(14).fp.place == Place::kAtCfa);
  CHECK(at(14).fp.operand == 16);
  CHECK(at(15).fp.place == Place::kExpression);
  CHECK(at(15).fp.expression_bytes == 2);
  CHECK(at(15).fp.expression()[0] == 0x76);
  CHECK(at(16).return_address.place == Place::kValExpression);
  CHECK(at(17).cfa.place == Place::kExpression);
  CHECK(at(17).cfa.expression_bytes == 3);
  CHECK(at(18).cfa.place == Place::kUnsupported);
  CHECK(at(19).fp.place == Place::kExpression);
}

TEST_CASE("eh_frame: instructions that make no sense are malformed") {
  const ByteVector bad = GENERATE(ByteVector{0x3f},                          // unknown
                                  ByteVector{0x0b},                          // nothing remembered
                                  ByteVector{0x0a, 0x0a, 0x0a, 0x0a, 0x0a},  // too deep
                                  ByteVector{0x0e},                          // operand missing
                                  ByteVector{0x0f, 0x7f, 0x00},              // longer than the FDE
                                  ByteVector{0x0e, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                             0x80, 0x80, 0x00});  // endless uleb128
  TableBuilder builder;
  builder.function(0x10000, 0x40, bad);
  builder.build();
  CfiRow row;
  CHECK(builder.row(0x10000, row) == CfiStatus::kMalformed);
}

TEST_CASE("eh_frame: a row cannot be restored in the CIE") {
  TableBuilder builder;
  builder.cie_instructions = {0x0c, 7, 8, 0xc6};
  builder.function(0x10000, 0x40, {});
  builder.build();
  CfiRow row;
  CHECK(builder.row(0x10000, row) == CfiStatus::kMalformed);
}

TEST_CASE("eh_frame: a truncated table is malformed or does not cover, at every length") {
  TableBuilder builder;
  builder.with_index = GENERATE(true, false);
  builder.function(0x10000, 0x40, kFramePointerFunction);
  builder.function(0x10100, 0x40, kFramePointerFunction);
  builder.build();
  const EhFrameTable whole = builder.table();
  const auto header_bytes = static_cast<size_t>(whole.frames.begin - whole.header.begin);
  const uintptr_t wanted = builder.base() + 0x10104;
  for (size_t size = 0; size + 4 < builder.size(); ++size) {
    const size_t frames_at = std::min(header_bytes, size);
    const EhFrameTable cut = {{whole.header.begin, whole.header.begin + size},
                              {whole.header.begin + frames_at, whole.header.begin + size}};
    CfiRow row;
    CHECK(find_cfi_row(cut, wanted, row) != CfiStatus::kFound);
  }
}

TEST_CASE("eh_frame: any bytes flipped in a made-up table end without a fault") {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    TableBuilder builder;
    builder.with_index = round % 2 == 0;
    builder.pointer_encoding = round % 3 == 0 ? 0x1b : 0x00;
    builder.augmentation = "zPLR";
    builder.function(0x10000, 0x40, kFramePointerFunction);
    builder.function(0x10100, 0x40, {0x0f, 3, 0x76, 0x78, 0x06, 0x10, 6, 2, 0x76, 0});
    builder.build();
    for (unsigned flips = 1 + random() % 6; flips > 0; --flips) {
      builder.bytes()[random() % builder.size()] = static_cast<uint8_t>(random());
    }
    CfiRow row;
    for (const uint64_t offset : {0x10000u, 0x10004u, 0x1003fu, 0x10100u, 0x20000u}) {
      const CfiStatus status = builder.row(offset, row);
      if (status == CfiStatus::kFound && row.fp.place == Place::kExpression) {
        // Wherever the flips led, an expression is inside the table.
        const auto* end = row.fp.expression() + row.fp.expression_bytes;
        REQUIRE(row.fp.expression() >= builder.bytes());
        REQUIRE(end <= builder.bytes() + builder.size());
      }
    }
  }
}

namespace {

// libc's own tables in a heap block of exactly their size. All its pointers are relative to
// themselves, so the copy describes functions at addresses that moved along with it.
struct LibcTable {
  EhFrameTable original;
  std::unique_ptr<uint8_t[]> copy;
  size_t size = 0;

  LibcTable() {
    REQUIRE(find_eh_frame(function(), original) == ObjectLookup::kFound);
    size = static_cast<size_t>(original.header.end - original.header.begin);
    copy = std::make_unique<uint8_t[]>(size);
    reset();
  }
  void reset() { std::memcpy(copy.get(), original.header.begin, size); }
  static uintptr_t function() { return reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, "qsort")); }
  [[nodiscard]] uintptr_t moved(uintptr_t address) const {
    return address + (reinterpret_cast<uintptr_t>(copy.get()) -
                      reinterpret_cast<uintptr_t>(original.header.begin));
  }
  [[nodiscard]] EhFrameTable table() const {
    const auto frames_at = original.frames.begin - original.header.begin;
    return {{copy.get(), copy.get() + size}, {copy.get() + frames_at, copy.get() + size}};
  }
};

bool same_entry(const RowEntry& a, const RowEntry& b) {
  return a.place == b.place && a.expression_bytes == b.expression_bytes &&
         (a.expression_bytes != 0 || a.operand == b.operand);
}

}  // namespace

TEST_CASE("eh_frame: the index and the linear scan agree on libc") {
  const LibcTable libc;
  // A header that claims no index: version, encodings, then .eh_frame's address as in the original.
  const EhFrameTable indexed = libc.table();
  LibcTable scanned;
  scanned.copy[2] = 0xff;
  scanned.copy[3] = 0xff;
  std::mt19937 random(9);
  for (int i = 0; i < 300; ++i) {
    const uintptr_t address = LibcTable::function() - 200000 + random() % 400000;
    CfiRow a;
    CfiRow b;
    const CfiStatus by_index = find_cfi_row(indexed, libc.moved(address), a);
    REQUIRE(find_cfi_row(scanned.table(), scanned.moved(address), b) == by_index);
    if (by_index != CfiStatus::kFound) continue;
    CHECK(same_entry(a.cfa, b.cfa));
    CHECK(same_entry(a.fp, b.fp));
    CHECK(same_entry(a.return_address, b.return_address));
  }
}

TEST_CASE("eh_frame: any bytes flipped in libc's table end without a fault") {
  LibcTable libc;
  std::mt19937 random(2);
  int found = 0;
  int malformed = 0;
  for (int round = 0; round < 100; ++round) {
    libc.reset();
    for (int flips = 0; flips < 3000; ++flips) {
      libc.copy[24 + random() % (libc.size - 24)] ^= static_cast<uint8_t>(1u << random() % 8);
    }
    for (int i = 0; i < 200; ++i) {
      const uintptr_t address = LibcTable::function() - 200000 + random() % 400000;
      CfiRow row;
      const CfiStatus status = find_cfi_row(libc.table(), libc.moved(address), row);
      found += status == CfiStatus::kFound ? 1 : 0;
      malformed += status == CfiStatus::kMalformed ? 1 : 0;
    }
  }
  CHECK(found > 0);
  CHECK(malformed > 0);
}

namespace {

struct Evaluation {
  StackWindow window = {};
  Registers at{0x1000, 0x2000, 0x3000};
  bool run(const ByteVector& code, uintptr_t& result) {
    StackMemory memory({}, 0, window);
    ExpressionMachine machine(at, memory);
    // An exactly sized block again.
    const auto block = std::make_unique<uint8_t[]>(code.size());
    std::copy(code.begin(), code.end(), block.get());
    return machine.evaluate(block.get(), static_cast<uint32_t>(code.size()), result);
  }
  uintptr_t value(const ByteVector& code) {
    uintptr_t result = 0;
    REQUIRE(run(code, result));
    return result;
  }
};

}  // namespace

TEST_CASE("expression: the CFA of a PLT stub") {
  // rsp + 8, and 8 more once the stub has pushed its index, from the 11th of its 16 bytes on.
  const ByteVector plt = {0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22};
  Evaluation evaluation;
  evaluation.at.pc = 0x1006 + 1;  // stored as pc + 1
  CHECK(evaluation.value(plt) == 0x2008);
  evaluation.at.pc = 0x100b + 1;
  CHECK(evaluation.value(plt) == 0x2010);
}

TEST_CASE("expression: the operations") {
  Evaluation evaluation;
  CHECK(evaluation.value({0x76, 0x78}) == 0x3000 - 8);            // breg6 -8
  CHECK(evaluation.value({0x92, 7, 4}) == 0x2004);                // bregx rsp, 4
  CHECK(evaluation.value({0x08, 200, 0x09, 0xc8, 0x22}) == 144);  // 200 + -56
  CHECK(evaluation.value({0x0a, 0, 1, 0x0b, 0xff, 0xff, 0x1e}) == static_cast<uintptr_t>(-256));
  CHECK(evaluation.value({0x10, 0x81, 1, 0x11, 0x7f, 0x1b}) == static_cast<uintptr_t>(-129));
  CHECK(evaluation.value({0x37, 0x33, 0x1d}) == 1);        // 7 mod 3
  CHECK(evaluation.value({0x31, 0x32, 0x16, 0x1c}) == 1);  // swap, minus
  CHECK(evaluation.value({0x31, 0x32, 0x33, 0x17, 0x1c}) == static_cast<uintptr_t>(1 - 2));
  CHECK(evaluation.value({0x31, 0x32, 0x14, 0x22}) == 3);                  // over
  CHECK(evaluation.value({0x31, 0x32, 0x33, 0x15, 2}) == 1);               // pick
  CHECK(evaluation.value({0x35, 0x12, 0x21}) == 5);                        // dup, or
  CHECK(evaluation.value({0x35, 0x31, 0x13}) == 5);                        // drop
  CHECK(evaluation.value({0x35, 0x1f, 0x19}) == 5);                        // neg, abs
  CHECK(evaluation.value({0x30, 0x20, 0x31, 0x25}) == ~uintptr_t{0} / 2);  // not, shr
  CHECK(evaluation.value({0x30, 0x20, 0x31, 0x26}) == ~uintptr_t{0});      // not, shra
  CHECK(evaluation.value({0x35, 0x33, 0x27}) == 6);                        // xor
  CHECK(evaluation.value({0x35, 0x23, 0x80, 1}) == 133);                   // plus_uconst
  CHECK(evaluation.value({0x31, 0x2f, 1, 0, 0x32, 0x33, 0x22}) == 4);      // skip over lit2
  CHECK(evaluation.value({0x35, 0x31, 0x28, 1, 0, 0x96, 0x96}) == 5);      // bra
  const int expected[] = {0, 0, 0, 1, 1, 1};                               // eq ge gt le lt ne
  for (uint8_t i = 0; i < 6; ++i) {
    CHECK(evaluation.value({0x31, 0x32, static_cast<uint8_t>(0x29 + i)}) ==
          static_cast<uintptr_t>(expected[i]));
  }
}

TEST_CASE("expression: memory is read, and what is not mapped fails") {
  const uintptr_t word = 0x1122334455667788;
  Evaluation evaluation;
  evaluation.at.fp = reinterpret_cast<uintptr_t>(&word);
  CHECK(evaluation.value({0x76, 0, 0x06}) == word);
  CHECK(evaluation.value({0x76, 0, 0x94, 2}) == 0x7788);
  uintptr_t result = 0;
  evaluation.at.fp = 16;
  CHECK_FALSE(evaluation.run({0x76, 0, 0x06}, result));
  evaluation.at.fp = ~uintptr_t{0} - 3;
  CHECK_FALSE(evaluation.run({0x76, 0, 0x06}, result));
}

TEST_CASE("expression: what cannot be evaluated fails") {
  Evaluation evaluation;
  uintptr_t result = 0;
  CHECK_FALSE(evaluation.run({}, result));                    // nothing on the stack
  CHECK_FALSE(evaluation.run({0x22}, result));                // too few operands
  CHECK_FALSE(evaluation.run({0x31, 0x30, 0x1b}, result));    // division by zero
  CHECK_FALSE(evaluation.run({0x70, 0}, result));             // rax is not followed
  CHECK_FALSE(evaluation.run({0xff}, result));                // unknown
  CHECK_FALSE(evaluation.run({0x0e, 1, 2}, result));          // cut operand
  CHECK_FALSE(evaluation.run({0x2f, 0xfd, 0xff}, result));    // an endless loop
  CHECK_FALSE(evaluation.run({0x2f, 0xf0, 0xff}, result));    // a jump out of the code
  CHECK_FALSE(evaluation.run(ByteVector(17, 0x31), result));  // too many values
}

TEST_CASE("expression: random bytes end without a fault") {
  std::mt19937 random(4);
  Evaluation evaluation;
  int evaluated = 0;
  for (int i = 0; i < 50000; ++i) {
    ByteVector code(random() % 24);
    for (uint8_t& byte : code) byte = static_cast<uint8_t>(random() % 3 == 0 ? 0x30 : random());
    uintptr_t result = 0;
    evaluated += evaluation.run(code, result) ? 1 : 0;
  }
  CHECK(evaluated > 0);
}
