// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/names.h"

#include <fmt/format.h>

#include <algorithm>

#include "dumper/callable_name.h"
#include "dumper/data_symbols.h"
#include "dumper/placed_profile.h"
#include "dumper/site_name.h"
#include "format/trace_record.h"

namespace mprof::dumper {
namespace {

using format::kNoRow;
using format::TableId;

// No program has code there: user addresses end below.
constexpr uint64_t kMadeUp = uint64_t{1} << 47;
constexpr size_t kCommBytes = 15;  // as the kernel keeps them

std::string last_part(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

// The end of a name says more than its begin. No character is cut in two.
std::string cut(std::string name) {
  if (name.size() <= TraceNames::kMostNameBytes) return name;
  size_t from = name.size() - TraceNames::kMostNameBytes;
  while (from < name.size() && (static_cast<uint8_t>(name[from]) & 0xc0) == 0x80) ++from;
  return name.substr(from);
}

}  // namespace

std::string site_text(const TraceFrame& frame) {
  if (frame.file.empty()) return frame.function;
  if (frame.line == 0) return frame.function + " " + frame.file;
  return fmt::format("{} {}:{}", frame.function, frame.file, frame.line);
}

TraceNames::TraceNames(const Dump& dump, Symbolizer& symbolizer, SymbolDetail detail)
    : dump_(dump),
      symbolizer_(symbolizer),
      detail_(detail),
      labels_(dump, symbolizer, detail),
      budget_(dump, "the names in a trace"),
      program_(last_part(dump.executable()).substr(0, kCommBytes)) {}

const std::vector<TraceFrame>& TraceNames::stack(uint32_t row) {
  const auto [found, is_new] = stacks_.try_emplace(row);
  std::vector<TraceFrame>& frames = found->second;
  if (!is_new || row == kNoRow) return frames;
  const StackCopy copy = dump_.stack(row);
  for (const FrameRow& frame : copy.frames) add_frames(frame, frames);
  uint32_t root = copy.root;
  if (frames.size() > kMostFrames - 1) {
    frames.resize(kMostFrames - 1);
    root = format::kStackTruncated;
  }
  if (root != format::kStackComplete) frames.push_back(frame(format::kStackRootNames[root]));
  if (frames.empty() && !copy.frames.empty()) frames.push_back(frame("[mprof]"));
  uint64_t bytes = 0;
  for (const TraceFrame& each : frames)
    bytes += sizeof each + each.function.size() + each.file.size();
  if (!budget_.take(bytes)) frames = {frame("[left out]")};
  return frames;
}

std::vector<TraceFrame> TraceNames::start_of(uint32_t thread_row) {
  const auto thread = dump_.thread(thread_row);
  const auto creation = thread ? dump_.count(thread->creation) : std::nullopt;
  if (creation)
    for (const LabelCopy& label : dump_.labels(creation->labels)) {
      if (label.key != format::kLabelStart || label.type != format::LabelType::kAddress) continue;
      TraceFrame start;
      start.pc = pc_of(label.module, label.address);
      start.function = cut(labels_.text_of(label));
      const std::vector<SymbolFrame> lines = symbols(label.module, label.address);
      if (!lines.empty()) {
        start.file = cut(lines.back().file);
        start.line = static_cast<uint32_t>(std::max(lines.back().start_line, 0));
      }
      return {start};
    }
  const bool is_first = thread && thread->tid == dump_.header().pid;
  return {frame(is_first ? "main" : thread_name(thread_row))};
}

// A thread that nobody named has the name of its program, or of the link that was started.
std::string TraceNames::thread_name(uint32_t thread_row) {
  const auto thread = dump_.thread(thread_row);
  const auto first = dump_.thread(0);
  if (!thread || thread->name.empty() || thread->name == program_) return kUnnamedThread;
  if (first && first->tid == dump_.header().pid && thread->name == first->name)
    return kUnnamedThread;
  return thread->name;
}

std::string TraceNames::thread_title(uint32_t thread_row) {
  const std::string name = thread_name(thread_row);
  return name == kUnnamedThread ? start_of(thread_row).front().function : name;
}

uint32_t TraceNames::tid(uint32_t thread_row) {
  const auto thread = dump_.thread(thread_row);
  return thread ? thread->tid : 0;
}

std::string TraceNames::labels(uint32_t set) {
  std::string text;
  for (const Label& label : labels_.of_set(set))
    text += fmt::format("{}{}={}", text.empty() ? "" : ", ", label.key, label.str);
  return cut(text);
}

std::string TraceNames::object(uint64_t address) {
  const auto [found, is_new] = objects_.try_emplace(address);
  if (!is_new || detail_ == SymbolDetail::kNone) return found->second;
  if (const uint32_t row = module_at(address); row != kNoRow)
    found->second = cut(name_of_address(symbolizer_, *module(row), address));
  return found->second;
}

TraceFrame TraceNames::frame(std::string_view name) {
  TraceFrame made;
  made.function = cut(std::string(name));
  made.pc = made_up_pc(made.function);
  return made;
}

const std::string& TraceNames::text(uint64_t row) {
  const auto [found, is_new] = texts_.try_emplace(row);
  if (is_new && row < dump_.rows(TableId::kStrings)) {
    found->second = dump_.text(static_cast<uint32_t>(row), format::kMostTraceText);
    found->second.resize(std::min(found->second.size(), found->second.find('\0')));
    if (!budget_.take(4 * found->second.size())) found->second = "[left out]";  // sinks copy them
  }
  return found->second;
}

// Innermost first. A reader takes frames with the same pc for the same, so that each level that
// was inlined has a pc of its own.
void TraceNames::add_frames(const FrameRow& row, std::vector<TraceFrame>& out) {
  const ModuleCopy* in = module(row.module);
  if (in != nullptr && is_libmprof(in->path)) return;
  const uint64_t pc = pc_of(row.module, row.pc);
  const std::vector<SymbolFrame> lines = symbols(row.module, row.pc - 1);
  if (lines.empty()) {
    const auto place = in == nullptr ? std::nullopt : std::optional(*in);
    out.push_back({pc, cut(place_text(place, row.pc - 1)), in == nullptr ? "" : cut(in->path), 0});
    return;
  }
  for (size_t i = 0; i < lines.size(); ++i) {
    const bool is_inlined = i + 1 < lines.size();
    out.push_back({is_inlined ? made_up_pc(fmt::format("{}\n{}", pc, i)) : pc, cut(lines[i].name),
                   cut(lines[i].file), static_cast<uint32_t>(std::max(lines[i].line, 0))});
  }
}

const ModuleCopy* TraceNames::module(uint32_t row) {
  if (row == kNoRow) return nullptr;
  const auto [found, is_new] = modules_.try_emplace(row);
  if (is_new) found->second = dump_.module(row);
  return found->second ? &*found->second : nullptr;
}

std::vector<SymbolFrame> TraceNames::symbols(uint32_t row, uint64_t address) {
  const ModuleCopy* in = module(row);
  if (in == nullptr || detail_ == SymbolDetail::kNone) return {};
  return symbolizer_.frames({in->path, in->build_id_hex}, address - in->load_bias);
}

// A library that was loaded where another one had been has pcs of its own, too.
uint64_t TraceNames::pc_of(uint32_t module, uint64_t pc) {
  const auto [found, is_new] = module_of_pc_.try_emplace(pc, module);
  if (found->second == module && pc != 0 && pc < kMadeUp) return pc;
  return made_up_pc(fmt::format("{}\n{}\n", module, pc));
}

uint64_t TraceNames::made_up_pc(const std::string& key) {
  return made_up_.try_emplace(key, kMadeUp + made_up_.size()).first->second;
}

uint32_t TraceNames::module_at(uint64_t address) {
  for (auto row = static_cast<uint32_t>(dump_.rows(TableId::kModules)); row-- > 0;)
    if (const ModuleCopy* in = module(row);
        in != nullptr && in->unloaded_ticks == 0 && address >= in->start && address < in->end)
      return row;
  return kNoRow;
}

}  // namespace mprof::dumper
