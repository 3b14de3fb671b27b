# SPDX-License-Identifier: Apache-2.0
"""Every function of mprof.h gives its documented answer with the library, without it, and where it does not record."""

import api_program
import harness

PROGRAM = """
#include <errno.h>
#include <mprof.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void ask(void) {
  int a, b;
  char key[8];
  int i;
  mprof_label_set_t none = {0};
  mprof_label_set_t some;
  mprof_profile_t profile;
  errno = 77;
  printf("%d%d%d", mprof_label_set("k", "v"), mprof_label_set("k", 0), mprof_label_set("k", ""));
  printf("%d%d%d ", mprof_label_set("", "v"), mprof_label_set(0, "v"), mprof_label_clear("k"));
  printf("%d", mprof_labels().id != 0);
  mprof_label_set("k", "v");
  some = mprof_labels();
  printf("%d", some.id != 0);
  mprof_labels_clear();
  printf("%d", mprof_labels().id != 0);
  mprof_set_labels(some);
  printf("%d", mprof_labels().id == some.id);
  mprof_set_labels(none);
  printf("%d ", mprof_labels().id != 0);
  for (i = 0; i < 16; i++) {
    sprintf(key, "key%d", i);
    mprof_label_set(key, "v");
  }
  printf("%d%d ", mprof_label_set("key3", "w"), mprof_label_set("one more", "v"));
  mprof_labels_clear();

  profile = mprof_profile_new("things");
  printf("%d%d", profile != 0, profile == mprof_profile_new("things"));
  printf("%d%d", mprof_profile_lookup("things") == profile, mprof_profile_lookup("none") != 0);
  printf("%d%d%d ", mprof_profile_new("") != 0, mprof_profile_new(0) != 0, mprof_profile_new("heap") != 0);
  printf("%d", mprof_profile_add(profile, &a));
  printf("%d", mprof_profile_add(profile, &a));
  printf("%d", mprof_profile_add(profile, &b));
  printf("%d", mprof_profile_add(0, &a));
  printf("%d", (int)mprof_profile_count(profile));
  printf("%d", mprof_profile_remove(profile, &a));
  printf("%d", mprof_profile_remove(profile, &a));
  printf("%d", mprof_profile_remove(0, &a));
  printf("%d%d ", (int)mprof_profile_count(profile), (int)mprof_profile_count(0));
  mprof_profile_remove(profile, &b);

  mprof_alloc(&a, sizeof a);
  mprof_free(&a);
  mprof_free(&b);
  mprof_resume();
  mprof_pause();
  mprof_resume();
  printf("%d\\n", errno);
  fflush(stdout);
}
""" + api_program.ASK_TWICE
WITH = "111001 01010 10 1110000 1010210010 77\n"
WITHOUT = "000000 00010 00 0110000 0000000000 77\n"


class Functions(api_program.Answers):
    program_text = PROGRAM
    without = WITHOUT

    def test_with_the_library(self):
        for program in self.programs():
            self.assertEqual(self.run_under(program).stdout, WITH * 2)

    def test_static_program(self):
        options = ["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-static"]
        program = self.compile(PROGRAM, "cc", "c", options)
        self.assertEqual(self.run_under(program).stdout, WITHOUT * 2)


if __name__ == "__main__":
    harness.main()
