// SPDX-License-Identifier: Apache-2.0
// Records of a trace that nobody made: threads that lock, wait, sleep, call the kernel and migrate
// without notice, with losses, sessions and rows out of nowhere. Some obey the rules of those who
// write records, some obey none.
#pragma once

#include <random>
#include <utility>
#include <vector>

#include "dumper/trace/record.h"
#include "format/call_names.h"
#include "format/label_table.h"

namespace mprof::test {

class RecordList : public dumper::TraceSource {
 public:
  explicit RecordList(std::vector<dumper::TraceRecord> records) : records_(std::move(records)) {}
  bool next(dumper::TraceRecord& record) override {
    if (at_ == records_.size()) return false;
    record = records_[at_++];
    return true;
  }

 private:
  std::vector<dumper::TraceRecord> records_;
  size_t at_ = 0;
};

struct RandomRecordOptions {
  uint32_t seed = 0;
  size_t records = 3000;
  uint32_t threads = 8;
  uint32_t cores = 4;
  uint32_t stacks = 12;   // rows from 0
  uint32_t strings = 40;  // rows from 0
};

class RandomRecords {
 public:
  using Kind = format::TraceKind;

  explicit RandomRecords(const RandomRecordOptions& options)
      : options_(options), random_(options.seed), wild_(options.seed % 3 == 2) {}

  std::vector<dumper::TraceRecord> make() {
    for (uint32_t row = 0; row < options_.threads; ++row) live_.push_back(next_row_++);
    if (chance(0.7)) begin_session();
    while (records_.size() < options_.records) {
      ns_ += pick({0, 0, 1, 50, 3000});
      if (chance(0.002)) ns_ += 30'000'000;
      if (chance(0.0003)) ns_ += 300'000'000;
      if (wild_ && chance(0.3))
        anything();
      else
        something();
    }
    if (chance(0.5)) add(Kind::kStop, live_.front(), {1});
    return std::move(records_);
  }

 private:
  using Arguments = std::vector<uint64_t>;

  bool chance(double p) { return std::uniform_real_distribution<>(0, 1)(random_) < p; }
  uint64_t below(uint64_t n) { return std::uniform_int_distribution<uint64_t>(0, n - 1)(random_); }
  template <class T>
  T pick(const std::vector<T>& of) {
    return of[below(of.size())];
  }
  uint64_t pick(std::initializer_list<uint64_t> of) { return pick(std::vector<uint64_t>(of)); }
  uint64_t object() { return 0x5000 + 16 * below(6); }
  uint64_t wait_kind() { return below(static_cast<uint64_t>(format::WaitKind::kCount)); }
  uint64_t call() { return below(static_cast<uint64_t>(format::CallName::kCount)); }

  dumper::TraceRecord& add(Kind kind, uint32_t thread, const Arguments& arguments = {}) {
    dumper::TraceRecord& record = records_.emplace_back();
    record.kind = kind;
    record.ns = ns_;
    record.thread = thread;
    record.core = static_cast<uint32_t>(below(options_.cores));
    if (chance(0.8)) record.stack = static_cast<uint32_t>(below(options_.stacks));
    for (size_t i = 0; i < arguments.size(); ++i) record.arguments[i] = arguments[i];
    return record;
  }

  void begin_session() {
    const uint32_t by = pick(live_);
    add(Kind::kStart, by, {++session_});
    for (const uint32_t row : std::vector<uint32_t>(live_))
      if (chance(0.8)) {
        if (chance(0.3))
          add(Kind::kThread, by, {row, 1 + wait_kind(), below(1'000'000), object()});
        else
          add(Kind::kThread, by, {row, 0, 0, 0});
      }
  }

