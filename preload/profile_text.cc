// SPDX-License-Identifier: Apache-2.0
#include "preload/profile_text.h"

#include <errno.h>
#include <fcntl.h>

#include "format/stack_table.h"
#include "format/weights.h"
#include "preload/dump_file.h"
#include "preload/sys.h"

namespace mprof::preload {
namespace {

// Text on its way to a descriptor; the first error ends the writing.
class Output {
 public:
  explicit Output(int fd) : fd_(fd) {}

  Output& operator<<(const char* text) {
    for (; *text != '\0'; ++text) put(*text);
    return *this;
  }
  Output& operator<<(uint64_t number) { return digits(number, 10); }
  Output& hex(uint64_t number) { return *this << "0x", digits(number, 16); }
  void put(char one) {
    if (size_ == sizeof text_) flush();
    text_[size_++] = one;
  }
  int flush() {
    for (size_t done = 0; done < size_ && error_ == 0;) {
      const long wrote = sys::write(fd_, text_ + done, size_ - done);
      if (wrote > 0) done += static_cast<size_t>(wrote);
      if (wrote == 0) error_ = EIO;
      if (wrote < 0 && wrote != -EINTR) error_ = static_cast<int>(-wrote);
    }
    size_ = 0;
    return error_;
  }

 private:
  Output& digits(uint64_t number, uint64_t base) {
    char reversed[20];
    int count = 0;
    do {
      reversed[count++] = "0123456789abcdef"[number % base];
      number /= base;
    } while (number != 0);
    while (count > 0) put(reversed[--count]);
    return *this;
  }

  int fd_;
  int error_ = 0;
  size_t size_ = 0;
  char text_[2048];
};

// What is still there of a row; a removal that overtakes its addition counts as none.
uint64_t values_of(const format::CountRow& row) {
  for (;;) {
    const uint32_t version = row.version.load(std::memory_order_acquire);
    const format::CountTotals& totals = row.totals[version & 1];
    const uint64_t added = totals.count >> format::kWeightFractionBits;
    const uint64_t removed = totals.value;
    std::atomic_thread_fence(std::memory_order_acquire);
    if (row.version.load(std::memory_order_relaxed) == version)
      return added > removed ? added - removed : 0;
  }
}

// `use(row, values)` for each stack with values; a stack can have several rows.
template <class Use>
void for_each_row(uint32_t kind, Use&& use) {
  for (uint32_t i = 0; i < tables.counts.used(); ++i) {
    const format::CountRow& row = *tables.counts.at(i);
    if (row.kind.load(std::memory_order_acquire) != kind) continue;
    if (const uint64_t values = values_of(row); values != 0) use(row, values);
  }
}

void put_stack(Output& out, uint32_t node) {
  for (; node >= format::kStackRoots; node = tables.stack_nodes.at(node)->parent)
    (out << " ").hex(tables.stack_nodes.at(node)->pc);
  out << "\n";
}

// A row without an address would be no profile to pprof.
bool has_frames(const format::CountRow& row) { return row.stack >= format::kStackRoots; }

void put_memory_map(Output& out) {
  out << "\n--- Memory map: ---\n";
  const int fd = sys::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  char block[1024];
  for (long got; (got = sys::read(fd, block, sizeof block)) > 0;)
    for (long i = 0; i < got; ++i) out.put(block[i]);
  sys::close(fd);
}

}  // namespace

int write_profile_text(CustomProfile* profile, int fd) {
  const uint32_t kind = count_kind_of(profile);
  uint64_t total = 0;
  for_each_row(kind, [&](const format::CountRow& row, uint64_t values) {
    if (has_frames(row)) total += values;
  });
  Output out(fd);
  // A name ends at its first space for pprof.
  for (const char* c = name_of(profile); *c != '\0'; ++c) out.put(*c > ' ' ? *c : '_');
  out << " profile: total " << total << "\n";
  for_each_row(kind, [&](const format::CountRow& row, uint64_t values) {
    if (!has_frames(row)) return;
    out << values << " @";
    put_stack(out, row.stack);
  });
  put_memory_map(out);
  return out.flush();
}

}  // namespace mprof::preload
