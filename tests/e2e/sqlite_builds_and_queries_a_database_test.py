# SPDX-License-Identifier: Apache-2.0
"""sqlite3 builds tables and indices, joins and groups them, under the library."""

import harness
from real_program import LIBC_START, RealProgram

SQL = """
CREATE TABLE a(id INTEGER PRIMARY KEY, k INT, s TEXT);
CREATE TABLE b(id INTEGER PRIMARY KEY, a_id INT, v REAL, t TEXT);
BEGIN;
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<20000)
  INSERT INTO a SELECT i, (i*7919)%1000, printf('name-%08d-%s', (i*104729)%20000, hex(i*i)) FROM c;
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<40000)
  INSERT INTO b SELECT i, (i*31)%20000+1, i*0.5, 'tag' || (i%97) FROM c;
COMMIT;
CREATE INDEX a_k ON a(k); CREATE INDEX a_s ON a(s); CREATE INDEX b_t ON b(t, v);
SELECT a.k, count(*), sum(b.v), max(a.s) FROM a JOIN b ON b.a_id=a.id GROUP BY a.k ORDER BY 3 DESC LIMIT 5;
SELECT t, length(group_concat(s)) FROM b JOIN a ON a.id=b.a_id GROUP BY t LIMIT 3;
UPDATE a SET s = s || '-x' WHERE k < 300;
SELECT count(*) FROM a WHERE s LIKE '%7%x';
SELECT no_such_column FROM a;
"""


class Sqlite(RealProgram):
    # What it prepares takes some 200 KB: sampled whatever chance says.
    rate = 4096

    def test_sqlite(self):
        (self.dir / "work.sql").write_text(SQL)
        command = ["sqlite3", "-init", "/dev/null", ":memory:", ".read work.sql"]
        plain = self.run_plain(*command)
        under = self.run_under(*command, rate=self.rate)
        self.assertIn("no such column", plain.stderr)
        self.assert_same_behaviour(plain, under)
        dump = self.only_dump()
        self.check_profile(dump, ["sqlite3_step", "sqlite3_prepare_v2"])
        self.check_complete_stacks(dump, LIBC_START)


if __name__ == "__main__":
    harness.main()
