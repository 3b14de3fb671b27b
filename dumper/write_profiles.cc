// SPDX-License-Identifier: Apache-2.0
#include "dumper/write_profiles.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <system_error>

#include "dumper/difference.h"
#include "dumper/encode_pprof.h"
#include "dumper/encode_text.h"
#include "dumper/find_dump.h"
#include "dumper/profile_comments.h"

namespace mprof::dumper {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

void write_all(int fd, const std::string& bytes, const std::string& path) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t wrote = write(fd, bytes.data() + done, bytes.size() - done);
    if (wrote < 0 && errno != EINTR) fail(path);
    if (wrote > 0) done += static_cast<size_t>(wrote);
  }
}

// Renamed into place, so that nobody reads half a profile.
void replace_file(const std::string& path, const std::string& bytes) {
  std::string temporary = path + ".XXXXXX";
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) fail(path);
  try {
    write_all(fd, bytes, path);
    const mode_t mask = umask(0);
    umask(mask);
    if (fchmod(fd, 0666 & ~mask) != 0 || rename(temporary.c_str(), path.c_str()) != 0) fail(path);
  } catch (...) {
    unlink(temporary.c_str());
    close(fd);
    throw;
  }
  close(fd);
}

// A pipe or a device: /dev/stdout.
void write_into(const std::string& path, const std::string& bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) fail(path);
  try {
    write_all(fd, bytes, path);
  } catch (...) {
    close(fd);
    throw;
  }
  close(fd);
}

// The text form has four columns always; pprof leaves equal ones out.
void add_alloc_columns(Profile& profile) {
  if (profile.types.size() != 2) return;
  profile.types = {{"alloc_objects", "count"},
                   {"alloc_space", "bytes"},
                   {"inuse_objects", "count"},
                   {"inuse_space", "bytes"}};
  for (Sample& sample : profile.samples) {
    sample.values = {sample.values[0], sample.values[1], sample.values[0], sample.values[1]};
    sample.variances.clear();
  }
}

std::string as_text(Profile profile, HeapView) {
  add_alloc_columns(profile);
  return encode_text(profile, TextKind::kHeap);
}

// Go has no text form of a CPU profile; that of counts has one column.
Profile samples_only(Profile profile) {
  profile.types.resize(1);
  for (Sample& sample : profile.samples) sample.values.resize(1);
  return profile;
}

std::string as_text(const Profile& profile, format::CountKind kind) {
  switch (kind) {
    case format::CountKind::kBlock: return encode_text(profile, TextKind::kContention);
    case format::CountKind::kMutex: return encode_text(profile, TextKind::kMutex);
    case format::CountKind::kCpu: return encode_text(samples_only(profile), TextKind::kCount);
    default: return encode_text(profile, TextKind::kCount);
  }
}

std::string as_text(const Profile& profile, const CustomView&) {
  return encode_text(profile, TextKind::kCount);
}

std::string write_view(const Profile& profile, const std::string& base, const View& view,
                       bool text) {
  const std::string path = fmt::format("{}.{}.{}", base, file_word(view), text ? "txt" : "pb.gz");
  // Replaces a link, too: the name was not chosen by the user, and others may write beside a dump.
  replace_file(path, text ? std::visit([&](const auto& one) { return as_text(profile, one); }, view)
                          : encode_pprof(profile));
  return path;
}

std::string window_text(const WindowProfile& profile, int64_t end_ns) {
  const int64_t to = std::min(profile.window.to_ns, end_ns);
  std::string text = fmt::format("events from {} to {} after the start only",
                                 duration_text(static_cast<double>(profile.window.from_ns)),
                                 duration_text(static_cast<double>(to)));
  if (profile.health.lost() != 0)
    text +=
        fmt::format("; {} events were dropped before they could be kept", profile.health.lost());
  return text;
}

void keep_window(const WindowProfile& window, int64_t end_ns, HeapReading& reading) {
  for (BucketReading& bucket : reading.buckets) {
    bucket.totals =
        bucket.row < window.buckets.size() ? window.buckets[bucket.row].born : format::HeapTotals{};
    bucket.peak = {};
  }
  reading.window =
      window_text(window, end_ns) + "; in use means allocated in this window and not freed in it";
}

void keep_window(const WindowProfile& window, int64_t end_ns, CountReading& reading) {
  for (auto& [row, copy] : reading.rows)
    copy.totals = row < window.counts.size() ? window.counts[row] : format::CountTotals{};
  reading.window = window_text(window, end_ns);
}

