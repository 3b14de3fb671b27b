// SPDX-License-Identifier: Apache-2.0
#include "dumper/trace/model.h"

#include "tests/unit/catch.h"
#include "tests/unit/random_records.h"
#include "tests/unit/step_checker.h"

namespace mprof::test {
namespace {

TEST_CASE("model: any records make steps that keep every rule") {
  for (uint32_t seed = 0; seed < 150; ++seed) {
    RandomRecordOptions options;
    options.seed = seed;
    options.threads = 2 + seed % 9;
    options.cores = 1 + seed % 5;
    RecordList records(RandomRecords(options).make());
    StepChecker checker;
    dumper::ModelOptions model;
    model.text = [](uint64_t row) { return std::to_string(row); };
    if (seed % 5 == 4) {
      model.from_ns = 7'001'000'000;
      model.to_ns = 7'900'000'000;
    }
    const dumper::ModelCounts counts = dumper::tell_trace(records, checker, model);
    INFO("seed " << seed);
    CHECK(checker.complaints() == std::vector<std::string>());
    CHECK(checker.is_finished());
    CHECK(counts.steps == checker.steps());
    if (seed % 5 != 4) CHECK(checker.steps() > 500);
  }
}

}  // namespace
}  // namespace mprof::test
