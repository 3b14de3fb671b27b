// SPDX-License-Identifier: Apache-2.0
#include "dumper/report_locks.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "dumper/label_names.h"
#include "dumper/profile_comments.h"
#include "dumper/site_name.h"
#include "dumper/terminal_text.h"

namespace mprof::dumper {
namespace {

using format::CountKind;
using format::CountTotals;

constexpr size_t kMaxHolders = 5;
constexpr size_t kMaxVictims = 5;
constexpr size_t kMinTextColumns = 30;

// ---- what the dump says

class TallySum {
 public:
  void add(const CountTotals& totals, const TickClock& clock) {
    const double ns_per_tick = clock.ns_per_tick();
    count_.add(whole_count(totals.count), totals.count_variance);
    delay_.add(static_cast<double>(totals.value) * ns_per_tick,
               totals.value_variance * ns_per_tick * ns_per_tick);
    longest_ns_ = std::max(longest_ns_, clock.duration_to_ns(totals.longest));
  }
  [[nodiscard]] LockTally tally() const {
    return {count_.estimate(), delay_.estimate(), longest_ns_};
  }

 private:
  EstimateSum count_;
  EstimateSum delay_;
  uint64_t longest_ns_ = 0;
};

// "cond relock" takes a mutex; a rwlock is one lock however it is taken. Empty: no lock.
std::string kind_of(const std::string& wait) {
  if (wait == "mutex" || wait == "cond relock") return "mutex";
  if (wait.starts_with("rwlock")) return "rwlock";
  return wait == "spin" ? wait : std::string();
}

// The labels of one row.
struct Lock {
  LabelCopy address;
  LabelCopy site;
  LabelCopy victim;
  std::string wait;
};

Lock lock_of(const std::vector<LabelCopy>& labels) {
  Lock lock;
  for (const LabelCopy& label : labels) {
    if (label.key == format::kLabelLock) lock.address = label;
    if (label.key == format::kLabelLockSite) lock.site = label;
    if (label.key == format::kLabelVictim) lock.victim = label;
    if (label.key == format::kLabelWait) lock.wait = label.text;
  }
  return lock;
}

bool is_worse(const LockTally& a, const LockTally& b) {
  return std::tie(a.delay_ns.value, a.count.value) > std::tie(b.delay_ns.value, b.count.value);
}

template <class Row>
void sort_worst_first(std::vector<Row>& rows) {
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return is_worse(a.tally, b.tally); });
}

class LockBuilder {
 public:
  LockBuilder(const Dump& dump, Symbolizer& symbolizer, SymbolDetail detail)
      : dump_(dump),
        clock_(dump.clock()),
        names_(dump, symbolizer, detail),
        sites_(dump, symbolizer, detail) {}

  void add(const CountCopy& copy) {
    const Lock lock = lock_of(dump_.labels(copy.labels));
    if (copy.kind == CountKind::kMutex) add_contention(copy, lock);
    if (copy.kind == CountKind::kBlock) add_wait(copy, lock);
  }

  void finish(LockReport& report) {
    report.contended = contended_.tally();
    report.waited = waited_.tally();
    report.other_waits = other_waits_.tally();
    for (auto& [key, entry] : entries_) report.locks.push_back(row_of(entry, report.duration_ns));
    std::sort(report.locks.begin(), report.locks.end(), [](const LockRow& a, const LockRow& b) {
      if (is_worse(a.contended, b.contended)) return true;
      if (is_worse(b.contended, a.contended)) return false;
      if (is_worse(a.waited, b.waited)) return true;
      return !is_worse(b.waited, a.waited) && a.name < b.name;
    });
  }

 private:
  using Waiters = std::map<std::pair<std::string, std::string>, TallySum>;  // site, wait
  struct Holder {
    TallySum sum;
    Waiters victims;
  };
  struct Entry {
    LockRow row;
    TallySum contended;
    TallySum waited;
    std::map<std::string, Holder> holders;  // by site
    Waiters waiters;
  };
  // One address can be several locks, one after the other, in blocks of several sites.
  using Key = std::tuple<uint64_t, uint32_t, uint32_t>;