// Those that were asked for, or all that there are.
std::vector<View> views_to_write(const Dump& dump, const Reading& reading,
                                 const std::optional<Baseline>& since,
                                 const std::vector<View>& wanted) {
  const bool in_window = !reading.heap.window.empty();
  std::vector<View> views = resolve(dump, wanted);
  if (in_window) require_views_of_a_part(views);
  if (wanted.empty()) views = recorded_views(dump, in_window);
  if (since && std::erase(views, View(HeapView::kPeak)) != 0 && !wanted.empty())
    throw std::runtime_error(
        "-p peak: what there is since a reset has no peak of its own; accepted "
        "with --since-reset are all others");
  return views;
}

}  // namespace

// A dump that was found through /proc has no folder that could be written to.
std::string base_path(const Dump& dump, const std::string& directory) {
  const bool in_proc = dump.path().starts_with("/proc/");
  const std::string name =
      in_proc ? fmt::format("{}.{}.mprof", fs::path(dump.executable()).filename().string(),
                            dump.header().pid)
              : fs::path(dump.path()).filename().string();
  if (!directory.empty()) return (fs::path(directory) / name).string();
  return in_proc ? name : dump.path();
}

void write_file(const std::string& path, const std::string& bytes) {
  if (is_dump_file(path))
    throw std::runtime_error(path + ": is a dump; a profile is not written over it");
  std::error_code missing;
  const fs::file_status status = fs::status(path, missing);
  if (fs::is_directory(status)) throw std::system_error(EISDIR, std::generic_category(), path);
  if (fs::exists(status) && !fs::is_regular_file(status)) return write_into(path, bytes);
  // A link stays one: /dev/stderr may lead to a file, and must not become one.
  const fs::file_status itself = fs::symlink_status(path, missing);
  replace_file(fs::is_symlink(itself) ? fs::canonical(path).string() : path, bytes);
}

Reading read_whole(Dump& dump) {
  Reading reading;
  reading.heap = read_heap(dump);
  reading.counts = read_counts(dump);
  return reading;
}

Reading read_wanted(Dump& dump, const std::optional<TimePoint>& from,
                    const std::optional<TimePoint>& to) {
  Reading reading = read_whole(dump);
  if (!from && !to) return reading;
  const int64_t end_ns = end_of(dump);
  const WindowProfile window = profile_of_window(dump, make_window(from, to, dump.clock(), end_ns));
  if (window.health.events == 0)
    throw std::runtime_error(dump.path() +
                             ": no events, so no part of the time can be told "
                             "apart: `mprof run` or MPROF_DRAIN=1 keeps them, `mprof drain` saves "
                             "the latest ones");
  keep_window(window, end_ns, reading.heap);
  keep_window(window, end_ns, reading.counts);
  return reading;
}

PlacedProfile make_profile(const Dump& dump, const Reading& reading, const View& view,
                           LabelNames& names) {
  if (const auto* heap = std::get_if<HeapView>(&view))
    return make_profile(dump, reading.heap, *heap);
  if (const auto* custom = std::get_if<CustomView>(&view))
    return make_profile(dump, reading.counts, find_custom(dump, custom->name).kind, names);
  return make_profile(dump, reading.counts, std::get<format::CountKind>(view), names);
}

std::string profile_text(const Profile& profile, const View& view) {
  return std::visit([&](const auto& one) { return as_text(profile, one); }, view);
}

Baseline read_baseline(Dump& snapshot) {
  return {read_whole(snapshot), snapshot.end_realtime_ns()};
}

Profile named_profile(const Dump& dump, const Reading& reading,
                      const std::optional<Baseline>& since, const View& view,
                      Symbolizer& symbolizer, SymbolDetail detail) {
  if (!since) {
    LabelNames names(dump, symbolizer, detail);
    PlacedProfile placed = make_profile(dump, reading, view, names);
    symbolize(placed, symbolizer, detail);
    return std::move(placed.profile);
  }
  Profile profile = difference(dump, since->reading, reading, view, symbolizer, detail);
  const auto start = static_cast<int64_t>(since->realtime_ns);
  profile.time_nanos = start;
  profile.duration_nanos =
      std::max<int64_t>(0, static_cast<int64_t>(dump.end_realtime_ns()) - start);
  profile.comments.push_back(fmt::format(
      "values are less what they were at {}; totals and stacks above are of the whole run",
      time_text(since->realtime_ns)));
  return profile;
}

std::vector<std::string> write_profiles(const Dump& dump, const Reading& reading,
                                        const std::optional<Baseline>& since,
                                        const OutputOptions& options, Symbolizer& symbolizer) {
  const std::string base = base_path(dump, options.directory);
  std::vector<std::string> paths;
  for (const View& view : views_to_write(dump, reading, since, options.views)) {
    const Profile profile = named_profile(dump, reading, since, view, symbolizer, options.detail);
    paths.push_back(write_view(profile, base, view, options.text));
  }
  return paths;
}

}  // namespace mprof::dumper
