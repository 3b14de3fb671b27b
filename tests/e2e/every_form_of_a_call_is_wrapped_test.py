# SPDX-License-Identifier: Apache-2.0
"""The calls that a trace names are those that the library wraps, each in every form that libc has of it."""

import os
import re
from collections import Counter
from pathlib import Path

import harness

SOURCE = Path(os.environ["MPROF_SOURCE"])
NAMES = dict(re.findall(r'X\((k\w+), "([^"]+)", (?:true|false)\)', (SOURCE / "format/call_names.h").read_text()))
HOOKS = {
    function: enumerator
    for enumerator, function in re.findall(
        r"<CallName::(\w+), &RealCalls::(\w+)>", (SOURCE / "preload/hooks_calls.cc").read_text()
    )
}
FORWARDED = set(re.findall(r"(?m)^ +X\(\w+, (\w+),", (SOURCE / "preload/real_calls.h").read_text()))
NO_CALL = {"malloc_trim"}  # it makes a record of its own
FORMS = ["{}", "{}64", "{}64v2", "__{}_chk", "__{}64_chk", "__{}_2", "__{}64_2"]


def without_form(function):
    """pread of __pread64_chk: the name without what tells the forms of a function apart."""
    return re.sub(r"^(?:__)?(.+?)(?:64)?(?:v2|_chk|_2)?$", r"\1", function)


class Calls(harness.Case):
    def symbols(self, file):
        """The names that a library exports, each once for every version."""
        lines = self.run_plain("nm", "-D", "--defined-only", file).stdout.splitlines()
        return [line.split()[-1] for line in lines]

    def libc(self):
        maps = self.run_plain("ldd", harness.target("call_results")).stdout
        return self.symbols(re.search(r"libc\.so\.6 => (\S+)", maps)[1])

    def test_every_name_has_a_hook_and_every_hook_a_name(self):
        self.assertGreater(len(NAMES), 30)
        self.assertEqual(set(HOOKS.values()), set(NAMES))

    def test_every_hook_is_exported_and_forwards(self):
        exported = set(self.symbols(harness.LIBRARY))
        self.assertEqual(set(HOOKS) - exported, set())
        self.assertEqual(FORWARDED, set(HOOKS) | NO_CALL)
        self.assertLessEqual(NO_CALL, exported)

    def test_each_is_shown_by_its_own_name(self):
        names = {name.partition(" ")[0]: enumerator for enumerator, name in NAMES.items()}  # "fcntl lock"
        for function, enumerator in HOOKS.items():
            within = [name for name in names if name in function.replace("creat", "open")]
            self.assertEqual(enumerator, names[max(within, key=len)], function)

    def test_no_form_of_a_wrapped_function_goes_past(self):
        in_libc = {name.partition("@")[0] for name in self.libc()}
        forms = {form.format(without_form(function)) for function in HOOKS for form in FORMS}
        self.assertGreater(len(forms & in_libc), 70)
        self.assertEqual((forms & in_libc) - set(HOOKS), set())

    def test_each_has_one_version(self):
        versions = Counter(name.partition("@")[0] for name in self.libc())
        self.assertEqual({name: versions[name] for name in FORWARDED}, dict.fromkeys(FORWARDED, 1))


if __name__ == "__main__":
    harness.main()
