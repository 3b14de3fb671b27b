# SPDX-License-Identifier: Apache-2.0
"""`mprof pprof --text`: the format that Go's debug=1 has, ending in a memory map."""

import re

import harness


class Text(harness.Case):
    def test_text(self):
        self.run_under(harness.target("truth"))
        dump = self.only_dump()
        out = self.dir / "out"
        out.mkdir()
        self.mprof_ok("pprof", dump, "-p", "heap", "--text", "-o", out)
        (file,) = out.iterdir()
        text = file.read_text()
        whole = self.profile(dump).total()
        header = re.match(r"heap profile: (\d+): (\d+) \[(\d+): (\d+)\] @ heap/(\d+)\n", text)
        self.assertIsNotNone(header, text[:200])
        numbers = [int(n) for n in header.groups()]
        self.assertEqual(
            numbers[:4],
            [whole["inuse_objects"], whole["inuse_space"], whole["alloc_objects"], whole["alloc_space"]],
        )
        self.assertRegex(text, r"\n\d+: \d+ \[\d+: \d+\] @( 0x[0-9a-f]+)+\n")
        self.assertIn("truth::site<", text)
        memory_map = text.partition("\n--- Memory map: ---\n")[2]
        self.assertRegex(memory_map, r"(?m)^[0-9a-f]+-[0-9a-f]+ r-xp .*/truth$")
        self.go_pprof("-raw", file)


if __name__ == "__main__":
    harness.main()
