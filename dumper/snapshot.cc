// SPDX-License-Identifier: Apache-2.0
#include "dumper/snapshot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "dumper/cut.h"
#include "dumper/file_mapping.h"
#include "format/snapshot.h"

namespace mprof::dumper {
namespace {

constexpr int kTries = 3;
constexpr useconds_t kPauseUs = 50;
// A dump that grows meanwhile gets chunks behind its end.
constexpr uint64_t kRoomToGrow = uint64_t{1} << 33;

[[noreturn]] void fail(const std::string& path, int error) {
  throw DumpError(fmt::format("{}: {}", path, strerror(error)));
}

// A file that has its name only when it is whole.
class NewFile {
 public:
  explicit NewFile(std::string path) : path_(std::move(path)), temporary_(path_ + ".XXXXXX") {
    fd_ = mkostemp(temporary_.data(), O_CLOEXEC);  // readable by its owner only, as dumps are
    if (fd_ < 0) fail(path_, errno);
  }
  ~NewFile() {
    close(fd_);
    if (!is_named_) unlink(temporary_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  int put(const void* data, uint64_t bytes, uint64_t offset) const {
    const auto* from = static_cast<const char*>(data);
    while (bytes != 0) {
      const ssize_t wrote = pwrite(fd_, from, bytes, static_cast<off_t>(offset));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return wrote < 0 ? errno : ENOSPC;
      from += wrote;
      offset += static_cast<uint64_t>(wrote);
      bytes -= static_cast<uint64_t>(wrote);
    }
    return 0;
  }

  void clear() const {
    if (ftruncate(fd_, 0) != 0) fail(path_, errno);
  }

  void give_name(bool may_replace) {
    if (may_replace) {
      is_named_ = rename(temporary_.c_str(), path_.c_str()) == 0;
      if (!is_named_) fail(path_, errno);
      return;
    }
    if (link(temporary_.c_str(), path_.c_str()) == 0) return;
    if (errno == EEXIST)
      throw DumpError(path_ + ": there is one of this name already, and nothing is overwritten");
    fail(path_, errno);
  }

 private:
  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  bool is_named_ = false;  // the temporary name is gone
};

uint64_t realtime_now_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

Cut cut_to_keep(const Dump& dump) {
  const Cut cut = take_cut(dump);
  if (cut.mode == CutMode::kReadOnly)
    throw DumpError(fmt::format(
        "{}: may not be written by this user, so there is no consistent cut of process {} to keep",
        dump.path(), dump.header().pid));
  return cut;
}

FileMapping map_whole(const Dump& dump) {
  const int fd = open(dump.path().c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(dump.path(), errno);
  FileMapping mapping(fd, 0, dump.file_bytes() + kRoomToGrow, false);
  close(fd);
  return mapping;
}

void copy_once(const Dump& dump, const FileMapping& mapping, const Cut& cut, uint64_t peak_epoch,
               const NewFile& file, const std::string& path) {
  alignas(format::DumpHeader) char header[format::kHeaderBytes] = {};
  const auto put = [&](const void* data, uint64_t bytes, uint64_t offset) {
    return file.put(data, bytes, offset);
  };
  format::SnapshotWriter writer({reinterpret_cast<const char*>(mapping.data()), mapping.bytes()},
                                {cut.epoch, peak_epoch, realtime_now_ns()}, header, put,
                                [] { usleep(kPauseUs); });
  const int error = writer.write();
  if (error == writer.kDamaged) throw DumpError(dump.path() + ": damaged, so it is not copied");
  if (error != 0) fail(path, error);
}

// As reading a heap profile does it: anew when the peak, or another reader's cut, came between.
void copy_dump(const Dump& dump, const NewFile& file, const std::string& path) {
  const FileMapping mapping = map_whole(dump);
  for (int i = 0; i < kTries; ++i) {
    const PeakMark peak = dump.peak_mark();
    const Cut cut = cut_to_keep(dump);
    file.clear();
    copy_once(dump, mapping, cut, peak.epoch, file, path);
    if (dump.peak_mark() == peak && still_holds(dump, cut)) return;
  }
}

std::string write_copy(const Dump& dump, const std::string& name, bool may_replace) {
  const std::string path = snapshot_path(dump, name);
  NewFile file(path);
  copy_dump(dump, file, path);
  file.give_name(may_replace);
  return path;
}

}  // namespace

std::string snapshot_path(const Dump& dump, const std::string& name) {
  std::string path = dump.path();
  if (path.starts_with("/proc/") && path.find("/map_files/") != std::string::npos)
    throw DumpError(
        fmt::format("{}: the dump of process {} has no name any more, so there is "
                    "nothing that a copy could lie beside",
                    path, dump.header().pid));
  constexpr std::string_view kEnd = ".mprof";
  if (path.ends_with(kEnd)) path.resize(path.size() - kEnd.size());
  return fmt::format("{}.{}.mprof", path, name);
}

std::string take_snapshot(const Dump& dump, const std::string& name) {
  return write_copy(dump, name, false);
}

std::string take_baseline(const Dump& dump) {
  return write_copy(dump, format::kBaselineName, true);
}

Dump open_baseline(const Dump& dump) {
  const std::string path = snapshot_path(dump, format::kBaselineName);
  if (access(path.c_str(), F_OK) != 0)
    throw DumpError(
        fmt::format("{}: no baseline, so nothing to subtract: `mprof ctl {} --reset` "
                    "makes one",
                    path, dump.header().pid));
  Dump baseline = Dump::open(path, Access::kRead);
  if (baseline.header().generation != dump.header().generation)
    throw DumpError(fmt::format("{}: a baseline of another process than {}", path, dump.path()));
  return baseline;
}

}  // namespace mprof::dumper
