// SPDX-License-Identifier: Apache-2.0
#include "preload/eh_frame.h"

#include <array>
#include <cstddef>

namespace mprof::preload {

namespace {

// DWARF register numbers of x86-64.
constexpr uint64_t kRbp = 6;
constexpr uint64_t kRsp = 7;
constexpr uint64_t kReturnAddress = 16;

// Compilers nest remember_state once. The rows live on a stack that may be a small signal stack.
constexpr size_t kMaxRemembered = 3;
// The largest functions have some ten thousand instructions; and a bound for corrupt lengths.
constexpr uint32_t kMaxInstructions = 1 << 16;
// Only for tables without the sorted index, which no current linker makes.
constexpr uint32_t kMaxLinearEntries = 1 << 16;

// DW_EH_PE_*: how a pointer is stored (low four bits) and what it is relative to.
constexpr uint8_t kOmitted = 0xff;
constexpr uint8_t kFormatMask = 0x0f;
constexpr uint8_t kRelativeToPc = 0x10;
constexpr uint8_t kRelativeToData = 0x30;
constexpr uint8_t kAligned = 0x50;
constexpr uint8_t kBaseMask = 0x70;
constexpr uint8_t kIndirect = 0x80;
constexpr uint8_t kSortedTableEncoding = 0x3b;  // datarel | sdata4

}  // namespace

uint64_t ByteCursor::read_uleb128() {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    const auto byte = read<uint8_t>();
    if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  failed_ = true;  // longer than any 64-bit value
  return 0;
}

int64_t ByteCursor::read_sleb128() {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    const auto byte = read<uint8_t>();
    if (shift < 64) value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) != 0) continue;
    const bool negative = (byte & 0x40) != 0 && shift + 7 < 64;
    return static_cast<int64_t>(negative ? value | ~uint64_t{0} << (shift + 7) : value);
  }
  failed_ = true;
  return 0;
}

uintptr_t ByteCursor::read_format(uint8_t format) {
  switch (format) {
    case 0x00: return read<uintptr_t>();
    case 0x01: return read_uleb128();
    case 0x02: return read<uint16_t>();
    case 0x03: return read<uint32_t>();
    case 0x04: return read<uint64_t>();
    case 0x09: return static_cast<uintptr_t>(read_sleb128());
    case 0x0a: return static_cast<uintptr_t>(static_cast<intptr_t>(read<int16_t>()));
    case 0x0b: return static_cast<uintptr_t>(static_cast<intptr_t>(read<int32_t>()));
    case 0x0c: return static_cast<uintptr_t>(read<int64_t>());
    default: failed_ = true; return 0;
  }
}

// Indirect pointers (only personalities use them) would be read outside the section: refused.
uintptr_t ByteCursor::read_pointer(uint8_t encoding, uintptr_t data_base) {
  if (encoding == kOmitted) return 0;
  if (encoding == kAligned) {
    skip(-reinterpret_cast<uintptr_t>(at_) % sizeof(uintptr_t));
    return read<uintptr_t>();
  }
  const auto here = reinterpret_cast<uintptr_t>(at_);
  const uintptr_t value = read_format(encoding & kFormatMask);
  switch (encoding & (kBaseMask | kIndirect)) {
    case 0: return value;
    case kRelativeToPc: return value == 0 ? 0 : here + value;
    case kRelativeToData:
      if (data_base != 0) return data_base + value;
      [[fallthrough]];
    default: failed_ = true; return 0;
  }
}

