// SPDX-License-Identifier: Apache-2.0
#include "preload/snapshot.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>

#include <atomic>

#include "format/config.h"
#include "format/snapshot.h"
#include "preload/clock.h"
#include "preload/dump_file.h"
#include "preload/low.h"
#include "preload/sys.h"
#include "preload/thread_state.h"

namespace mprof::preload {
namespace {

constexpr int kTries = 3;
constexpr long kPauseNs = 50000;
// A dump that grows meanwhile gets chunks behind its end.
constexpr uint64_t kRoomToGrow = uint64_t{1} << 30;

std::atomic<bool> copying;

int put(int fd, const void* data, uint64_t bytes, uint64_t offset) {
  const auto* from = static_cast<const char*>(data);
  while (bytes != 0) {
    const long wrote = sys::pwrite(fd, from, bytes, offset);
    if (wrote == -EINTR) continue;
    if (wrote <= 0) return wrote < 0 ? static_cast<int>(-wrote) : ENOSPC;
    from += wrote;
    offset += static_cast<uint64_t>(wrote);
    bytes -= static_cast<uint64_t>(wrote);
  }
  return 0;
}

// As a reader does it; see dumper/cut.h.
uint64_t take_cut() {
  const uint64_t epoch = header->control.cut_epoch.fetch_add(1, std::memory_order_seq_cst) + 1;
  constexpr long kMostOfAStoreBufferNs = 2000000;
  if (sys::call<SYS_membarrier>(MEMBARRIER_CMD_GLOBAL) != 0) sys::sleep_ns(kMostOfAStoreBufferNs);
  wait_until_nobody_inside();
  return epoch;
}

struct Mapping {
  explicit Mapping(int fd) : bytes(header->file_bytes.load() + kRoomToGrow) {
    base = sys::mmap(bytes, MAP_SHARED | MAP_NORESERVE, fd, 0);
    scratch = map_anonymous(format::kHeaderBytes);
  }
  ~Mapping() {
    if (base != nullptr) sys::munmap(base, bytes);
    if (scratch != nullptr) sys::munmap(scratch, format::kHeaderBytes);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  uint64_t bytes;
  void* base;
  void* scratch;  // for the copy's header
};

int copy_once(const Mapping& mapping, uint64_t cut_epoch, uint64_t peak_epoch, int fd) {
  memset(mapping.scratch, 0, format::kHeaderBytes);
  format::SnapshotWriter writer(
      {static_cast<const char*>(mapping.base), mapping.bytes},
      {cut_epoch, peak_epoch, realtime_ns()}, mapping.scratch,
      [fd](const void* data, uint64_t bytes, uint64_t offset) {
        return put(fd, data, bytes, offset);
      },
      [] { sys::sleep_ns(kPauseNs); });
  return writer.write();
}

// Anew when the peak, or another reader's cut, came between.
int copy_to(int fd) {
  const int dump = reopen_dump();
  if (dump < 0) return ENOENT;
  const Mapping mapping(dump);
  sys::close(dump);
  if (mapping.base == nullptr || mapping.scratch == nullptr) return ENOMEM;
  int error = 0;
  for (int i = 0; i < kTries; ++i) {
    const uint64_t peak = header->peak_epoch.load(std::memory_order_acquire);
    const uint64_t cut = take_cut();
    sys::ftruncate(fd, 0);
    error = copy_once(mapping, cut, peak, fd);
    if (error != 0) break;
    if (header->peak_epoch.load(std::memory_order_acquire) == peak &&
        header->control.cut_epoch.load(std::memory_order_acquire) == cut)
      break;
  }
  return error;
}

void name_copy(const char* name, Line* path, Line* temporary) {
  constexpr char kEnd[] = ".mprof";
  constexpr size_t kEndBytes = sizeof kEnd - 1;
  char base[Line::kMax + 1];
  size_t length = strlen(dump_path());
  if (length > Line::kMax) length = Line::kMax;
  memcpy(base, dump_path(), length);
  if (length > kEndBytes && memcmp(base + length - kEndBytes, kEnd, kEndBytes) == 0)
    length -= kEndBytes;
  base[length] = '\0';
  *path << base << "." << name << kEnd;
  *temporary << path->text() << "." << static_cast<uint64_t>(sys::gettid());
}

// A file that has its name only when it is whole.
int write_file(const char* path, const char* temporary) {
  const int fd = sys::open(temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return -fd;
  int error = copy_to(fd);
  if (error == 0) error = -sys::link(temporary, path);
  sys::close(fd);
  sys::unlink(temporary);
  return error;
}

}  // namespace

int write_snapshot(const char* name) {
  if (name == nullptr || !format::is_snapshot_name(name) ||
      format::text_equal(name, format::kBaselineName))
    return EINVAL;
  Line path;
  Line temporary;
  name_copy(name, &path, &temporary);
  if (temporary.size() == Line::kMax) return ENAMETOOLONG;
  if (copying.exchange(true, std::memory_order_acquire)) return EBUSY;
  update_clock();
  const int error = write_file(path.text(), temporary.text());
  copying.store(false, std::memory_order_release);
  return error;
}

void forget_snapshot() { copying.store(false, std::memory_order_relaxed); }

}  // namespace mprof::preload
