// SPDX-License-Identifier: Apache-2.0
#include "dumper/serve_index.h"

#include <nlohmann/json.hpp>

#include "tests/unit/catch.h"

using namespace mprof::dumper;  // NOLINT: a test of that namespace
using Catch::Contains;

namespace {

ProfiledProcess process(uint32_t pid, const std::string& executable) {
  ProfiledProcess process;
  process.pid = pid;
  process.executable = executable;
  process.command = {executable, "<b>&'\""};
  return process;
}

}  // namespace

TEST_CASE("serve index: the profiles, by name, with their counts") {
  const std::string page = profiles_page("t", {{"heap", 3}, {"allocs", 12}, {"my own", 1}});
  const size_t allocs =
      page.find("<tr><td>12</td><td><a href='allocs?debug=1'>allocs</a></td></tr>");
  const size_t heap = page.find("<tr><td>3</td><td><a href='heap?debug=1'>heap</a></td></tr>");
  CHECK(allocs < heap);
  CHECK(heap != std::string::npos);
  CHECK_THAT(page, Contains("<td><a href='my%20own?debug=1'>my own</a></td>"));
  CHECK_THAT(page, Contains("my own: </div> A profile of the program's own") ||
                       Contains("my own: </div> A profile of the program&#39;s own"));
}

TEST_CASE("serve index: a name from a program is no HTML") {
  const std::string name = "'><script>x</script>";
  for (const std::string& page :
       {profiles_page(name, {{name, 1}}), processes_page({process(7, "/bin/" + name)})}) {
    CHECK_THAT(page, !Contains("<script>"));
    CHECK_THAT(page, Contains("&lt;script&gt;"));
    CHECK_THAT(page, !Contains("'>x"));
  }
  CHECK_THAT(profiles_page("t", {{name, 1}}),
             Contains("href='%27%3E%3Cscript%3Ex%3C%2Fscript%3E?"));
}

TEST_CASE("serve index: the processes, each with a link to its profiles") {
  CHECK_THAT(processes_page({process(7, "/bin/a"), process(8, "/bin/b")}),
             Contains("<a href='7/debug/pprof/'>7</a>") && Contains("<a href='8/debug/pprof/'>8"));
  CHECK_THAT(processes_page({}), Contains("No profiled processes."));
}

TEST_CASE("serve index: targets for service discovery") {
  const auto list = nlohmann::json::parse(
      discovery_json({process(7, "/bin/a"), process(8, "\xff/b")}, "h:1", true));
  REQUIRE(list.size() == 2);
  CHECK(list[0]["targets"] == nlohmann::json({"h:1"}));
  CHECK(list[0]["labels"]["service_name"] == "a");
  CHECK(list[0]["labels"]["pid"] == "7");
  CHECK(list[0]["labels"]["__profile_path_prefix__"] == "/7");
  CHECK(list[1]["labels"]["executable"] == "\xef\xbf\xbd/b");  // replaced: JSON is UTF-8
  const auto one = nlohmann::json::parse(discovery_json({process(7, "/bin/a")}, "h:1", false));
  CHECK_FALSE(one[0]["labels"].contains("__profile_path_prefix__"));
  CHECK(discovery_json({}, "h:1", true) == "[]\n");
}
