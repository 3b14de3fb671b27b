// SPDX-License-Identifier: Apache-2.0
#include "dumper/views.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <string_view>

#include "dumper/terminal_text.h"

namespace mprof::dumper {
namespace {

// With the base name, the ending and what a temporary name adds, within the 255 of a file name.
constexpr size_t kMostOfAName = 120;

std::vector<View> own_views() {
  std::vector<View> views(std::begin(kHeapViews), std::end(kHeapViews));
  views.insert(views.end(), std::begin(kCountKinds), std::end(kCountKinds));
  return views;
}

std::string own_names() {
  std::string names;
  for (const View& view : own_views()) names += (names.empty() ? "" : ", ") + view_name(view);
  return names;
}

bool is_own_name(const std::string& word) {
  const std::vector<View> views = own_views();
  return std::any_of(views.begin(), views.end(),
                     [&](const View& view) { return word == view_name(view); });
}

View parse_view(const std::string& word) {
  if (word.empty())
    throw std::invalid_argument(fmt::format(
        "profile '': accepted are {} and the names of the program's own profiles, separated by "
        "commas",
        own_names()));
  for (const View& view : own_views())
    if (word == view_name(view)) return view;
  return CustomView{word};
}

// Only the totals have it.
bool needs_whole_time(const View& view) {
  return view == View(HeapView::kPeak) || std::holds_alternative<CustomView>(view);
}

bool is_recorded(const Dump& dump, HeapView) {
  return dump.header().heap_rate_bytes != 0 || was_changed(dump, format::kHeapRateChanged);
}
bool is_recorded(const Dump&, const CustomView&) { return true; }

std::string escaped(std::string_view name) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+";
  std::string word;
  for (const char c : name)
    word += kPlain.find(c) != kPlain.npos ? std::string(1, c)
                                          : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  return word;
}

// FNV-1a: of names that are cut, so that they stay apart.
uint64_t hash(std::string_view name) {
  uint64_t value = 0xcbf29ce484222325;
  for (const char c : name) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return value;
}

std::string custom_word(const std::string& name) {
  std::string word = escaped(name);
  if (is_own_name(name))
    word = fmt::format("%{:02X}{}", static_cast<unsigned char>(name[0]), name.substr(1));
  if (word.size() > kMostOfAName)
    word = fmt::format("{}~{:016x}", word.substr(0, kMostOfAName), hash(name));
  return word;
}

std::string names_of(const CustomProfiles& customs) {
  std::string names;
  for (const CustomProfile& custom : customs.all())
    names += (names.empty() ? "" : ", ") + printable(custom.name);
  return names.empty() ? "; the program has none of its own" : "; the program's own are " + names;
}

}  // namespace

std::string view_name(const View& view) {
  if (const auto* custom = std::get_if<CustomView>(&view)) return custom->name;
  if (const auto* heap = std::get_if<HeapView>(&view)) return view_name(*heap);
  return view_name(std::get<format::CountKind>(view));
}

std::string file_word(const View& view) {
  const auto* custom = std::get_if<CustomView>(&view);
  return custom == nullptr ? view_name(view) : custom_word(custom->name);
}

std::vector<View> parse_views(const std::string& list) {
  std::vector<View> views;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const View view = parse_view(list.substr(begin, end - begin));
    if (std::find(views.begin(), views.end(), view) == views.end()) views.push_back(view);
    begin = end + 1;
  }
  return views;
}

CustomProfile find_custom(const Dump& dump, const std::string& name) {
  const CustomProfiles customs(dump);
  if (const CustomProfile* custom = customs.find(name)) return *custom;
  // A name with a comma in it, or one of mprof's, is reached by that of its file.
  for (const CustomProfile& custom : customs.all())
    if (custom_word(custom.name) == name) return custom;
  throw std::runtime_error(fmt::format("{}: no profile '{}': mprof's are {}{}", dump.path(),
                                       printable(name), own_names(), names_of(customs)));
}

std::vector<View> resolve(const Dump& dump, const std::vector<View>& views) {
  std::vector<View> found = views;
  for (View& view : found)
    if (auto* custom = std::get_if<CustomView>(&view))
      custom->name = find_custom(dump, custom->name).name;
  return found;
}

void require_views_of_a_part(const std::vector<View>& views) {
  for (const View& view : views)
    if (needs_whole_time(view))
      throw std::runtime_error(fmt::format(
          "-p {}: a part of the time has no peak and no profiles of the program's own; accepted "
          "with --from and --to are all others",
          printable(view_name(view))));
}

std::vector<View> recorded_views(const Dump& dump, bool part_of_the_time) {
  std::vector<View> views = own_views();
  for (const CustomProfile& custom : CustomProfiles(dump).all())
    views.emplace_back(CustomView{custom.name});
  std::erase_if(views, [&](const View& view) {
    return (part_of_the_time && needs_whole_time(view)) ||
           !std::visit([&](const auto& one) { return is_recorded(dump, one); }, view);
  });
  return views;
}

}  // namespace mprof::dumper
