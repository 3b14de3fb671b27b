// SPDX-License-Identifier: Apache-2.0
#include "dumper/serve_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>

#include "dumper/difference.h"
#include "dumper/encode_pprof.h"
#include "dumper/estimate.h"
#include "dumper/label_names.h"
#include "dumper/profile_comments.h"
#include "dumper/terminal_text.h"

namespace mprof::dumper {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr seconds kLongest{3600};
// Long enough to serve many scrapes; then what was kept of files that nobody asks for any more
// goes, and a debug file that came later is found.
constexpr auto kSymbolsKept = std::chrono::minutes(10);

int64_t number_of(const std::string& name, const std::string& text, int64_t least, int64_t most,
                  const char* what) {
  int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || rest != end || number < least || number > most)
    throw HttpError(400, fmt::format("invalid value for \"{}\": accepted is {} from {} to {}", name,
                                     what, least, most));
  return number;
}

// Go's clients, and those that store profiles, take this for the time of what they see.
void fill_time(const Dump& dump, Profile& profile) {
  profile.time_nanos = clamp_value(dump.end_realtime_ns());
  profile.duration_nanos = 0;
}

std::optional<ModuleCopy> module_at(const Dump& dump, uint64_t address) {
  std::optional<ModuleCopy> found;
  const auto rows = static_cast<uint32_t>(dump.rows(format::TableId::kModules));
  for (uint32_t row = 0; row < rows; ++row) {
    auto module = dump.module(row);
    if (module && module->unloaded_ticks == 0 && module->start <= address && address < module->end)
      found = std::move(module);
  }
  return found;
}

std::string name_of(const Dump& dump, uint64_t address, Symbolizer& symbolizer) {
  const auto module = module_at(dump, address);
  if (!module) return {};
  const auto& frames =
      symbolizer.frames({module->path, module->build_id_hex}, address - module->load_bias);
  return frames.empty() ? std::string() : printable(frames.back().name);
}

// Hexadecimal, octal or decimal as in C; 0 for anything else, which is no address either.
uint64_t address_of(const std::string& word) {
  char* end = nullptr;
  const uint64_t address = strtoull(word.c_str(), &end, 0);
  return end == word.c_str() + word.size() ? address : 0;
}

}  // namespace

void SharedSymbols::renew() {
  const auto now = steady_clock::now();
  if (symbolizer_ != nullptr && now - made_ < kSymbolsKept) return;
  symbolizer_ = std::make_unique<Symbolizer>(options_);
  made_ = now;
}

std::vector<View> served_views(const Dump& dump) {
  std::vector<View> views = recorded_views(dump, false);
  for (const View& view :
       {View(HeapView::kHeap), View(HeapView::kAllocs), View(format::CountKind::kBlock),
        View(format::CountKind::kMutex), View(format::CountKind::kThreadCreate)})
    if (std::find(views.begin(), views.end(), view) == views.end()) views.push_back(view);
  return views;
}

std::vector<ViewCount> count_samples(Dump& dump, SharedSymbols& symbols) {
  return symbols.use([&](Symbolizer& symbolizer) {
    const Reading reading = read_whole(dump);
    LabelNames names(dump, symbolizer, SymbolDetail::kNone);
    std::vector<ViewCount> counts;
    for (const View& view : served_views(dump))
      counts.push_back({view, make_profile(dump, reading, view, names).profile.samples.size()});
    return counts;
  });
}

seconds seconds_of(const HttpRequest& request, seconds otherwise) {
  const std::string* text = request.parameter("seconds");
  if (text == nullptr) return otherwise;
  return seconds(number_of("seconds", *text, 1, kLongest.count(), "a whole number"));
}

int debug_of(const HttpRequest& request) {
  const std::string* text = request.parameter("debug");
  return text == nullptr ? 0 : static_cast<int>(number_of("debug", *text, 0, 2, "a whole number"));
}

void require_no_debug(int debug) {
  if (debug != 0) throw HttpError(400, "seconds and debug params are incompatible");
}

void require_running(const Dump& dump) {
  if (dump.life() != Life::kRunning)
    throw HttpError(400,
                    "the process has ended, so nothing can be added any more; accepted are "
                    "profiles without \"seconds\"");
}

void wait_or_leave(const HttpRequest& request, seconds time) {
  if (!request.wait(time)) throw HttpError(503, "the server is stopping");
}

Profile named_now(const Dump& dump, PlacedProfile placed, Symbolizer& symbolizer,
                  SymbolDetail detail) {
  symbolize(placed, symbolizer, detail);
  fill_time(dump, placed.profile);
  return std::move(placed.profile);
}

HttpResponse attachment(const std::string& name) {
  HttpResponse response;
  response.content_type = "application/octet-stream";
  response.headers = {{"Content-Disposition", fmt::format("attachment; filename=\"{}\"", name)}};
  return response;
}

HttpResponse as_attachment(const Profile& profile, const std::string& name) {
  HttpResponse response = attachment(name);
  response.body = encode_pprof(profile);
  return response;
}

Profile profile_growth(const HttpRequest& request, Dump& dump, const View& view, seconds time,
                       SharedSymbols& symbols) {
  require_running(dump);
  Reading before = symbols.use([&](Symbolizer&) { return read_whole(dump); });
  const auto start = steady_clock::now();
  wait_or_leave(request, time);
  return symbols.use([&](Symbolizer& symbolizer) {
    Reading after = read_whole(dump);
    const auto taken = steady_clock::now() - start;
    Profile growth =
        difference(dump, std::move(before), std::move(after), view, symbolizer, symbols.detail());
    fill_time(dump, growth);
    growth.duration_nanos = std::chrono::nanoseconds(taken).count();
    growth.comments.insert(
        growth.comments.begin(),
        fmt::format("what was added within {}; the totals below are those of the whole run",
                    duration_text(static_cast<double>(growth.duration_nanos))));
    return growth;
  });
}

HttpResponse answer_profile(const HttpRequest& request, Dump& dump, const View& view,
                            SharedSymbols& symbols) {
  const std::string name = view_name(view);
  const int debug = debug_of(request);
  if (request.parameter("seconds") != nullptr) {
    const seconds time = seconds_of(request, {});
    require_no_debug(debug);
    if (view == View(HeapView::kPeak))
      throw HttpError(400, "\"seconds\" parameter is not supported for this profile type");
    return as_attachment(profile_growth(request, dump, view, time, symbols), name + "-delta");
  }
  const Profile profile = symbols.use([&](Symbolizer& symbolizer) {
    const Reading reading = read_whole(dump);
    LabelNames names(dump, symbolizer, symbols.detail());
    return named_now(dump, make_profile(dump, reading, view, names), symbolizer, symbols.detail());
  });
  if (debug == 0) return as_attachment(profile, name);
  HttpResponse response;
  response.body = profile_text(profile, view);
  return response;
}

std::string symbol_lines(const Dump& dump, std::string_view addresses, SharedSymbols& symbols) {
  // pprof asks only whether it is 0.
  std::string out = "num_symbols: 1\n";
  return symbols.use([&](Symbolizer& symbolizer) {
    while (!addresses.empty()) {
      const size_t end = std::min(addresses.find('+'), addresses.size());
      const uint64_t address = address_of(std::string(addresses.substr(0, end)));
      const std::string name = name_of(dump, address, symbolizer);
      if (!name.empty()) out += fmt::format("{:#x} {}\n", address, name);
      addresses.remove_prefix(std::min(end + 1, addresses.size()));
    }
    return out;
  });
}

}  // namespace mprof::dumper
