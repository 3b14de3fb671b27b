// SPDX-License-Identifier: Apache-2.0
#include "dumper/views.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace mprof::dumper {
namespace {

std::vector<View> all_views() {
  std::vector<View> views(std::begin(kHeapViews), std::end(kHeapViews));
  views.insert(views.end(), std::begin(kCountKinds), std::end(kCountKinds));
  return views;
}

View parse_view(const std::string& word) {
  std::string names;
  for (const View view : all_views()) {
    if (word == view_name(view)) return view;
    names += names.empty() ? "" : ", ";
    names += view_name(view);
  }
  throw std::invalid_argument(
      fmt::format("profile '{}': accepted are {}, separated by commas", word, names));
}

bool is_recorded(const Dump& dump, HeapView) { return dump.header().heap_rate_bytes != 0; }

}  // namespace

const char* view_name(View view) {
  return std::visit([](auto one) { return view_name(one); }, view);
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

std::vector<View> recorded_views(const Dump& dump, bool part_of_the_time) {
  std::vector<View> views = all_views();
  std::erase_if(views, [&](View view) {
    return (part_of_the_time && view == View(HeapView::kPeak)) ||
           !std::visit([&](auto one) { return is_recorded(dump, one); }, view);
  });
  return views;
}

}  // namespace mprof::dumper
