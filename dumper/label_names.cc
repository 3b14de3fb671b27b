// SPDX-License-Identifier: Apache-2.0
#include "dumper/label_names.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "dumper/callable_name.h"
#include "dumper/data_symbols.h"

namespace mprof::dumper {

const std::vector<Label>& LabelNames::of_set(uint32_t set) {
  const auto [found, is_new] = by_set_.try_emplace(set);
  if (!is_new) return found->second;
  for (const LabelCopy& label : dump_.labels(set)) {
    Label named = {label.key, text_of(label), 0, {}, false};
    if (!budget_.take(sizeof named + named.key.size() + named.str.size())) break;
    found->second.push_back(std::move(named));
  }
  // The dump has the newest first.
  std::reverse(found->second.begin(), found->second.end());
  return found->second;
}

std::string LabelNames::text_of(const LabelCopy& label) {
  switch (label.type) {
    case format::LabelType::kText: return label.text;
    case format::LabelType::kStack: return sites_.of_stack(label.stack);
    case format::LabelType::kAddress: break;
  }
  return name_of(label);
}

std::string LabelNames::name_of(const LabelCopy& address) {
  const std::optional<ModuleCopy> module = dump_.module(address.module);
  if (detail_ == SymbolDetail::kNone) return place_text(module, address.address);
  if (address.key == format::kLabelStart)
    return name_of_start(symbolizer_, module, address.address);
  return name_of_address(symbolizer_, module, address.address);
}

}  // namespace mprof::dumper
