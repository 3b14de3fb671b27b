# SPDX-License-Identifier: Apache-2.0
"""At a clean end the dump is cut to what is used; killed, it is larger and just as readable."""

import harness


class Size(harness.Case):
    def end(self, how):
        self.run_under(harness.target("ends"), how)
        dump = self.only_dump()
        size = dump.stat().st_size
        self.assert_site(self.profile(dump), "known_amount", 100, 123400, 60, 74040)
        info = self.info(dump)
        dump.unlink()
        return size, info

    def test_sizes(self):
        clean, clean_info = self.end("return")
        killed, killed_info = self.end("kill")
        self.assertLess(clean, killed)
        self.assertLess(clean, 4 << 20)
        self.assertTrue(clean_info["ended_cleanly"])
        self.assertFalse(killed_info["ended_cleanly"])


if __name__ == "__main__":
    harness.main()
