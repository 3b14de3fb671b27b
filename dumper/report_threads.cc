// SPDX-License-Identifier: Apache-2.0
#include "dumper/report_threads.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "dumper/encode_pprof.h"
#include "dumper/encode_text.h"
#include "dumper/profile_comments.h"
#include "dumper/site_name.h"
#include "dumper/terminal_text.h"

namespace mprof::dumper {
namespace {

class Paragraphs {
 public:
  Paragraphs(const Dump& dump, const ThreadsReading& reading, const ThreadProfile& made,
             LabelNames& names, SiteNames& sites)
      : dump_(dump),
        reading_(reading),
        made_(made),
        profile_(made.placed.profile),
        names_(names),
        sites_(sites) {
    for (const ThreadState& thread : reading.threads) by_tid_[thread.tid] = thread.name;
  }

  std::string run() {
    for (const std::string& note : reading_.notes) add_line("# " + note);
    const size_t count = reading_.threads.size();
    add_line(fmt::format("# {} {} of {}, process {}", count, count == 1 ? "thread" : "threads",
                         dump_.executable(), dump_.header().pid));
    for (size_t i = 0; i < count; ++i) {
      out_ += '\n';
      add(reading_.threads[i], made_.stacks[i]);
    }
    return std::move(out_);
  }

 private:
  // Names come from the program.
  void add_line(const std::string& text) { out_ += printable(text) + "\n"; }

  void add(const ThreadState& thread, const std::vector<uint32_t>& stack) {
    add_line(fmt::format("thread {} \"{}\" [{}]:", thread.tid, thread.name, state(thread)));
    add_labels(thread);
    if (thread.origin == StackOrigin::kNone)
      add_line("(no stack: " + thread.no_stack + ")");
    else
      for (const uint32_t location : stack) add_frames(profile_.locations[location]);
    if (thread.origin == StackOrigin::kWait)
      add_line(fmt::format("(as it was when this wait began{})",
                           reading_.running ? "; the thread gave no newer stack" : ""));
    add_creator(thread);
  }

  std::string state(const ThreadState& thread) {
    std::string text = state_text(thread);
    if (!thread.wait) return text;
    text += ", " + duration_text(static_cast<double>(thread.waited_ns));
    if (const std::string object = object_text(dump_, thread, names_); !object.empty())
      text += ", for " + object;
    if (thread.holder != 0) text += ", held by " + name_of(thread.holder);
    return text;
  }

  std::string name_of(uint32_t tid) const {
    const auto found = by_tid_.find(tid);
    return found == by_tid_.end() ? fmt::format("{}, which is gone", tid)
                                  : fmt::format("{} \"{}\"", tid, found->second);
  }

  void add_labels(const ThreadState& thread) {
    std::string text;
    for (const Label& label : names_.of_set(thread.labels))
      text += fmt::format("{}\"{}\":\"{}\"", text.empty() ? "" : ", ", label.key, label.str);
    if (!text.empty()) add_line("# labels: {" + text + "}");
  }

  void add_frames(const Location& location) {
    if (location.lines.empty()) add_unnamed(location);
    for (const Line& line : location.lines) {
      const Function& function = profile_.functions[line.function];
      add_line(function.name);
      if (!function.file.empty())
        out_ += "\t" + printable(fmt::format("{}:{}", function.file, line.line)) + "\n";
    }
  }

  void add_unnamed(const Location& location) {
    if (location.mapping < 0) return add_line(fmt::format("{:#x}", location.address));
    const Mapping& mapping = profile_.mappings[static_cast<size_t>(location.mapping)];
    add_line(fmt::format("{}+{:#x}", mapping.path.substr(mapping.path.rfind('/') + 1),
                         location.address - mapping.start + mapping.file_offset));
  }

  void add_creator(const ThreadState& thread) {
    if (thread.creation == format::kNoRow) return;
    const auto creation = dump_.count(thread.creation);
    if (!creation || creation->stack == format::kNoRow) return;
    add_line("created by " + sites_.of_stack(creation->stack));
  }

  const Dump& dump_;
  const ThreadsReading& reading_;
  const ThreadProfile& made_;
  const Profile& profile_;
  LabelNames& names_;
  SiteNames& sites_;
  std::map<uint32_t, std::string> by_tid_;
  std::string out_;
};

}  // namespace

std::string report_threads(const Dump& dump, const ThreadsReading& reading, ThreadForm form,
                           Symbolizer& symbolizer, SymbolDetail detail) {
  LabelNames names(dump, symbolizer, detail);
  ThreadProfile made = make_profile(dump, reading, names);
  symbolize(made.placed, symbolizer, detail);
  switch (form) {
    case ThreadForm::kPprof: return encode_pprof(made.placed.profile);
    case ThreadForm::kGrouped: return encode_text(made.placed.profile, TextKind::kCount, "thread");
    case ThreadForm::kParagraphs: break;
  }
  SiteNames sites(dump, symbolizer, detail);
  return Paragraphs(dump, reading, made, names, sites).run();
}

}  // namespace mprof::dumper
