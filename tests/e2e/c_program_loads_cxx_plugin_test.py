# SPDX-License-Identifier: Apache-2.0
"""A C program that loads C++ plug-ins with RTLD_LOCAL: exceptions and operator new stay the plug-in's."""

import harness


class Plugin(harness.Case):
    def both(self, plugin, env=None):
        command = [harness.target("plugin_host"), harness.target(plugin)]
        plain, under = self.run_plain(*command), self.run_under(*command, env=env)
        self.assertEqual(plain.returncode, 0, plain)
        self.assert_same_behaviour(plain, under)
        return self.profile(self.only_dump())

    def test_exceptions_and_new(self):
        profile = self.both("plugin_throw.so")
        self.assert_site(profile, "plugin_leaks_new", 1, 4000, 1, 4000)

    def test_exceptions_with_unwind_tables(self):
        self.both("plugin_throw.so", {"MPROF_UNWIND": "dwarf"})

    def test_own_operator_new(self):
        profile = self.both("plugin_own_new.so")
        self.assert_site(profile, "plugin_makes_things", 10, 7000, 4, 2800)


if __name__ == "__main__":
    harness.main()
