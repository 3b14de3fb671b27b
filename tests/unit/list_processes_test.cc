// SPDX-License-Identifier: Apache-2.0
#include "dumper/list_processes.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/unit/catch.h"
#include "tests/unit/small_dump.h"

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using Catch::Contains;

TEST_CASE("list processes: a pid is digits and nothing else") {
  CHECK(parse_pid("1") == 1u);
  CHECK(parse_pid("4194304") == 4194304u);
  for (const char* text : {"", "0", "-1", "+1", "1 ", " 1", "1/..", "self", "0x1", "..", "1e3",
                           "4294967297", "2147483648", "99999999999999999999"}) {
    INFO(text);
    CHECK_FALSE(parse_pid(text));
  }
}

TEST_CASE("list processes: in a directory, or below it") {
  CHECK(is_within("/a/b/c", "/a/b"));
  CHECK(is_within("/a/b/c", "/a"));
  CHECK(is_within("/a/b/c", "/"));
  CHECK_FALSE(is_within("/a/bc", "/a/b"));
  CHECK_FALSE(is_within("/a", "/a/b"));
  CHECK_FALSE(is_within("/b/a", "/a"));
}

TEST_CASE("list processes: a filter is of directories that are there") {
  const mprof::testing::TempDir dir;
  CHECK(make_filter({dir.path() + "/."}).directories.front() ==
        std::filesystem::canonical(dir.path()));
  CHECK_THROWS_WITH(make_filter({dir / "absent"}), Contains("absent: no such directory"));
  CHECK_THROWS_WITH(make_filter({"/proc/self/stat"}), Contains("no such directory"));
}

TEST_CASE("list processes: a process without a dump is not listed") {
  CHECK_FALSE(find_process(static_cast<uint32_t>(getpid()), {}));
  CHECK_FALSE(find_process(2147483647, {}));
}

TEST_CASE("list processes: table and JSON say the same") {
  ProfiledProcess process;
  process.pid = 4711;
  process.executable = "/bin/app";
  process.command = {"app", "a\x1b[1mb"};
  process.started_realtime_ns = 1'700'000'000'000'000'000;
  process.dump = "/d/app.4711.mprof";
  process.heap_rate_bytes = 524288;
  process.mutex_fraction = 1000;
  process.cpu_hz = 100;
  process.trace_on = true;
  const std::string table = processes_table({process});
  CHECK_THAT(table, Contains("4711") && Contains("2023-11-14 22:13:20 UTC") &&
                        Contains("524288 B") && Contains("off") && Contains("1000") &&
                        Contains("100 Hz     on  /d") && Contains("/d/app.4711.mprof") &&
                        !Contains("\x1b"));
  const auto list = nlohmann::json::parse(processes_json({process}));
  REQUIRE(list.size() == 1);
  CHECK(list[0]["pid"] == 4711);
  CHECK(list[0]["command_line"][1] == "a\x1b[1mb");
  CHECK(list[0]["heap_rate_bytes"] == 524288);
  CHECK(list[0]["block_rate_ns"] == 0);
  CHECK(list[0]["trace"] == true);
  CHECK(list[0]["dump"] == "/d/app.4711.mprof");
  CHECK(processes_json({}) == "[]\n");
}
