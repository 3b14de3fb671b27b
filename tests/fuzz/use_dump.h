// SPDX-License-Identifier: Apache-2.0
// Everything that `mprof` does with a dump that has ended, with the answers thrown away.
#pragma once

#include <string>

#include "dumper/combine_profiles.h"
#include "dumper/control.h"
#include "dumper/double_entry.h"
#include "dumper/dump_reader.h"
#include "dumper/encode_pprof.h"
#include "dumper/encode_text.h"
#include "dumper/info_json.h"
#include "dumper/report_diff.h"
#include "dumper/report_info.h"
#include "dumper/report_locks.h"
#include "dumper/report_threads.h"
#include "dumper/report_top.h"
#include "dumper/site_name.h"
#include "dumper/terminal_text.h"
#include "dumper/timeline.h"
#include "dumper/trace/trace_command.h"
#include "dumper/write_profiles.h"
#include "tests/fuzz/driver.h"
#include "tests/unit/temp_folder.h"

namespace mprof::fuzz {

// Names that a dump made up lead into a folder that does not exist.
inline dumper::SymbolOptions nothing_to_open() {
  return {dumper::SymbolDetail::kFull, false, {}, "/nonexistent/mprof"};
}

// For a terminal: no control character of any name may be left in it.
inline void show(const std::string& text) {
  require(std::none_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < ' ' && c != '\n' && c != '\t') || byte == 0x7f;
  }));
}

inline void use_profile(const dumper::Profile& profile, const dumper::View& view) {
  using namespace dumper;  // NOLINT
  require(!encode_pprof(profile).empty());
  (void)profile_text(profile, view);
  show(format_top(profile, compute_top(profile, {}), {}));
  const DiffReport diff = compute_diff(profile, profile, {});
  show(format_diff({"a", profile}, {"b", profile}, diff, {}));
}

inline void use_profiles(dumper::Dump& dump, const dumper::Reading& reading) {
  using namespace dumper;  // NOLINT
  Symbolizer symbolizer(nothing_to_open());
  for (const View& view : recorded_views(dump, false)) {
    require(file_word(view).find('/') == std::string::npos);
    use_profile(named_profile(dump, reading, {}, view, symbolizer, SymbolDetail::kFull), view);
  }
}

inline void use_time(const dumper::Dump& dump) {
  using namespace dumper;  // NOLINT
  Symbolizer symbolizer(nothing_to_open());
  Window window;
  window.to_ns = std::max<int64_t>(end_of(dump), 1);
  const Timeline timeline = make_timeline(dump, window, 10);
  show(timeline_table(timeline, dump.clock()));
  (void)timeline_csv(timeline);
  const LifetimeReport lifetimes = measure_lifetimes(dump, window);
  SiteNames names(dump, symbolizer, SymbolDetail::kFull);
  const SiteName name_of = [&names](uint32_t bucket) { return names.of_bucket(bucket); };
  show(lifetimes_table(lifetimes, name_of, 20, dump.clock()));
  (void)lifetimes_csv(lifetimes, name_of);
  (void)profile_of_window(dump, window);
}

inline void use_threads(dumper::Dump& dump) {
  using namespace dumper;  // NOLINT
  Symbolizer symbolizer(nothing_to_open());
  const ThreadsReading threads = collect_threads(dump, {});
  for (const ThreadForm form :
       {ThreadForm::kPprof, ThreadForm::kGrouped, ThreadForm::kParagraphs}) {
    const std::string text = report_threads(dump, threads, form, symbolizer, SymbolDetail::kFull);
    if (form != ThreadForm::kPprof) show(text);
  }
}

inline void use_locks(const dumper::Dump& dump, const dumper::Reading& reading) {
  using namespace dumper;  // NOLINT
  Symbolizer symbolizer(nothing_to_open());
  const LockReport locks = compute_locks(dump, reading.counts, symbolizer, SymbolDetail::kFull);
  show(locks_table(locks, 20, 80));
  (void)locks_json(locks);
}

// In one of its forms.
inline void use_trace(dumper::Dump& dump, dumper::TraceForm form, const std::string& path) {
  using namespace dumper;  // NOLINT
  Symbolizer symbolizer(nothing_to_open());
  try {
    TraceOutput output;
    output.form = form;
    output.path = path;
    const WrittenTrace written = write_trace(dump, {}, output, symbolizer, SymbolDetail::kFull);
    (void)shortcomings(written);
    show(describe(written));
  } catch (const NoTrace&) {
    return;
  }
}

inline const std::string& folder() {
  static const test::TempFolder folder;
  return folder.path();
}

inline void use_all(dumper::Dump& dump) {
  using namespace dumper;  // NOLINT
  const Reading reading = read_whole(dump);
  use_profiles(dump, reading);
  use_locks(dump, reading);
  use_threads(dump);
  use_time(dump);
  for (const TraceForm form : {TraceForm::kGo, TraceForm::kPerfetto, TraceForm::kSummary})
    use_trace(dump, form, folder() + "/trace");
  const DoubleEntry books = check_double_entry(dump);
  show(report_info(dump, reading.heap, books.line(dump.clock())));
  require(!info_json(dump, reading.heap, books).empty());
  show(settings_text(dump));
}

}  // namespace mprof::fuzz
