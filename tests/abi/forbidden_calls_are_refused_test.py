# SPDX-License-Identifier: Apache-2.0
"""scripts/check_calls.py must refuse what it is there for: it is fed small libraries that break a rule.

Each is a tiny preloaded library with one thing wrong; the check has to name it, with the path of
calls. And of the real library no rule may be superfluous: without any single one it is refused.
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import check_calls  # noqa: E402  found by the line above

LIBRARY = Path(os.environ["MPROF_BUILD"]) / "preload" / "libmprof.so"

# A library that keeps the rules below: what follows breaks one each.
GOOD = r"""
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define HIDDEN __attribute__((visibility("hidden"), noinline))
typedef void* (*Malloc)(size_t);
HIDDEN Malloc real_malloc;
HIDDEN void look_up(void) {
  if (!real_malloc) real_malloc = (Malloc)dlsym(RTLD_NEXT, "malloc");
  __asm__("");
}
HIDDEN void count(size_t bytes);
void* malloc(size_t bytes) {
  look_up();
  count(bytes);
  return real_malloc(bytes);
}
"""
COUNTS = """
HIDDEN void count(size_t bytes) {
  char text[64];
  memset(text, 1, bytes & 63);
  __asm__("" :: "r"(text));
}
"""
RULES = """
anywhere memset : safe
behind dlsym | look_up : once
pointer malloc : the real one
root _init _fini frame_dummy __do_global_dtors_aux : the compiler's
anywhere __gmon_start__ _ITM_registerTMCloneTable _ITM_deregisterTMCloneTable __cxa_finalize : the compiler's
"""


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = Path(folder.name)

    def complaints(self, source, rules=RULES, flags=()):
        (self.dir / "bad.c").write_text(source)
        (self.dir / "rules").write_text(rules)
        library = self.dir / "libbad.so"
        # -fno-builtin: printf of one character stays printf, and malloc is not known to give memory.
        command = ["cc", "-O2", "-shared", "-fPIC", "-fno-builtin", "-w", "-D_GNU_SOURCE", "-Wl,-z,now", *flags]
        subprocess.run([*command, "-o", library, self.dir / "bad.c"], check=True)
        read = check_calls.Library(library)
        tables = check_calls.Tables(read)
        found, _ = check_calls.check(check_calls.Graph(read, tables), check_calls.Rules(self.dir / "rules"))
        return found

    def refused(self, count, *wanted, rules=RULES, flags=()):
        """Adds `count`, the hook's own work, to the library: some one complaint must have all words."""
        found = self.complaints(GOOD + count, rules, flags)
        with self.subTest(wanted):
            self.assertTrue(any(all(word in text for word in wanted) for text in found), found)