  void add_contention(const CountCopy& copy, const Lock& lock) {
    Entry& entry = entry_of(lock);
    Holder& holder = entry.holders[sites_.of_stack(copy.stack)];
    const std::string victim = lock.victim.key.empty() ? "[unknown]" : names_.text_of(lock.victim);
    for (TallySum* sum :
         {&contended_, &entry.contended, &holder.sum, &holder.victims[{victim, lock.wait}]})
      sum->add(copy.totals, clock_);
  }

  void add_wait(const CountCopy& copy, const Lock& lock) {
    if (kind_of(lock.wait).empty()) {
      other_waits_.add(copy.totals, clock_);
      return;
    }
    Entry& entry = entry_of(lock);
    TallySum& waiter = entry.waiters[{sites_.of_stack(copy.stack), lock.wait}];
    for (TallySum* sum : {&waited_, &entry.waited, &waiter}) sum->add(copy.totals, clock_);
  }

  Entry& entry_of(const Lock& lock) {
    const auto [found, is_new] =
        entries_.try_emplace(Key(lock.address.address, lock.address.module, lock.site.stack));
    LockRow& row = found->second.row;
    if (is_new) {
      row.address = lock.address.address;
      row.name = lock.address.key.empty() ? "[unknown lock]" : names_.text_of(lock.address);
      if (!lock.site.key.empty()) row.site = names_.text_of(lock.site);
    }
    if (row.kind.empty()) row.kind = kind_of(lock.wait);
    return found->second;
  }

  static std::vector<LockWaiter> rows_of(const Waiters& waiters) {
    std::vector<LockWaiter> rows;
    for (const auto& [key, sum] : waiters) rows.push_back({key.first, key.second, sum.tally()});
    sort_worst_first(rows);
    return rows;
  }

  static LockRow row_of(Entry& entry, uint64_t duration_ns) {
    LockRow row = std::move(entry.row);
    row.contended = entry.contended.tally();
    row.waited = entry.waited.tally();
    if (duration_ns != 0)
      row.share_of_time = row.contended.delay_ns.value / static_cast<double>(duration_ns);
    for (const auto& [site, holder] : entry.holders)
      row.holders.push_back({site, holder.sum.tally(), rows_of(holder.victims)});
    sort_worst_first(row.holders);
    row.waiters = rows_of(entry.waiters);
    return row;
  }

  const Dump& dump_;
  TickClock clock_;
  LabelNames names_;
  SiteNames sites_;
  std::map<Key, Entry> entries_;
  TallySum contended_;
  TallySum waited_;
  TallySum other_waits_;
};

void add_notes(const Dump& dump, const CountReading& reading, LockReport& report) {
  report.notes = {"mutex profile: " + rate_text(dump, CountKind::kMutex),
                  "block profile: " + rate_text(dump, CountKind::kBlock)};
  if (!dump.clock().calibrated())
    report.notes.emplace_back(
        "the rate of the clock is unknown: times are cycles, shown as nanoseconds");
  if (!reading.window.empty()) report.notes.push_back(reading.window);
  for (std::string& line : loss_lines(dump)) report.notes.push_back(std::move(line));
  for (const std::string& line : dump.damage()) report.notes.push_back("damage: " + line);
}

// ---- the table

std::string count_text(const LockTally& tally, const char* one, const char* many) {
  const std::string count = estimate_text(tally.count, "count");
  return fmt::format("{} {}", count, count == "1" ? one : many);
}

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f}%", 100 * part / whole) : "-";
}

class LockTable {
 public:
  LockTable(const LockReport& report, size_t rows, size_t width_columns)
      : report_(report),
        shown_(std::min(report.locks.size(), rows == 0 ? SIZE_MAX : rows)),
        width_columns_(width_columns),
        has_errors_(report.contended.delay_ns.standard_error > 0 ||
                    report.waited.delay_ns.standard_error > 0) {}