namespace {

uintptr_t address_of(const uint8_t* at) { return reinterpret_cast<uintptr_t>(at); }

// One length-prefixed record of .eh_frame, a CIE or an FDE: its bytes after the length.
struct Record {
  const uint8_t* id_at = nullptr;
  uint32_t id = 0;  // 0: CIE; else the distance from id_at back to the FDE's CIE
  ByteCursor body{nullptr, nullptr};
};

// False at the terminator, and where the bytes make no sense.
bool read_record(ByteCursor& cursor, Record& record) {
  uint64_t length = cursor.read<uint32_t>();
  if (length == 0xffffffff) length = cursor.read<uint64_t>();
  if (cursor.failed() || length < sizeof(uint32_t) || length > cursor.left()) return false;
  record.id_at = cursor.at();
  record.body = ByteCursor(cursor.at(), cursor.at() + length);
  record.id = record.body.read<uint32_t>();
  cursor.skip(length);
  return true;
}

struct Cie {
  uint64_t code_alignment = 0;
  int64_t data_alignment = 0;
  uint8_t pointer_encoding = 0;
  bool has_augmentation_data = false;
  bool is_signal_frame = false;
  ByteCursor instructions{nullptr, nullptr};
};

// Reads the data that the letters after 'z' announce. An unknown letter ends the list: what
// follows it cannot be told apart, but 'z' gave the length of the whole.
bool read_augmentation(const uint8_t* letters, ByteCursor data, Cie& cie) {
  for (; *letters != 0; ++letters) {
    switch (*letters) {
      case 'R': cie.pointer_encoding = data.read<uint8_t>(); break;
      case 'L': data.skip(1); break;
      case 'P': {
        const auto encoding = data.read<uint8_t>();
        data.read_pointer(encoding & static_cast<uint8_t>(~kIndirect), 0);
        break;
      }
      case 'S': cie.is_signal_frame = true; break;
      case 'B': break;
      default: return !data.failed();
    }
  }
  return !data.failed();
}

// The string of a CIE, which the cursor passes; nullptr when it does not end.
const uint8_t* read_letters(ByteCursor& cursor) {
  const uint8_t* letters = cursor.at();
  while (cursor.read<uint8_t>() != 0) {
  }
  return cursor.failed() ? nullptr : letters;
}

bool read_cie(ByteCursor cursor, Cie& cie) {
  Record record;
  if (!read_record(cursor, record) || record.id != 0) return false;
  ByteCursor& body = record.body;
  const auto version = body.read<uint8_t>();
  if (version != 1 && version != 3 && version != 4) return false;
  const uint8_t* letters = read_letters(body);
  if (letters == nullptr) return false;
  if (letters[0] == 'e' && letters[1] == 'h') body.skip(sizeof(uintptr_t));  // before gcc 3
  if (version == 4) body.skip(2);  // sizes of an address and of a segment selector
  cie.code_alignment = body.read_uleb128();
  cie.data_alignment = body.read_sleb128();
  const uint64_t return_register = version == 1 ? body.read<uint8_t>() : body.read_uleb128();
  if (body.failed() || return_register != kReturnAddress) return false;
  cie.has_augmentation_data = letters[0] == 'z';
  if (cie.has_augmentation_data) {
    const uint64_t bytes = body.read_uleb128();
    const ByteCursor data = body;
    body.skip(bytes);
    if (body.failed()) return false;
    if (!read_augmentation(letters + 1, ByteCursor(data.at(), data.at() + bytes), cie))
      return false;
  }
  cie.instructions = body;
  return !body.failed();
}

struct Fde {
  Cie cie;
  uintptr_t begin = 0;
  uintptr_t size_bytes = 0;
  ByteCursor instructions{nullptr, nullptr};
};

bool read_fde(Bytes frames, Record record, Fde& fde) {
  const auto to_cie = static_cast<uint64_t>(record.id);
  if (to_cie > static_cast<uint64_t>(record.id_at - frames.begin)) return false;
  if (!read_cie(ByteCursor(record.id_at - to_cie, frames.end), fde.cie)) return false;
  ByteCursor& body = record.body;
  fde.begin = body.read_pointer(fde.cie.pointer_encoding, 0);
  fde.size_bytes = body.read_pointer(fde.cie.pointer_encoding & kFormatMask, 0);
  if (fde.cie.has_augmentation_data) body.skip(body.read_uleb128());
  fde.instructions = body;
  return !body.failed();
}

bool covers(const Fde& fde, uintptr_t address) { return address - fde.begin < fde.size_bytes; }

// Runs call frame instructions up to the row of one address.
class RowMachine {
 public:
  RowMachine(const Fde& fde, uintptr_t address, CfiRow& row)
      : cie_(fde.cie), location_(fde.begin), address_(address), row_(row) {}