class Refused(Case):
    def test_what_keeps_the_rules_is_not(self):
        self.assertEqual(self.complaints(GOOD + COUNTS), [])

    def test_call_far_below_a_hook(self):
        self.refused(
            "HIDDEN void tell(size_t bytes) { printf(\"%zu\\n\", bytes); __asm__(\"\"); }"
            "HIDDEN void count(size_t bytes) { if (bytes > 100) tell(bytes); __asm__(\"\"); }",
            "printf is called, and no rule says from where: malloc -> count -> tell -> printf",
        )  # fmt: skip

    def test_allocation_by_a_jump(self):
        """A tail call is a jump; the exported malloc would be entered anew."""
        self.refused("void* freed; HIDDEN void count(size_t bytes) { free(freed); }", "malloc -> count -> free")

    def test_own_hook_by_its_exported_name(self):
        self.refused(
            "HIDDEN void count(size_t bytes) { if (bytes > 9) malloc(bytes - 9); __asm__(\"\"); }",
            "malloc is called, and no rule", "malloc -> count -> malloc",
        )  # fmt: skip

    def test_call_in_a_case_of_a_switch(self):
        cases = "".join(f"case {i}: {what}; break;" for i, what in enumerate(
            ["memset(to, 1, 5)", "memset(to, 2, 6)", "*to = 3", "puts(to)", "memset(to, 7, 9)", "to[2] = 5", "to[3]++"]
        ))  # fmt: skip
        self.refused(
            f"char kept[64]; HIDDEN void count(size_t bytes) {{ char* to = kept; switch (bytes) {{ {cases} }} }}",
            "puts is called, and no rule says from where: malloc -> count -> puts",
        )

    def test_pointer_of_unknown_origin(self):
        self.refused(
            "void (*told)(size_t); HIDDEN void count(size_t bytes) { told(bytes); __asm__(\"\"); }",
            "malloc -> count", "through a pointer of unknown origin",
        )  # fmt: skip

    def test_pointer_in_a_table(self):
        self.refused(
            "static void* (*const kTable[])(size_t) = {(Malloc)strdup, (Malloc)exit};"
            "HIDDEN void count(size_t bytes) { kTable[bytes & 1](bytes); __asm__(\"\"); }",
            "relocations of kind 64",
        )  # fmt: skip

    def test_function_handed_to_somebody(self):
        self.refused(
            "HIDDEN void count(size_t bytes) { pthread_key_t key; pthread_key_create(&key, free); __asm__(\"\"); }",
            "free is called, and no rule says from where: malloc -> count -> free",
            rules=RULES + "anywhere pthread_key_create : safe\n",
        )

    def test_own_function_handed_to_somebody(self):
        self.refused(
            "HIDDEN void end(void* p) { memset(p, 1, 2); }"
            "HIDDEN void count(size_t bytes) { pthread_key_t key; pthread_key_create(&key, end); __asm__(\"\"); }",
            "end: whoever has its address can call it", "taken in count",
            rules=RULES + "anywhere pthread_key_create : safe\n",
        )  # fmt: skip

    def test_way_past_the_gate(self):
        self.refused(
            "HIDDEN void count(size_t bytes) { if (bytes == 7) dlsym(RTLD_DEFAULT, \"x\"); __asm__(\"\"); }",
            "dlsym is reached: malloc -> count -> dlsym",
        )

    def test_system_call_without_a_rule(self):
        self.refused(
            "HIDDEN void count(size_t bytes) { long r = 257; __asm__ volatile(\"syscall\" : \"+a\"(r)); }",
            "syscall.openat is called", "malloc -> count",
        )  # fmt: skip
        self.refused(
            "HIDDEN void count(size_t r) { __asm__ volatile(\"syscall\" : \"+a\"(r)); }",
            "malloc -> count", "a system call of unknown number",
        )  # fmt: skip

    def test_constructor_of_a_variable(self):
        self.refused(
            COUNTS + "__attribute__((constructor)) static void empty(void) { real_malloc = 0; }",
            "empty: whoever has its address can call it",
        )

    def test_code_that_has_no_symbol(self):
        """It counts as the end of what lies before it."""
        self.refused(COUNTS + '__asm__(".text\\n pushq %rax\\n call puts@PLT\\n");', "puts is called")

    def test_dynamic_thread_local_storage(self):
        self.refused(
            "__thread size_t sum; HIDDEN void count(size_t bytes) { sum += bytes; __asm__(\"\"); }",
            "relocations of kind DTPMOD64", flags=("-ftls-model=global-dynamic",),
        )  # fmt: skip

    def test_what_is_never_to_be_reached(self):
        rules = RULES + "anywhere puts : safe\nnever malloc | puts : not in a hook\n"
        self.refused(
            "HIDDEN void count(size_t bytes) { puts(\"x\"); __asm__(\"\"); }",
            "malloc must never reach puts: malloc -> count -> puts", rules=rules,
        )  # fmt: skip

    def test_rule_that_nothing_needs(self):
        self.refused(COUNTS, "a rule for puts, which nothing calls", rules=RULES + "anywhere puts : safe\n")
        self.refused(COUNTS, "no function is named nobody", rules=RULES + "behind dlsym | nobody : gone\n")


class OfTheLibrary(unittest.TestCase):
    def test_no_rule_is_superfluous(self):
        library = check_calls.Library(LIBRARY)
        graph = check_calls.Graph(library, check_calls.Tables(library))
        rules = ROOT / "scripts" / "calls.rules"
        lines = [i for i, line in enumerate(rules.read_text().splitlines()) if line and line[0] not in "# "]
        self.assertGreater(len(lines), 50)
        with tempfile.TemporaryDirectory() as folder:
            for left_out in lines:
                less = Path(folder) / "rules"
                less.write_text(without_rule(rules.read_text(), left_out))
                found, _ = check_calls.check(graph, check_calls.Rules(less))
                word = rules.read_text().splitlines()[left_out]
                with self.subTest(word):
                    # What must never be is only a promise more.
                    self.assertEqual(found == [], word.startswith("never"), found)

    def test_it_keeps_the_rules(self):
        command = [sys.executable, "-B", ROOT / "scripts" / "check_calls.py", LIBRARY]
        run = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual((run.returncode, run.stderr), (0, ""), run.stdout)


def without_rule(text, number):
    lines = text.splitlines()
    end = number + 1
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    return "\n".join(lines[:number] + lines[end:]) + "\n"


if __name__ == "__main__":
    unittest.main()