  std::string run() {
    add_summary();
    for (size_t i = 0; i < shown_; ++i) add_lock(i + 1, report_.locks[i]);
    if (shown_ < report_.locks.size()) add_rest();
    return std::move(out_);
  }

 private:
  template <class... Args>
  void line(fmt::format_string<Args...> text, Args&&... args) {
    out_ += fmt::format(text, std::forward<Args>(args)...) + "\n";
  }

  void add_summary() {
    line("Locks of {}, process {}, over {}{}", printable(report_.program), report_.pid,
         duration_text(static_cast<double>(report_.duration_ns)),
         report_.running ? ", still running" : "");
    if (report_.locks.empty()) {
      line("No thread was seen to wait for a lock.");
    } else {
      line("{} {} waited for: {} with {} of delay; all waits together {} in {}",
           report_.locks.size(), report_.locks.size() == 1 ? "lock was" : "locks were",
           count_text(report_.contended, "contention", "contentions"),
           duration_text(report_.contended.delay_ns), duration_text(report_.waited.delay_ns),
           count_text(report_.waited, "wait", "waits"));
    }
    if (report_.other_waits.count.value > 0)
      line(
          "not shown: {} of {} for conditions, semaphores, barriers, threads and futexes "
          "(mprof top --block)",
          count_text(report_.other_waits, "wait", "waits"),
          duration_text(report_.other_waits.delay_ns));
    for (const std::string& note : report_.notes) out_ += printable(note) + "\n";
  }

  void add_lock(size_t number, const LockRow& lock) {
    const std::string kind = lock.kind.empty() ? "" : " (" + lock.kind + ")";
    out_ += "\n" + fitted(fmt::format("{}. ", number), lock.name + kind, width_columns_) + "\n";
    if (!lock.site.empty())
      out_ += fitted("   in a block allocated by ", lock.site, width_columns_) + "\n";
    if (!lock.holders.empty())
      line("   somebody waited for {}, {} of the run, in {}",
           duration_text(lock.contended.delay_ns), percent(lock.share_of_time, 1),
           count_text(lock.contended, "contention", "contentions"));
    if (!lock.waiters.empty())
      line("   all waits together {} in {}, the longest {}", duration_text(lock.waited.delay_ns),
           count_text(lock.waited, "wait", "waits"),
           duration_text(static_cast<double>(lock.waited.longest_ns)));
    add_heading();
    if (lock.holders.empty())
      add_waiters(lock, lock.waiters, lock.waited, "waiter ");
    else
      add_holders(lock);
  }

  void add_heading() {
    line("   {:>10}{} {:>6} {:>10}", "delay", has_errors_ ? fmt::format(" {:>10}", "±") : "",
         "share", "count");
  }

  void add_row(const LockTally& tally, const LockTally& whole, std::string_view prefix,
               const std::string& site) {
    const double error_ns = tally.delay_ns.standard_error;
    const std::string error = error_ns > 0 ? duration_text(error_ns) : "";
    const std::string numbers =
        fmt::format("   {:>10}{} {:>6} {:>10.0f}  ", duration_text(tally.delay_ns.value),
                    has_errors_ ? fmt::format(" {:>10}", error) : "",
                    percent(tally.delay_ns.value, whole.delay_ns.value), tally.count.value);
    const size_t taken = columns_of(numbers);
    const size_t room =
        width_columns_ == 0
            ? 0
            : std::max(kMinTextColumns, width_columns_ - std::min(width_columns_, taken));
    out_ += numbers + fitted(prefix, site, room) + "\n";
  }

  void add_holders(const LockRow& lock) {
    const size_t count = std::min(lock.holders.size(), kMaxHolders);
    for (size_t i = 0; i < count; ++i) {
      const LockHolder& holder = lock.holders[i];
      add_row(holder.tally, lock.contended, "held by ", holder.site);
      add_waiters(lock, holder.victims, lock.contended, "  waited ");
    }
    if (count < lock.holders.size())
      line("   {:>10} more holders: --json has all", lock.holders.size() - count);
  }

