// SPDX-License-Identifier: Apache-2.0
#include "dumper/data_symbols.h"

#include "dumper/site_name.h"

namespace mprof::dumper {

std::string name_of_address(Symbolizer& symbolizer, const std::optional<ModuleCopy>& module,
                            uint64_t address) {
  if (!module) return place_text(module, address);
  const ModuleRef ref{module->path, module->build_id_hex};
  const uint64_t vaddr = address - module->load_bias;
  if (std::string name = symbolizer.class_name(ref, vaddr); !name.empty()) return name;
  if (std::string name = symbolizer.data_name(ref, vaddr); !name.empty()) return name;
  const std::vector<SymbolFrame>& frames = symbolizer.frames(ref, vaddr);
  if (!frames.empty()) return frames.back().name;
  return place_text(module, address);
}

}  // namespace mprof::dumper
