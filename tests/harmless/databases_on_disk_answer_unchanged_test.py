# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL: initdb, its own regression queries many at a time, pgbench, a killed backend.

The queries are those of its source package (scripts/install_deps.sh has them in QUERIES). Without the
library they are held against what PostgreSQL's authors expect, and with it against the answers without.
A few need functions in C that the packages do not have: they fail, and in the same way.
"""

import concurrent.futures
import os
import pwd
import re
import signal
import subprocess
from pathlib import Path

import harmless
import serving_programs

QUERIES = Path("/usr/local/share/mprof-tests/postgresql-regress")
AS_POSTGRES = ["/usr/bin/setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

# Those of a line run at the same time, as in PostgreSQL's own schedule. All of that with MPROF_SOAK.
BOUNDED = """
test_setup
boolean char name varchar text int2 int4 int8 float4 float8 bit numeric uuid enum rangetypes
strings point lseg box path date time timestamptz interval inet multirangetypes
regex copy copyselect insert_conflict create_procedure create_schema create_aggregate
subselect union case aggregates transactions portals arrays update delete
plancache plpgsql rangefuncs polymorphism rowtypes with window
json jsonb jsonpath tsearch sequence tuplesort
select_parallel
"""

# Compiled by LLVM as it begins: code that no file has.
COMPILED = """
set jit_above_cost = 0; set jit_inline_above_cost = 0; set jit_optimize_above_cost = 0;
select count(*), sum(aid % 7 * bid + length(filler)) from pgbench_accounts where aid % 3 = 1;
"""

OPTIONS = {
    "fsync": "off",
    "autovacuum": "off",  # when it comes is a matter of time, and plans depend on it
    "max_prepared_transactions": "2",
    "max_connections": "40",
    "unix_socket_directories": "",
    "log_line_prefix": "",
}


def schedule():
    if harmless.LONGER == 1:
        return [line.split() for line in BOUNDED.strip().splitlines()]
    lines = (QUERIES / "parallel_schedule").read_text().splitlines()
    return [line.split()[1:] for line in lines if line.startswith("test:")]


class Postgres(serving_programs.Case):
    def setUp(self):
        super().setUp()
        self.assertEqual(os.geteuid(), 0, "a server is started as the user postgres: only root may")
        self.assertTrue(QUERIES.is_dir(), f"{QUERIES} is missing: scripts/install_deps.sh test")
        (programs,) = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
        self.programs = programs
        self.data = self.work / "data"

    def empty_work(self):
        super().empty_work()
        user = pwd.getpwnam("postgres")
        os.chown(self.work, user.pw_uid, user.pw_gid)

    def init(self, environment):
        self.empty_work()
        command = [*AS_POSTGRES, self.programs / "initdb", "-D", self.data, "--no-locale", "-E", "UTF8", "-A", "trust"]
        outcome = self.run_watched(*command, "--no-sync", "--no-instructions", environment=environment)
        self.assertEqual(outcome.status, 0, outcome)
        return outcome.out

    def postgres(self, environment):
        options = [f"--{name}={value}" for name, value in OPTIONS.items()]
        command = [*AS_POSTGRES, self.programs / "postgres", "-D", self.data, "-p", self.port, "-h", "127.0.0.1"]
        (self.dir / "server.log").unlink(missing_ok=True)
        return self.server(*command, *options, environment=environment)

    def ask(self, sql, database="postgres", options=(), **more):
        """What psql shows; it runs without the library."""
        environment = {
            **self.client_environment(), "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "postgres",
            "PGTZ": "PST8PDT", "PGDATESTYLE": "Postgres, MDY", "PGOPTIONS": "-c intervalstyle=postgres_verbose",
            "PG_ABS_SRCDIR": str(QUERIES), "PG_ABS_BUILDDIR": str(self.work), "PG_LIBDIR": str(self.work),
            "PG_DLSUFFIX": ".so", "PGCONNECT_TIMEOUT": str(self.timeout_s),
        }  # fmt: skip
        return subprocess.run(
            [self.programs / "psql", "-X", "-d", database, *options],
            input=sql, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, timeout=self.timeout_s,
            cwd=self.work, **more,
        ).stdout  # fmt: skip

    def value(self, sql, database="postgres"):
        return self.ask(sql.encode(), database, ["-A", "-t", "-q"]).decode().strip()

    def wait_until_it_answers(self, process):
        self.connected(process).close()
        self.wait_for(lambda: self.value("select 1") == "1", "postgres answers", seconds=self.timeout_s)

    def answers(self):
        """All of the schedule, a line of it at a time: for each name what psql said."""
        self.ask(b"create database regression template=template0;")
        for setting in ("lc_messages", "lc_monetary", "lc_numeric", "lc_time"):
            self.ask(b"alter database regression set %s to 'C';" % setting.encode())
        self.ask(b"alter database regression set bytea_output to 'hex';")
        options = ["-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]

        def run(name):
            return self.ask((QUERIES / "sql" / f"{name}.sql").read_bytes(), "regression", options)

        found = {}
        for names in schedule():
            with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
                found.update(zip(names, pool.map(run, names)))
        return found

    def complaints(self):
        """What the server said beside the errors in queries."""
        log = (self.dir / "server.log").read_text(errors="replace")
        lines = [line for line in log.splitlines() if re.match(r"PANIC|WARNING|TRAP|mprof|LOG:.*(signal|crash)", line)]
        return sorted({re.sub(r"\d+", "", line) for line in lines})

    def as_expected(self, name, answer):
        expected = [QUERIES / "expected" / f"{name}{variant}.out" for variant in ("", "_1", "_2", "_3")]
        return answer in [file.read_bytes() for file in expected if file.exists()]

    def test_regression_queries(self):
        expected = {}

        def run(environment):
            said = self.init(environment)
            with self.postgres(environment) as process:
                self.wait_until_it_answers(process)
                found = self.answers()
                process.send_signal(signal.SIGINT)  # a fast end
                status = self.end_of(process)
            if not expected:
                expected.update({name: self.as_expected(name, answer) for name, answer in found.items()})
            # Of the whole schedule some answers are chance, also without the library: those that are not
            # what their authors expect.
            steady = [name for name in found if harmless.LONGER == 1 or expected[name]]
            answers = {name: ("", found[name]) for name in steady}
            return harmless.Outcome(status, said, repr(self.complaints()).encode(), answers)

        plain = self.check_same(run)
        self.assertEqual(plain.status, 0, plain)
        unexpected = [name for name, is_so in expected.items() if not is_so]
        # Too many would mean that something else is tested than what was meant.
        self.assertLess(len(unexpected), len(expected) / 4, unexpected)

    def test_load_and_a_killed_backend(self):
        """The server ends all others when one was killed, and recovers."""

        def run(environment):
            self.init(environment)
            with self.postgres(environment) as process:
                self.wait_until_it_answers(process)
                where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "postgres"]
                for options in (["-i", "-q"], ["-n", "-c", "4", "-j", "2", "-t", str(40 * harmless.LONGER)]):
                    done = subprocess.run(
                        [self.programs / "pgbench", *options, *where], env=self.client_environment(),
                        capture_output=True, timeout=self.timeout_s,
                    )  # fmt: skip
                    self.assertEqual(done.returncode, 0, done)
                balance = "select sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts"
                self.assertEqual(self.value("select pg_jit_available()"), "t")
                seen = [self.value("select count(*) from pgbench_history"), self.value(balance), self.value(COMPILED)]
                victim = subprocess.Popen(
                    [self.programs / "psql", "-X", "-c", "select pg_sleep(1000)", *where[:-1], "-d", "postgres"],
                    env=self.client_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                find = "select pid from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
                pid = self.wait_for(lambda: self.value(find), "a backend sleeps", seconds=self.timeout_s)
                os.kill(int(pid), signal.SIGKILL)
                seen.append(victim.wait(self.timeout_s))
                self.wait_until_it_answers(process)
                seen += [self.value("select count(*) from pgbench_history"), self.value(balance)]
                process.send_signal(signal.SIGTERM)  # when the last client has gone
                status = self.end_of(process)
            return harmless.Outcome(status, repr(seen).encode(), repr(self.complaints()).encode())

        plain = self.check_same(run)
        self.assertEqual(plain.status, 0, plain)


if __name__ == "__main__":
    harmless.main()