  // The CIE's instructions make the row that a function starts with.
  bool run(ByteCursor instructions) {
    if (!execute(cie_.instructions)) return false;
    initial_ = row_;
    has_initial_ = true;
    return execute(instructions);
  }

 private:
  bool execute(ByteCursor cursor);
  void step(ByteCursor& cursor);
  void step_extended(ByteCursor& cursor, uint8_t opcode);
  bool step_advance(ByteCursor& cursor, uint8_t opcode);
  bool step_cfa(ByteCursor& cursor, uint8_t opcode);
  bool step_register(ByteCursor& cursor, uint8_t opcode);

  void advance(uint64_t units) { location_ += units * cie_.code_alignment; }
  [[nodiscard]] int64_t scaled(uint64_t factor) const {
    return static_cast<int64_t>(factor * static_cast<uint64_t>(cie_.data_alignment));
  }
  void define_cfa(uint64_t reg, int64_t offset);
  void set(uint64_t reg, Place place, int64_t offset = 0);
  void restore(ByteCursor& cursor, uint64_t reg);
  void remember(ByteCursor& cursor);
  void recall(ByteCursor& cursor);
  RowEntry* entry_of(uint64_t reg);
  static RowEntry expression(ByteCursor& cursor, Place place);

  const Cie& cie_;
  uintptr_t location_;
  const uintptr_t address_;
  CfiRow& row_;
  CfiRow initial_;
  bool has_initial_ = false;
  uint32_t remembered_count_ = 0;
  std::array<CfiRow, kMaxRemembered> remembered_;
};

RowEntry* RowMachine::entry_of(uint64_t reg) {
  if (reg == kRbp) return &row_.fp;
  if (reg == kReturnAddress) return &row_.return_address;
  return nullptr;
}

void RowMachine::set(uint64_t reg, Place place, int64_t offset) {
  RowEntry* entry = entry_of(reg);
  if (entry == nullptr) return;
  *entry = {place, 0, offset};
}

void RowMachine::define_cfa(uint64_t reg, int64_t offset) {
  const Place place = reg == kRsp ? Place::kSp : reg == kRbp ? Place::kFp : Place::kUnsupported;
  row_.cfa = {place, 0, offset};
}

RowEntry RowMachine::expression(ByteCursor& cursor, Place place) {
  const uint64_t bytes = cursor.read_uleb128();
  const RowEntry entry = {place, static_cast<uint16_t>(bytes),
                          reinterpret_cast<int64_t>(cursor.at())};
  if (bytes > UINT16_MAX) cursor.fail();
  cursor.skip(bytes);
  return entry;
}

void RowMachine::restore(ByteCursor& cursor, uint64_t reg) {
  if (!has_initial_) return cursor.fail();
  if (reg == kRbp) row_.fp = initial_.fp;
  if (reg == kReturnAddress) row_.return_address = initial_.return_address;
}

void RowMachine::remember(ByteCursor& cursor) {
  if (remembered_count_ == kMaxRemembered) return cursor.fail();
  remembered_[remembered_count_++] = row_;
}

void RowMachine::recall(ByteCursor& cursor) {
  if (remembered_count_ == 0) return cursor.fail();
  row_ = remembered_[--remembered_count_];
}

bool RowMachine::step_advance(ByteCursor& cursor, uint8_t opcode) {
  switch (opcode) {
    case 0x01: location_ = cursor.read_pointer(cie_.pointer_encoding, 0); return true;
    case 0x02: advance(cursor.read<uint8_t>()); return true;
    case 0x03: advance(cursor.read<uint16_t>()); return true;
    case 0x04: advance(cursor.read<uint32_t>()); return true;
    case 0x1d: advance(cursor.read<uint64_t>()); return true;  // MIPS_advance_loc8
    default: return false;
  }
}

bool RowMachine::step_cfa(ByteCursor& cursor, uint8_t opcode) {
  const auto offset_only = [&](int64_t offset) {
    if (row_.cfa.place == Place::kExpression) cursor.fail();
    row_.cfa.operand = offset;
  };
  switch (opcode) {
    case 0x0c: {  // def_cfa
      const uint64_t reg = cursor.read_uleb128();
      define_cfa(reg, static_cast<int64_t>(cursor.read_uleb128()));
      return true;
    }
    case 0x12: {  // def_cfa_sf
      const uint64_t reg = cursor.read_uleb128();
      define_cfa(reg, scaled(static_cast<uint64_t>(cursor.read_sleb128())));
      return true;
    }
    case 0x0d:  // def_cfa_register
      if (row_.cfa.place == Place::kExpression) cursor.fail();
      define_cfa(cursor.read_uleb128(), row_.cfa.operand);
      return true;
    case 0x0e: offset_only(static_cast<int64_t>(cursor.read_uleb128())); return true;
    case 0x13: offset_only(scaled(static_cast<uint64_t>(cursor.read_sleb128()))); return true;
    case 0x0f: row_.cfa = expression(cursor, Place::kExpression); return true;
    default: return false;
  }
}

// All of these name a register first.
bool RowMachine::step_register(ByteCursor& cursor, uint8_t opcode) {
  const uint64_t reg = cursor.read_uleb128();
  switch (opcode) {
    case 0x05: set(reg, Place::kAtCfa, scaled(cursor.read_uleb128())); return true;
    case 0x06: restore(cursor, reg); return true;
    case 0x07: set(reg, Place::kUndefined); return true;
    case 0x08: set(reg, Place::kSame); return true;
    case 0x09:
      cursor.read_uleb128();
      set(reg, Place::kUnsupported);
      return true;
    case 0x11:
      set(reg, Place::kAtCfa, scaled(static_cast<uint64_t>(cursor.read_sleb128())));
      return true;
    case 0x14: set(reg, Place::kCfaPlus, scaled(cursor.read_uleb128())); return true;
    case 0x15:
      set(reg, Place::kCfaPlus, scaled(static_cast<uint64_t>(cursor.read_sleb128())));
      return true;
    case 0x2f: set(reg, Place::kAtCfa, -scaled(cursor.read_uleb128())); return true;
    case 0x10:
    case 0x16: {
      const Place place = opcode == 0x10 ? Place::kExpression : Place::kValExpression;
      const RowEntry entry = expression(cursor, place);
      if (RowEntry* target = entry_of(reg); target != nullptr) *target = entry;
      return true;
    }
    default: return false;
  }
}

void RowMachine::step_extended(ByteCursor& cursor, uint8_t opcode) {
  switch (opcode) {
    case 0x00: return;  // nop
    case 0x0a: return remember(cursor);
    case 0x0b: return recall(cursor);
    case 0x2e: cursor.read_uleb128(); return;  // GNU_args_size: matters to landing pads only
    default: break;
  }
  if (step_advance(cursor, opcode) || step_cfa(cursor, opcode)) return;
  if (!step_register(cursor, opcode)) cursor.fail();
}

void RowMachine::step(ByteCursor& cursor) {
  const auto byte = cursor.read<uint8_t>();
  const uint8_t operand = byte & 0x3f;
  switch (byte >> 6) {
    case 1: return advance(operand);
    case 2: return set(operand, Place::kAtCfa, scaled(cursor.read_uleb128()));
    case 3: return restore(cursor, operand);
    default: return step_extended(cursor, byte);
  }
}

// Rows are in address order: the one in force is what stands when the next starts behind.
bool RowMachine::execute(ByteCursor cursor) {
  for (uint32_t i = 0; i < kMaxInstructions; ++i) {
    if (cursor.at_end() || location_ > address_) return !cursor.failed();
    step(cursor);
  }
  return false;
}

// The sorted index after the header: pairs of (function's begin, its FDE), both sdata4 relative
// to the header.
struct IndexEntry {
  int32_t function;
  int32_t fde;
};

struct EhFrameHeader {
  uintptr_t eh_frame = 0;
  const uint8_t* index = nullptr;  // nullptr: none that can be searched
  uint64_t index_count = 0;
};

bool read_header(Bytes bytes, EhFrameHeader& header) {
  ByteCursor cursor(bytes.begin, bytes.end);
  const uintptr_t base = address_of(bytes.begin);
  if (cursor.read<uint8_t>() != 1) return false;
  const auto eh_frame_encoding = cursor.read<uint8_t>();
  const auto count_encoding = cursor.read<uint8_t>();
  const auto index_encoding = cursor.read<uint8_t>();
  header.eh_frame = cursor.read_pointer(eh_frame_encoding, base);
  if (cursor.failed()) return false;
  if (count_encoding == kOmitted || index_encoding != kSortedTableEncoding) return true;
  header.index_count = cursor.read_pointer(count_encoding, base);
  if (cursor.failed() || header.index_count > cursor.left() / sizeof(IndexEntry)) return false;
  header.index = cursor.at();
  return true;
}

IndexEntry index_entry(const EhFrameHeader& header, uint64_t i) {
  IndexEntry entry;
  __builtin_memcpy(&entry, header.index + i * sizeof(entry), sizeof(entry));
  return entry;
}

// The last function that begins at or before `address`.
bool search_index(const EhFrameHeader& header, uintptr_t base, uintptr_t address,
                  IndexEntry& found) {
  const auto wanted = static_cast<int64_t>(address - base);
  uint64_t low = 0;
  uint64_t high = header.index_count;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (index_entry(header, middle).function <= wanted) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return false;
  found = index_entry(header, low - 1);
  return true;
}

// Not inlined, as the other phases of a lookup: their frames then take turns on the stack.
[[gnu::noinline]] CfiStatus find_fde_by_index(const EhFrameTable& table,
                                              const EhFrameHeader& header, uintptr_t address,
                                              Fde& fde) {
  const uintptr_t base = address_of(table.header.begin);
  IndexEntry entry;
  if (!search_index(header, base, address, entry)) return CfiStatus::kNotCovered;
  const uintptr_t at = base + static_cast<uintptr_t>(static_cast<intptr_t>(entry.fde));
  if (at < address_of(table.frames.begin) || at >= address_of(table.frames.end)) {
    return CfiStatus::kMalformed;
  }
  ByteCursor cursor(table.frames.begin + (at - address_of(table.frames.begin)), table.frames.end);
  Record record;
  if (!read_record(cursor, record) || record.id == 0) return CfiStatus::kMalformed;
  if (!read_fde(table.frames, record, fde)) return CfiStatus::kMalformed;
  return covers(fde, address) ? CfiStatus::kFound : CfiStatus::kNotCovered;
}

[[gnu::noinline]] CfiStatus find_fde_by_scan(const EhFrameTable& table, uintptr_t address,
                                             Fde& fde) {
  ByteCursor cursor(table.frames.begin, table.frames.end);
  Record record;
  for (uint32_t i = 0; i < kMaxLinearEntries && read_record(cursor, record); ++i) {
    if (record.id == 0) continue;
    fde = Fde();
    if (!read_fde(table.frames, record, fde)) return CfiStatus::kMalformed;
    if (covers(fde, address)) return CfiStatus::kFound;
  }
  return cursor.failed() ? CfiStatus::kMalformed : CfiStatus::kNotCovered;
}

[[gnu::noinline]] CfiStatus find_fde(const EhFrameTable& table, uintptr_t address, Fde& fde) {
  EhFrameHeader header;
  if (!read_header(table.header, header)) return CfiStatus::kMalformed;
  if (header.index == nullptr) return find_fde_by_scan(table, address, fde);
  return find_fde_by_index(table, header, address, fde);
}

[[gnu::noinline]] CfiStatus compute_row(const Fde& fde, uintptr_t address, CfiRow& row) {
  row = CfiRow();
  row.is_signal_frame = fde.cie.is_signal_frame;
  RowMachine machine(fde, address, row);
  return machine.run(fde.instructions) ? CfiStatus::kFound : CfiStatus::kMalformed;
}

}  // namespace

uintptr_t eh_frame_address(Bytes header) {
  EhFrameHeader parsed;
  return read_header(header, parsed) ? parsed.eh_frame : 0;
}

CfiStatus find_cfi_row(const EhFrameTable& table, uintptr_t address, CfiRow& row) {
  Fde fde;
  const CfiStatus status = find_fde(table, address, fde);
  return status == CfiStatus::kFound ? compute_row(fde, address, row) : status;
}

}  // namespace mprof::preload
