# SPDX-License-Identifier: Apache-2.0
"""exec in every form, children made by many threads at once, pids that are used again."""

import harmless
import harness


class Exec(harmless.Case):
    def test_a_chain_of_every_exec(self):
        program = harness.target("exec_chain")
        outcome = self.check_unchanged(program, env={"EXEC_CHAIN": program})
        self.assertEqual((outcome.status, outcome.out.count(b"\n")), (33, 13), outcome)


class Children(harmless.Case):
    def test_threads_that_all_make_children(self):
        outcome = self.check_unchanged(harness.target("spawners"), 2 * harmless.LONGER)
        self.assertEqual((outcome.status, outcome.err), (0, b""), outcome)

    def test_the_first_process_of_a_container_has_no_child_more(self):
        """The drainer of a trace, an orphan, became a child of the program that it drains where that
        is the one that adopts orphans. It lives as long: a wait for all children never came back."""
        namespace = [*harness.as_root(), "unshare", "--fork", "--pid", "--mount-proc"]
        outcome = self.check_unchanged(*namespace, harness.target("reaper"), env={"MPROF_ONLY": "reaper"})
        self.assertEqual((outcome.status, outcome.err), (6, b""), outcome)
        self.assertIn(b"ended c00, nobody left 1\n", outcome.out)

    def test_a_pid_that_is_used_again(self):
        namespace = [*harness.as_root(), "unshare", "--fork", "--pid", "--mount-proc"]
        outcome = self.check_unchanged(*namespace, harness.target("same_pid"))
        self.assertEqual((outcome.status, outcome.out.count(b"pid 300:")), (0, 4), outcome)

    def test_each_life_of_a_pid_has_a_dump_of_its_own(self):
        self.dumps_folder.mkdir()
        namespace = [*harness.as_root(), "unshare", "--fork", "--pid", "--mount-proc"]
        self.work.mkdir()
        outcome = self.run_watched(
            *namespace, harness.target("same_pid"),
            environment=self.library_env(1, dump_dir=self.dumps_folder),
        )  # fmt: skip
        self.assertEqual(outcome.status, 0, outcome)
        dumps = [self.dumps_folder / f"same_pid.300.mprof{end}" for end in ("", ".1", ".2", ".3")]
        lives = [self.profile(dump).below("allocate_as") for dump in dumps]
        self.assertEqual([life["alloc_objects"] for life in lives], [1, 2, 3, 4])


if __name__ == "__main__":
    harmless.main()
