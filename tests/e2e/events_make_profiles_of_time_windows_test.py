# SPDX-License-Identifier: Apache-2.0
"""From the journal: the profile of a time window, and the heap over time."""

import harness

# Allocates in three phases, half a second apart, each with a function of its own.
SOURCE = """
#include <stdlib.h>
#include <time.h>
#define PHASE __attribute__((noinline, used)) void
static void* kept[300];
static int count;
static void pause_ms(long ms) { struct timespec t = {0, ms * 1000000}; nanosleep(&t, NULL); }
PHASE phase_one(void) { for (int i = 0; i < 100; i++) kept[count++] = malloc(1000); }
PHASE phase_two(void) { for (int i = 0; i < 100; i++) kept[count++] = malloc(2000); }
PHASE phase_three(void) { for (int i = 0; i < 200; i++) { free(kept[i]); } }
int main(void) {
  phase_one(); pause_ms(500); phase_two(); pause_ms(500); phase_three(); return 0;
}
"""


class Windows(harness.Case):
    def setUp(self):
        super().setUp()
        (self.dir / "phases.c").write_text(SOURCE)
        built = self.run_plain("cc", "-O1", "-g", "-fno-builtin", "phases.c", "-o", "phases")
        self.assertEqual(built.returncode, 0, built)
        run = self.mprof("run", "--heap-rate", "1", "--", self.dir / "phases")
        self.assertEqual(run.returncode, 0, run)
        self.dump = self.only_dump()

    def window(self, *options):
        return self.profile(self.dump, options=options)

    def test_first_and_second_phase(self):
        first = self.window("--from", "0s", "--to", "250ms")
        self.assert_site(first, "phase_one", 100, 100000, 100, 100000)
        self.assertEqual(first.below("phase_two")["alloc_objects"], 0)
        second = self.window("--from", "250ms", "--to", "750ms")
        self.assertEqual(second.below("phase_one")["alloc_objects"], 0)
        self.assertEqual(second.below("phase_two")["alloc_objects"], 100)
        self.assertEqual(second.below("phase_two")["alloc_space"], 200000)

    def test_whole_window_is_the_whole_profile(self):
        whole, window = self.window(), self.window("--from", "0s")
        for function in ("phase_one", "phase_two"):
            self.assertEqual(whole.below(function), window.below(function))

    def test_timeline(self):
        text = self.mprof_ok("timeline", self.dump).stdout
        self.assertGreater(len(text.splitlines()), 3)
        self.assertRegex(text, r"(?i)live|heap|in use")


if __name__ == "__main__":
    harness.main()
