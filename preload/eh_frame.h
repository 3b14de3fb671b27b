// SPDX-License-Identifier: Apache-2.0
// Call frame information: from the bytes of .eh_frame_hdr and .eh_frame and a code address to
// the row that says how to find the caller's registers. Pure: bytes in, a row out.
//
// Followed are the CFA, rbp and the return address; of the other registers only the operands are
// skipped. The bytes are not trusted: every read is checked against the section's end and every
// loop is bounded, so corrupt tables give kMalformed or a wrong row, never a fault or a hang.
//
// Called by unwind.cc for a pc that is not in the rule cache. Signals: safe. Allocates: no.
#pragma once

#include <cstdint>

namespace mprof::preload {

struct Bytes {
  const uint8_t* begin = nullptr;
  const uint8_t* end = nullptr;
};

// A cursor over untrusted bytes. A read past the end gives 0 and makes the cursor fail for good.
class ByteCursor {
 public:
  ByteCursor(const uint8_t* at, const uint8_t* end) : at_(at), end_(end) {}

  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] bool at_end() const { return failed_ || at_ >= end_; }
  [[nodiscard]] const uint8_t* at() const { return at_; }
  [[nodiscard]] const uint8_t* end() const { return end_; }
  [[nodiscard]] uint64_t left() const { return static_cast<uint64_t>(end_ - at_); }

  template <typename T>
  T read() {
    T value{};
    if (!has(sizeof(T))) return value;
    __builtin_memcpy(&value, at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  uint64_t read_uleb128();
  int64_t read_sleb128();
  // A DW_EH_PE_* pointer. `data_base` is what DW_EH_PE_datarel counts from; 0: not allowed here.
  uintptr_t read_pointer(uint8_t encoding, uintptr_t data_base);
  void skip(uint64_t bytes) {
    if (has(bytes)) at_ += bytes;
  }
  void fail() { failed_ = true; }

 private:
  bool has(uint64_t bytes) {
    if (failed_ || at_ > end_ || left() < bytes) failed_ = true;
    return !failed_;
  }
  uintptr_t read_format(uint8_t format);

  const uint8_t* at_;
  const uint8_t* end_;
  bool failed_ = false;
};

struct EhFrameTable {
  Bytes header;  // from .eh_frame_hdr on, to the end of what is readable
  Bytes frames;  // from .eh_frame on, likewise
};

enum class Place : uint8_t {
  kSame,           // the register still has the caller's value
  kUndefined,      // no value; for the return address: this is the outermost frame
  kAtCfa,          // in memory at CFA + offset
  kCfaPlus,        // is CFA + offset itself
  kSp,             // CFA only: rsp + offset
  kFp,             // CFA only: rbp + offset
  kExpression,     // a DWARF expression gives the address (for the CFA: the value)
  kValExpression,  // a DWARF expression gives the value
  kUnsupported,    // in a register that is not followed
};

struct RowEntry {
  Place place = Place::kSame;
  uint16_t expression_bytes = 0;
  int64_t operand = 0;  // an offset; for expressions, the address of their bytes

  [[nodiscard]] const uint8_t* expression() const {
    return reinterpret_cast<const uint8_t*>(operand);
  }
};

struct CfiRow {
  RowEntry cfa;
  RowEntry fp;
  RowEntry return_address;
  bool is_signal_frame = false;
};

enum class CfiStatus : uint8_t { kFound, kNotCovered, kMalformed };

// `address` is the address of an instruction (for a return address: the byte before it).
CfiStatus find_cfi_row(const EhFrameTable& table, uintptr_t address, CfiRow& row);

// Where .eh_frame is according to .eh_frame_hdr; 0: not said, or malformed.
uintptr_t eh_frame_address(Bytes header);

}  // namespace mprof::preload