  void something() {
    const uint32_t thread = pick(live_);
    switch (below(24)) {
      case 0: return make_thread(thread);
      case 1: return end_thread(thread);
      case 2:
      case 3:
      case 4:
      case 5: add(Kind::kWait, thread, {wait_kind(), object()}); return;
      case 6:
      case 7:
      case 8: add(Kind::kWaitEnd, thread, {pick({0, 0, 0, 1, 2})}); return;
      case 9:
      case 10: add(Kind::kRelease, thread, {wait_kind(), object()}); return;
      case 11:
      case 12: add(Kind::kCall, thread, {call()}); return;
      case 13:
      case 14: add(Kind::kCallEnd, thread); return;
      case 15: add(Kind::kYield, thread); return;
      case 16: add(Kind::kHeap, thread, {below(1 << 24), 1 << 24}); return;
      case 17: add(chance(0.5) ? Kind::kGrow : Kind::kTrim, thread, {4096, below(5000)}); return;
      case 18: add(Kind::kCpu, thread); return;
      case 19: return user_task(thread);
      case 20: return user_region(thread);
      case 21: return loss_or_session(thread);
      case 22: add(Kind::kRelock, thread, {object(), below(20000)}); return;
      default:
        add(Kind::kLog, thread, {below(4), chance(0.5) ? 1 + string_row() : 0}).text =
            chance(0.9) ? "a line" : "";
        return;
    }
  }

  void make_thread(uint32_t by) {
    if (live_.size() > 40) return;
    const uint32_t row = next_row_++;
    const bool child_is_quicker = chance(0.3);
    if (child_is_quicker) add(Kind::kBegin, row);
    if (chance(0.9)) add(Kind::kCreate, by, {row});
    if (!child_is_quicker && chance(0.8)) add(Kind::kBegin, row);
    live_.push_back(row);
  }

  void end_thread(uint32_t thread) {
    if (live_.size() < 3) return;
    add(Kind::kExit, thread, {object()});
    std::erase(live_, thread);
  }

  uint64_t string_row() { return below(options_.strings); }

  void user_task(uint32_t thread) {
    if (chance(0.1)) {
      add(Kind::kLabels, thread, {below(3)});
    } else if (tasks_.empty() || chance(0.5)) {
      tasks_.push_back(++last_task_);
      add(Kind::kTaskBegin, thread, {last_task_, below(last_task_), string_row()});
    } else {
      add(Kind::kTaskEnd, thread, {tasks_.back()});
      tasks_.pop_back();
    }
  }

  void user_region(uint32_t thread) {
    const Arguments region = {below(3), string_row() % 3};
    add(chance(0.5) ? Kind::kRegionBegin : Kind::kRegionEnd, thread, region);
  }

  void loss_or_session(uint32_t thread) {
    if (chance(0.8)) {
      add(Kind::kLost, thread, {1 + below(100), below(10000)});
    } else if (chance(0.5)) {
      add(Kind::kStop, thread, {session_});
      if (chance(0.5)) add(Kind::kWaitEnd, pick(live_), {0});
      ns_ += pick({0, 1000, 50'000'000});
      if (chance(0.8)) begin_session();
    }
  }

  // Of any kind, by anybody, with any arguments.
  void anything() {
    const auto kind = static_cast<Kind>(below(static_cast<uint64_t>(Kind::kCount)));
    const auto row = static_cast<uint32_t>(below(next_row_ + 2));
    dumper::TraceRecord& record = add(kind, row);
    for (uint64_t& argument : record.arguments)
      argument = pick({0, 1, 2, 3, below(next_row_ + 2), object(), UINT64_MAX, uint64_t{1} << 40});
    if (chance(0.02)) record.core = UINT32_MAX;
    if (chance(0.02)) record.stack = 1'000'000;
    if (chance(0.05)) record.ns = record.ns / 2;
  }

  RandomRecordOptions options_;
  std::mt19937_64 random_;
  bool wild_;
  std::vector<dumper::TraceRecord> records_;
  std::vector<uint32_t> live_;
  std::vector<uint64_t> tasks_;
  uint64_t ns_ = 7'000'000'000;
  uint64_t session_ = 0;
  uint64_t last_task_ = 0;
  uint32_t next_row_ = 0;
};

}  // namespace mprof::test
