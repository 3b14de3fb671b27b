# SPDX-License-Identifier: Apache-2.0
"""Functions that the compiler inlined are in the profile, with file and line, in the right order."""

from pathlib import Path

import harness

SOURCE = Path(__file__).parent.parent / "targets" / "inlined.cc"


def line_of(text):
    return 1 + next(i for i, line in enumerate(SOURCE.read_text().splitlines()) if text in line)


class Inlined(harness.Case):
    def frames(self, *options):
        self.run_under(harness.target("inlined"))
        profile = self.profile(self.only_dump(), options=options)
        sample = [s for s in profile.samples if s.values["alloc_space"] == 1600]
        self.assertEqual(len(sample), 1)
        return sample[0].frames

    def test_full(self):
        frames = self.frames()
        wanted = ["innermost_inline", "middle_inline", "store<double>", "main"]
        for frame, name in zip(frames, wanted):
            self.assertIn(name, frame.function)
            self.assertTrue(frame.file.endswith("inlined.cc"), frame)
        self.assertEqual(frames[0].line, line_of("void* block = malloc(bytes)"))
        self.assertEqual(frames[1].line, line_of("return innermost_inline(bytes * 2)"))
        self.assertEqual(frames[2].line, line_of("return middle_inline(count"))

    def test_names_only(self):
        frames = self.frames("--symbols=names")
        self.assertIn("store<double>", frames[0].function)
        self.assertEqual((frames[0].file, frames[0].line), ("", 0))

    def test_none(self):
        frames = self.frames("--symbols=none")
        self.assertEqual(frames[0].function, "")
        self.assertTrue(frames[0].mapping.endswith("/inlined"), frames[0])

    def test_go_pprof_shows_them(self):
        self.run_under(harness.target("inlined"))
        text = self.go_pprof("-alloc_space", "-nodefraction=0", "-top", self.profile_file(self.only_dump()))
        for name in ("innermost_inline", "middle_inline", "(inline)"):
            self.assertIn(name, text)


if __name__ == "__main__":
    harness.main()
