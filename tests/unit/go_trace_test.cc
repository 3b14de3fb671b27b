// SPDX-License-Identifier: Apache-2.0
// With a folder in MPROF_TRACES the random traces are kept there, for `go tool trace`.
#include "dumper/trace/go_trace.h"

#include <cstdlib>
#include <filesystem>

#include "dumper/trace/model.h"
#include "tests/unit/catch.h"
#include "tests/unit/dump_image.h"
#include "tests/unit/pprof_tool.h"
#include "tests/unit/random_records.h"
#include "tests/unit/step_checker.h"

namespace mprof::test {
namespace {

using testing::DumpImage;

TEST_CASE("go trace: random records make files") {
  DumpImage image;
  testing::fill_with_sample_content(image);
  const dumper::Dump dump = dumper::Dump::from_fd(image.duplicate(), "image", false);
  const char* const kept = std::getenv("MPROF_TRACES");
  const ScratchFolder scratch;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    RandomRecordOptions options;
    options.seed = seed;
    options.threads = 2 + seed % 9;
    options.cores = 1 + seed % 5;
    RecordList records(RandomRecords(options).make());
    dumper::Symbolizer symbolizer({});
    dumper::TraceNames names(dump, symbolizer);
    const std::string name = "random-" + std::to_string(seed) + ".go.trace";
    const std::string path = kept == nullptr ? scratch.file(name) : std::string(kept) + "/" + name;
    dumper::TraceFile file(path);
    dumper::GoTraceSink sink(file, names);
    StepChecker checker(&sink);
    dumper::ModelOptions model;
    model.text = [&](uint64_t row) { return names.text(row); };
    dumper::tell_trace(records, checker, model);
    file.commit();
    INFO("seed " << seed);
    CHECK(checker.complaints() == std::vector<std::string>());
    CHECK(std::filesystem::file_size(path) > 10'000);
  }
}

}  // namespace
}  // namespace mprof::test
