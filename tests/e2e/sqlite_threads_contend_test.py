# SPDX-License-Identifier: Apache-2.0
"""Threads that share one connection of libsqlite3, whose mutex its statements hold."""

import re

import harness
from contended_program import ContendedProgram, Waits

BLOCK = [
    Waits("use_connection", "barrier"),
    # Whatever they do with the connection, a step of another thread is in the way.
    Waits("count_slowly", "mutex", 20),
    Waits("main", "join", 20),
]
MUTEX = [Waits("sqlite3_step", "mutex", 20)]


class SqliteThreads(ContendedProgram):
    def test_sqlite(self):
        self.contend([harness.target("sqlite_threads")], BLOCK, MUTEX, self.check_profiles, rate=1)

    def check_profiles(self, profiles):
        self.check_threads(profiles["threadcreate"], {re.compile("^use_connection$"): 4})
        self.check_lock(profiles["mutex"])

    def check_lock(self, mutex):
        """It is all one lock, which libsqlite3 allocated, held and waited for."""
        self.assertEqual(len({s.labels["lock"] for s in mutex.samples}), 1)
        for sample in mutex.samples:
            self.assertRegex(sample.labels["lock_site"], r"^libsqlite3\.so\.0\+0x|^sqlite3")
            self.assertRegex(sample.labels["victim"], r"^libsqlite3\.so\.0\+0x|^sqlite3")
            self.assertIn("libsqlite3", sample.frames[0].mapping, sample)


if __name__ == "__main__":
    harness.main()