  void add_waiters(const LockRow& lock, const std::vector<LockWaiter>& waiters,
                   const LockTally& whole, std::string_view prefix) {
    const size_t count = std::min(waiters.size(), kMaxVictims);
    for (size_t i = 0; i < count; ++i) {
      const bool is_plain = waiters[i].wait == lock.kind;
      add_row(waiters[i].tally, whole, prefix,
              waiters[i].site + (is_plain ? "" : " [" + waiters[i].wait + "]"));
    }
    if (count < waiters.size())
      line("   {:>10} more waiters: --json has all", waiters.size() - count);
  }

  void add_rest() {
    double delay_ns = 0;
    for (size_t i = shown_; i < report_.locks.size(); ++i)
      delay_ns += report_.locks[i].contended.delay_ns.value;
    const size_t count = report_.locks.size() - shown_;
    line("\n{} more {} with {} of delay: -n 0 shows all", count, count == 1 ? "lock" : "locks",
         duration_text(delay_ns));
  }

  const LockReport& report_;
  size_t shown_;
  size_t width_columns_;
  bool has_errors_;
  std::string out_;
};

// ---- JSON

using Json = nlohmann::ordered_json;

Json estimate(const Estimate& e) { return {{"value", e.value}, {"stderr", e.standard_error}}; }

Json tally(const LockTally& t) {
  return {{"count", estimate(t.count)},
          {"delay_ns", estimate(t.delay_ns)},
          {"longest_ns", t.longest_ns}};
}

Json waiters(const std::vector<LockWaiter>& rows) {
  Json list = Json::array();
  for (const LockWaiter& row : rows) {
    Json entry = tally(row.tally);
    entry.update({{"site", row.site}, {"wait", row.wait}});
    list.push_back(std::move(entry));
  }
  return list;
}

Json holders(const std::vector<LockHolder>& rows) {
  Json list = Json::array();
  for (const LockHolder& row : rows) {
    Json entry = tally(row.tally);
    entry.update({{"site", row.site}, {"victims", waiters(row.victims)}});
    list.push_back(std::move(entry));
  }
  return list;
}

Json locks(const std::vector<LockRow>& rows) {
  Json list = Json::array();
  for (const LockRow& row : rows)
    list.push_back({{"lock", row.name},
                    {"address", row.address},
                    {"lock_site", row.site},
                    {"kind", row.kind},
                    {"contended", tally(row.contended)},
                    {"share_of_time", row.share_of_time},
                    {"waited", tally(row.waited)},
                    {"holders", holders(row.holders)},
                    {"waiters", waiters(row.waiters)}});
  return list;
}

}  // namespace

LockReport compute_locks(const Dump& dump, const CountReading& reading, Symbolizer& symbolizer,
                         SymbolDetail detail) {
  LockReport report;
  report.program = dump.executable();
  report.pid = dump.header().pid;
  report.running = dump.life() == Life::kRunning;
  const uint64_t start_ns = dump.header().realtime_start_ns;
  const uint64_t end_ns = dump.end_realtime_ns();
  report.duration_ns = end_ns > start_ns ? end_ns - start_ns : 0;
  LockBuilder builder(dump, symbolizer, detail);
  for (const CountRowReading& row : reading.rows) builder.add(row.copy);
  builder.finish(report);
  add_notes(dump, reading, report);
  return report;
}

std::string locks_table(const LockReport& report, size_t rows, size_t width_columns) {
  return LockTable(report, rows, width_columns).run();
}

std::string locks_json(const LockReport& report) {
  const Json out = {{"program", report.program},
                    {"pid", report.pid},
                    {"running", report.running},
                    {"duration_ns", report.duration_ns},
                    {"contended", tally(report.contended)},
                    {"waited", tally(report.waited)},
                    {"other_waits", tally(report.other_waits)},
                    {"notes", report.notes},
                    {"locks", locks(report.locks)}};
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace mprof::dumper
