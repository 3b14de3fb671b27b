# SPDX-License-Identifier: Apache-2.0
"""The disk becomes full at each growth of each table: the program goes on, and what has no room is counted."""

import dataclasses

import disks
import harmless

STEPS = 8 * harmless.LONGER

# The stages of tests/targets/fills_tables.c, each of which makes other tables grow.
STACKS = "stacks"  # frames, buckets, live blocks
LIVE = "live"  # live blocks
LABELS = "labels"  # labels, texts, buckets
PROFILES = "profiles"  # the program's own profiles, counts, frames
THREADS = "threads"  # threads, counts
RINGS = "rings"  # rings of events and of the trace, and what is in them
MODULES = "modules"  # modules, texts


@dataclasses.dataclass
class Whole:
    """A stage that had all the space it wanted."""

    plain: harmless.Outcome
    need: int  # bytes by which the dump grew
    allocated: int
    info: dict


class FullDisk(disks.Case):
    def setUp(self):
        super().setUp()
        self.copies_of_a_library()

    def whole_run(self, folder, stage):
        plain = self.last_words(self.start_stages(None, stage, "rest"))
        process = self.start_stages(folder, stage, "rest", settings=disks.EXACT)
        dump = self.only_dump(folder)
        before = dump.stat().st_blocks
        self.next_stage(process)
        need = (dump.stat().st_blocks - before) * 512
        self.assertEqual(self.last_words(process), plain)
        info = self.check_events(dump)
        self.assertEqual(info["lost"], {})
        allocated = self.profile(dump, "allocs", ["--symbols=names"]).total()["alloc_objects"]
        dump.unlink()
        return Whole(plain, need, allocated, info)

    def check_stage(self, stage):
        folder = self.tmpfs()
        whole = self.whole_run(folder, stage)
        self.assertGreater(whole.need, 0, "nothing grew")
        rooms = [whole.need * step // STEPS // disks.PAGE * disks.PAGE for step in range(STEPS + 1)]
        losses = [self.check_room(folder, stage, room, whole) for room in rooms]
        print(f"{stage}: {whole.need} bytes of growth; lost with 0 to {STEPS}/{STEPS} of them: {losses}")
        self.assertEqual(losses[-1], 0)

    def check_room(self, folder, stage, room, whole):
        """Of the space that the stage needs there is so much. How much is lost."""
        hint = f"{stage}, {room} bytes free"
        process = self.start_stages(folder, stage, "rest", settings=disks.EXACT)
        disks.fill(folder, room)
        under = self.last_words(process)
        self.assertEqual(under, whole.plain, hint)
        disks.give_back(folder)
        dump = self.only_dump(folder)
        self.mprof_ok("drain", "--once", dump)
        info = self.check_events(dump, hint)
        profile = self.profile(dump, "allocs", ["--symbols=names"])
        self.check_truth(profile, under, hint)
        self.assertEqual(profile.total()["alloc_objects"], whole.allocated, hint)
        self.check_values(info, whole, hint)
        said = self.mprof_ok("info", dump).stdout
        self.assertEqual("the dump could not grow" in said, room < whole.need, hint)
        for file in folder.iterdir():
            file.unlink()
        return sum(info["lost"].values())

    def check_values(self, info, whole, hint):
        """Each value is in the program's own profile, or is counted."""
        added, of_them = (sum(p["added"] for p in each["custom_profiles"]) for each in (info, whole.info))
        self.assertEqual(added + info["lost"].get("value not added to a profile", 0), of_them, hint)

    def test_stacks(self):
        self.check_stage(STACKS)

    def test_live_blocks(self):
        self.check_stage(LIVE)

    def test_labels_and_texts(self):
        """Labels that had no room were told as lost blocks too: more blocks were shown than there had been."""
        self.check_stage(LABELS)

    def test_own_profiles(self):
        """So were stacks of values that had none."""
        self.check_stage(PROFILES)

    def test_threads(self):
        """So were rows for threads, once more than the blocks of those threads."""
        self.check_stage(THREADS)

    def test_rings(self):
        """Mappings that a thread without a ring made were events that nobody counted."""
        self.check_stage(RINGS)

    def test_modules(self):
        self.check_stage(MODULES)


if __name__ == "__main__":
    disks.main()
