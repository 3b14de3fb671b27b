// SPDX-License-Identifier: Apache-2.0
#include "dumper/profile.h"

#include <array>
#include <limits>

#include "tests/unit/catch.h"
#include "tests/unit/pprof_tool.h"
#include "tests/unit/profile_parts.h"

namespace mprof::dumper {
namespace {

using test::count_of;
using test::counts;
using test::error_of;
using test::names;

// One sample whose stack is these functions, leaf first, one location each.
Profile stack_of(const std::vector<std::string>& functions) {
  Profile profile = counts();
  ProfileBuilder builder(profile);
  Sample sample = count_of({}, 1);
  for (const std::string& name : functions)
    sample.locations.push_back(
        builder.location(-1, 0x1000 + sample.locations.size(), {{builder.function(name, ""), 0}}));
  builder.sample(sample);
  return profile;
}

std::vector<std::string> after_drop(const std::vector<std::string>& functions,
                                    const std::string& drop, const std::string& keep = "") {
  Profile profile = stack_of(functions);
  profile.drop_frames = drop;
  profile.keep_frames = keep;
  REQUIRE_FALSE(apply_drop_frames(profile).has_value());
  return names(profile, profile.samples[0]);
}

using Names = std::vector<std::string>;

TEST_CASE("profile: functions are one per name and file") {
  Profile profile = counts();
  ProfileBuilder builder(profile);
  const uint32_t a = builder.function("f", "a.cc", "_Z1fv", 3);
  CHECK(builder.function("f", "a.cc") == a);
  CHECK(builder.function("f", "b.cc") != a);
  CHECK(builder.function("fa", ".cc") != builder.function("f", "a.cc"));
  CHECK(profile.functions[a].start_line == 3);
}

TEST_CASE("profile: locations at one address in two overlapping mappings stay apart") {
  Profile profile = counts();
  ProfileBuilder builder(profile);
  const int32_t old_library = builder.mapping({0x1000, 0x9000, 0, "old.so", ""});
  const int32_t new_library = builder.mapping({0x1000, 0x9000, 0, "new.so", ""});
  REQUIRE(old_library != new_library);
  const uint32_t a = builder.location(old_library, 0x1234);
  const uint32_t b = builder.location(new_library, 0x1234);
  CHECK(a != b);
  CHECK(builder.location(old_library, 0x1234) == a);
}

TEST_CASE("profile: a builder continues an existing profile without duplicates") {
  Profile profile = test::example_heap();
  const Profile before = profile;
  ProfileBuilder builder(profile);
  builder.synthetic_location("[truncated]");
  builder.function("main", "/src/app.cc");
  CHECK(profile == before);
}

TEST_CASE("profile: samples of one stack and the same labels in any order add up") {
  Profile profile = counts();
  ProfileBuilder builder(profile);
  const uint32_t frame = builder.synthetic_location("f");
  const Label x{"x", "1", 0, "", false}, y{"y", "", 2, "ns", true};
  builder.sample({{frame}, {5}, {x, y}, {2.0}});
  builder.sample({{frame}, {7}, {y, x}, {}});
  builder.sample({{frame}, {1}, {x}, {}});
  REQUIRE(profile.samples.size() == 2);
  CHECK(profile.samples[0].values[0] == 12);
  CHECK(profile.samples[0].variances == std::vector<double>{2.0});
}

TEST_CASE("profile: aggregate joins equal stacks and drops samples that are zero") {
  Profile profile = counts();
  ProfileBuilder builder(profile);
  const uint32_t f = builder.synthetic_location("f"), g = builder.synthetic_location("g");
  profile.samples = {count_of({f}, 1), count_of({g}, 4), count_of({f}, 2), count_of({g}, -4)};
  aggregate(profile);
  REQUIRE(profile.samples.size() == 1);
  CHECK(profile.samples[0] == count_of({f}, 3));
}

TEST_CASE("profile: sums stop at the ends of the range") {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  CHECK(saturating_add(kMax, 1) == kMax);
  CHECK(saturating_add(kMin, -1) == kMin);
  CHECK(saturating_add(kMax, kMin) == -1);
  CHECK(saturating_negate(kMin) == kMax);
  CHECK(saturating_negate(-5) == 5);
}

TEST_CASE("profile: matching_locations finds functions, and files of unsymbolized code") {
  Profile profile = test::example_heap();
  ProfileBuilder(profile).location(1, 0x7f0000000222);
  const std::vector<bool> found = matching_locations(profile, "^walk|one\\.so");
  CHECK(found == std::vector<bool>{false, true, false, false, false, false, true});
  CHECK(test::contains(error_of([&] { (void)matching_locations(profile, "(("); }),
                       "expression \"((\" is not understood: "));
}

TEST_CASE("profile: drop_frames removes the match and everything leafward of it") {
  CHECK(after_drop({"brk", "malloc", "f", "main"}, "malloc") == Names{"f", "main"});
  CHECK(after_drop({"malloc", "f", "malloc", "main"}, "malloc") == Names{"main"});
  CHECK(after_drop({"f", "main"}, "malloc") == Names{"f", "main"});
}

TEST_CASE("profile: drop_frames matches the whole name without its arguments") {
  CHECK(after_drop({"xmalloc", "main"}, "malloc") == Names{"xmalloc", "main"});
  CHECK(after_drop({"operator new(unsigned long)", "main"}, "operator new") == Names{"main"});
  CHECK(after_drop({"(anonymous namespace)::f(int)", "main"}, "\\(anonymous namespace\\)::f") ==
        Names{"main"});
  CHECK(after_drop({"A::operator()(int)", "main"}, "A::operator\\(\\)") == Names{"main"});
  CHECK(after_drop({"a", "b", "main"}, "a|b") == Names{"main"});
}

TEST_CASE("profile: drop_frames keeps matches at the root and names in keep_frames") {
  CHECK(after_drop({"f", "malloc"}, "malloc") == Names{"f", "malloc"});
  CHECK(after_drop({"malloc", "calloc"}, ".*alloc") == Names{"malloc", "calloc"});
  CHECK(after_drop({"x", "rt.panic", "main"}, "rt\\..*", "rt\\.panic") ==
        Names{"x", "rt.panic", "main"});
}

TEST_CASE("profile: drop_frames cuts inside an inlined location") {
  Profile profile = counts();
  ProfileBuilder b(profile);
  const uint32_t f = b.function("f", ""), g = b.function("malloc", ""), h = b.function("h", "");
  const uint32_t leaf = b.location(-1, 1, {{h, 0}});
  const uint32_t mixed = b.location(-1, 2, {{h, 0}, {g, 0}, {f, 0}});
  const uint32_t root = b.location(-1, 3, {{h, 0}});
  b.sample(count_of({leaf, mixed, root}, 1));
  profile.drop_frames = "malloc";
  REQUIRE_FALSE(apply_drop_frames(profile).has_value());
  CHECK(names(profile, profile.samples[0]) == Names{"f", "h"});
}

TEST_CASE("profile: an expression that is not understood changes nothing and says why") {
  for (const std::string& expression :
       {std::string("a("), std::string("[z-a]"), std::string(5000, '(') + std::string(5000, ')')}) {
    Profile profile = stack_of({"a", "main"});
    profile.drop_frames = expression;
    const Profile before = profile;
    const auto error = apply_drop_frames(profile);
    REQUIRE(error.has_value());
    CHECK(test::contains(*error, "is not understood"));
    CHECK(profile == before);
  }
}

// With a backtracking matcher the first takes longer than the universe is old and the second
// overflows the stack.
TEST_CASE("profile: an expression can neither hang nor overflow the stack") {
  CHECK(after_drop({std::string(40, 'a'), "main"}, "(a*)*b").size() == 2);
  CHECK(after_drop({std::string(200'000, 'a'), "main"}, "a.*") == Names{"main"});
}

TEST_CASE("profile: check names what is out of range") {
  Profile profile = test::example_heap();
  CHECK(error_of([&] { check(profile); }).empty());
  profile.samples[1].locations[0] = 99;
  CHECK(error_of([&] { check(profile); }) == "profile: sample 1 names location 99 of 6");
  profile = test::example_heap();
  profile.samples[0].values.pop_back();
  CHECK(error_of([&] { check(profile); }) == "profile: sample 0 has 3 values for 4 types");
  profile = test::example_heap();
  profile.locations[2].mapping = 3;
  CHECK(error_of([&] { check(profile); }) == "profile: location 2 names mapping 3 of 3");
  profile = test::example_heap();
  profile.locations[0].lines[0].function = 7;
  CHECK(error_of([&] { check(profile); }) == "profile: location 0 names function 7 of 7");
  profile = test::example_heap();
  profile.default_type = 4;
  CHECK(error_of([&] { check(profile); }) == "profile: default type 4 of 4");
}

TEST_CASE("profile: a value type is found by name, else the error lists them") {
  const Profile profile = test::example_heap();
  CHECK(value_index(profile, "inuse_space") == 3);
  CHECK(value_index(profile, "") == 1);
  CHECK(value_index(test::empty_heap(), "") == 3);
  CHECK(error_of([&] { (void)value_index(profile, "cpu"); }) ==
        "value type \"cpu\" is not in the profile; it has: alloc_objects, alloc_space, "
        "inuse_objects, inuse_space");
}

}  // namespace
}  // namespace mprof::dumper
