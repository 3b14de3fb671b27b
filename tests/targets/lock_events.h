// SPDX-License-Identifier: Apache-2.0
// What a program notes about its own waits and releases, and what the profiles must say of them.
//
// The block profile is the sum of the waits. The mutex profile follows from both: the time since
// the last release, or since somebody began to wait, goes to the release for which somebody waited.
//
// Everything is noted from outside the call, and on a busy machine a thread may lose its CPU
// between the clock and the call. So each end is noted twice: when it cannot have happened yet, and
// when it must have. On a quiet machine they are as good as one.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace lock_events {

inline int64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000000000} + now.tv_nsec;
}

inline timespec in_ms(clockid_t clock, int ms) {
  timespec then;
  clock_gettime(clock, &then);
  then.tv_nsec += ms % 1000 * 1000000;
  then.tv_sec += ms / 1000 + then.tv_nsec / 1000000000;
  then.tv_nsec %= 1000000000;
  return then;
}

inline void nap_ms(int ms) {
  timespec end = in_ms(CLOCK_MONOTONIC, ms);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, nullptr) != 0) {
  }
}

// Waits without any of the functions that are profiled.
inline void await(const std::atomic<int>& stage, int wanted) {
  const timespec pause = {0, 300000};
  while (stage.load() < wanted) nanosleep(&pause, nullptr);
}

[[noreturn]] inline void fail(const char* what) {
  fprintf(stderr, "unexpected: %s\n", what);
  exit(3);
}

// A function of the program: plain, or an instance of a template for one kind of lock.
struct Site {
  const char* verb;
  const char* kind;
  std::string name() const { return *kind ? std::string(verb) + "<" + kind + ">" : verb; }
};

// A moment that lies between two that are known.
struct Moment {
  int64_t earliest_ns;
  int64_t latest_ns;
};

struct Event {
  Site site;
  const char* wait;  // label; of a release nullptr
  const char* lock;  // symbol of the lock, or one that begins with 0x
  int64_t begin_ns;
  Moment end;  // of a release: it
  bool is_sure;
};

constexpr size_t kMaxEvents = 1024;
inline Event events[kMaxEvents];
inline std::atomic<size_t> event_count;

inline void note(const Event& event) {
  const size_t at = event_count.fetch_add(1);
  if (at >= kMaxEvents) fail("more events than there is room for");
  events[at] = event;
}
// `since`: what ended the wait had not happened before this.
inline Moment ended(int64_t begin_ns, int64_t since_ns) {
  const int64_t now = now_ns();
  return {std::clamp(since_ns, begin_ns, now), now};
}
inline void waited(Site site, const char* wait, const char* lock, int64_t begin_ns, Moment end) {
  note({site, wait, lock, begin_ns, end, true});
}
// A wait that may be found, and no longer than this.
inline void may_have_waited(Site site, const char* wait, const char* lock, int64_t begin_ns,
                            Moment end) {
  note({site, wait, lock, begin_ns, end, false});
}
inline void released(Site site, const char* lock, int64_t before_ns) {
  note({site, nullptr, lock, before_ns, {before_ns, now_ns()}, true});
}

// Only these have a holder who can be charged.
inline bool has_holder(const Event& wait) {
  for (const char* kind : {"mutex", "rwlock read", "rwlock write", "spin", "cond relock"})
    if (strcmp(wait.wait, kind) == 0) return true;
  return false;
}

struct Row {
  uint64_t count = 0;
  int64_t least_ns = 0;
  int64_t most_ns = 0;
  std::set<std::string> waits;
  std::set<std::string> victims;
};
using Rows = std::map<std::pair<std::string, std::string>, Row>;  // of (site, lock)

inline Rows block_rows(const std::string& wait) {
  Rows rows;
  for (size_t i = 0; i < event_count; i++) {
    const Event& event = events[i];
    if (event.wait == nullptr || wait != event.wait) continue;
    Row& row = rows[{event.site.name(), event.lock}];
    row.count += event.is_sure;
    row.least_ns += event.end.earliest_ns - event.begin_ns;
    row.most_ns += event.end.latest_ns - event.begin_ns;
    row.waits.insert(wait);
  }
  return rows;
}

inline std::vector<Event> releases_in_order() {
  std::vector<Event> found;
  for (size_t i = 0; i < event_count; i++)
    if (events[i].wait == nullptr) found.push_back(events[i]);
  std::sort(found.begin(), found.end(),
            [](const Event& a, const Event& b) { return a.begin_ns < b.begin_ns; });
  return found;
}

// Those who are kept waiting until a release: they get the lock at that moment or later.
inline std::vector<Event> waiters_at(const Event& release) {
  std::vector<Event> found;
  for (size_t i = 0; i < event_count; i++) {
    const Event& wait = events[i];
    if (wait.wait == nullptr || !wait.is_sure || !has_holder(wait)) continue;
    if (strcmp(wait.lock, release.lock) != 0) continue;
    if (wait.begin_ns < release.begin_ns && wait.end.latest_ns > release.begin_ns)
      found.push_back(wait);
  }
  return found;
}

inline Rows mutex_rows() {
  Rows rows;
  std::map<std::string, Moment> charged_until;
  for (const Event& release : releases_in_order()) {
    const std::vector<Event> waiters = waiters_at(release);
    if (waiters.empty()) continue;
    int64_t first = waiters[0].begin_ns;
    for (const Event& waiter : waiters) first = std::min(first, waiter.begin_ns);
    Moment& until = charged_until[release.lock];
    Row& row = rows[{release.site.name(), release.lock}];
    row.count++;
    row.least_ns +=
        std::max<int64_t>(0, release.end.earliest_ns - std::max(first, until.latest_ns));
    row.most_ns += release.end.latest_ns - std::max(first, until.earliest_ns);
    for (const Event& waiter : waiters) {
      row.waits.insert(waiter.wait);
      row.victims.insert(waiter.site.name());
    }
    until = release.end;
  }
  return rows;
}

inline std::string joined(const std::set<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : "|") + word;
  return line.empty() ? "-" : line;
}

inline void print_rows(const char* profile, const Rows& rows) {
  for (const auto& [key, row] : rows) {
    printf("%s\t%s\t%s\t%llu\t%lld\t%lld\t%s\t%s\n", profile, key.first.c_str(),
           joined(row.waits).c_str(), static_cast<unsigned long long>(row.count),
           static_cast<long long>(row.least_ns), static_cast<long long>(row.most_ns),
           key.second.c_str(), joined(row.victims).c_str());
  }
}

// A line a site: profile, site, labels `wait`, count, least and most delay in ns, lock, sites that
// may be victims. A count of 0: it is possible, and no longer than that.
inline void print_truth() {
  std::set<std::string> kinds;
  for (size_t i = 0; i < event_count; i++)
    if (events[i].wait != nullptr) kinds.insert(events[i].wait);
  for (const std::string& kind : kinds) print_rows("block", block_rows(kind));
  print_rows("mutex", mutex_rows());
}

}  // namespace lock_events
