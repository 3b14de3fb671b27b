# SPDX-License-Identifier: Apache-2.0
"""mprof_profile_write: a program writes a profile of its own, and `go tool pprof` reads it."""

import errno

import api_program

SOURCE = """
#include <fcntl.h>
#include <mprof.h>
#include <stdio.h>
#include <unistd.h>
static char things[100];
__attribute__((noinline)) static void add_seventy(mprof_profile_t profile) {
  int i;
  for (i = 0; i < 70; i++) mprof_profile_add(profile, &things[i]);
}
__attribute__((noinline)) static void add_thirty(mprof_profile_t profile) {
  int i;
  for (i = 70; i < 100; i++) mprof_profile_add(profile, &things[i]);
}
int main(void) {
  mprof_profile_t profile = mprof_profile_new("open things");
  int i, fd = open("things.txt", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  add_seventy(profile);
  add_thirty(profile);
  for (i = 60; i < 70; i++) mprof_profile_remove(profile, &things[i]);
  printf("%d %d %d\\n", mprof_profile_write(profile, fd), mprof_profile_write(0, fd),
         mprof_profile_write(profile, -1));
  return close(fd);
}
"""


class Written(api_program.Case):
    def test_go_pprof_reads_it(self):
        for program in self.programs(SOURCE):
            under = self.run_under(program)
            self.assertEqual(under.stdout, f"0 {errno.EINVAL} {errno.EBADF}\n", under)
            text = (self.dir / "things.txt").read_text()
            self.assertTrue(text.startswith("open_things profile: total 90\n"), text[:200])
            self.assertIn("\n--- Memory map: ---\n", text)
            top = self.go_pprof("-top", self.dir / "things.txt")
            self.assertIn("Type: open_things", top)
            self.assertRegex(top, r"90 of 90 total|90, 100% of 90 total")
            # One line with the count and the return addresses for each stack.
            counts = sorted(int(line.split(" @")[0]) for line in text.splitlines() if " @ 0x" in line)
            self.assertEqual(counts, [30, 60])

    def test_without_the_library(self):
        for program in self.programs(SOURCE):
            plain = self.run_plain(program)
            self.assertEqual(plain.stdout, f"{errno.ENOSYS} {errno.ENOSYS} {errno.ENOSYS}\n", plain)
            self.assertEqual((self.dir / "things.txt").read_text(), "")


if __name__ == "__main__":
    api_program.harness.main()
