# SPDX-License-Identifier: Apache-2.0
"""Parca and Grafana Alloy (Pyroscope) get what they ask for: their default paths, those of the configurations in
docs/fleet.md, and their service discovery."""

import concurrent.futures
import json
import os
import re
from pathlib import Path

import harness
import serving

FLEET = (Path(os.environ["MPROF_SOURCE"]) / "docs" / "fleet.md").read_text()
TOKEN = "a-token-of-32-visible-characters"

# Their defaults; the CPU profile goes with seconds.
DEFAULTS = ("/debug/pprof/allocs", "/debug/pprof/block", "/debug/pprof/mutex", "/debug/pprof/goroutine")
GO_HTTP = {"User-Agent": "Parca/0.24", "Accept-Encoding": "gzip"}


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", FLEET, re.DOTALL)


def configured_paths(language):
    return sorted({p for block in code_blocks(language) for p in re.findall(r"\bpath *[:=] *\"?(/[^\s\"]+)", block)})


class Scrapers(serving.Case):
    def setUp(self):
        super().setUp()
        self.program = self.start_obedient()
        for line in ("keep 4", "contend 1", "thread"):
            self.program.obey(line)

    def assert_scraped(self, path, headers=None):
        """As these see it: 200, a body that is a profile, not compressed once more."""
        answer = self.ask(path, headers={**GO_HTTP, **(headers or {})})
        self.assertEqual(answer.status, 200, (path, answer.body))
        self.assertIsNone(answer.headers["Content-Encoding"])
        file = self.dir / "scraped.pb.gz"
        file.write_bytes(answer.body)
        self.assertIn("Samples:", self.go_pprof("-raw", file))
        return harness.Profile(file)

    def test_default_paths(self):
        self.serve(self.program.pid)
        for path in DEFAULTS:
            with self.subTest(path):
                self.assertTrue(self.assert_scraped(path).samples)
        self.assert_unharmed(self.program)

    def test_configured_paths(self):
        self.serve(self.program.pid)
        for language in ("yaml", "alloy"):
            paths = configured_paths(language)
            self.assertIn("/debug/pprof/threadcreate", paths)
            for path in paths:
                with self.subTest(path, of=language):
                    self.assertTrue(self.assert_scraped(path).samples)

    def test_differences_as_they_ask_for_them(self):
        """Parca sends its interval, sometimes twice; Alloy one second less than its own. All at a time."""
        self.serve(self.program.pid)
        paths = [f"{path}?{query}" for path in (*DEFAULTS, "/debug/pprof/profile") for query in ("seconds=10", "seconds=10&seconds=10", "seconds=14")]
        with concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
            answers = list(pool.map(lambda path: self.ask(path, headers=GO_HTTP), paths))
        self.assertEqual([answer.status for answer in answers], [200] * len(paths))

    def test_profile_types_are_those_they_know(self):
        self.serve(self.program.pid)
        memory = [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]
        waits = [("contentions", "count"), ("delay", "nanoseconds")]
        for path, types in zip(DEFAULTS, (memory, waits, waits)):
            self.assertEqual(self.assert_scraped(path).sample_types, types)

    def test_discovery_of_all_programs(self):
        other = self.start_obedient()
        self.serve(self.dir)
        answer = self.ask("/targets", headers={**GO_HTTP, "X-Prometheus-Refresh-Interval-Seconds": "15"})
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        groups = {group["labels"]["pid"]: group for group in json.loads(answer.body)}
        self.assertEqual(set(groups), {str(self.program.pid), str(other.pid)})
        for group in groups.values():
            self.assertEqual(group["targets"], [f"127.0.0.1:{self.port}"])
            self.assertTrue(all(isinstance(value, str) for value in group["labels"].values()))
            self.assertEqual(group["labels"]["service_name"], "obedient")
            for path in DEFAULTS:
                # Alloy puts them together, Parca by the rule in docs/fleet.md.
                self.assert_scraped(group["labels"]["__profile_path_prefix__"] + path)

    def test_discovery_of_one_program(self):
        self.serve(self.program.pid)
        (group,) = json.loads(self.ask("/targets").body)
        self.assertNotIn("__profile_path_prefix__", group["labels"])
        self.assert_scraped("/debug/pprof/allocs")

    def test_a_token_as_they_send_it(self):
        file = self.dir / "token"
        file.write_text(TOKEN)
        self.serve(self.dir, "--token", file)
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        self.assertEqual(self.ask("/targets").status, 401)
        self.assertEqual(self.ask("/targets", headers=bearer).status, 200)
        self.assert_scraped(f"/{self.program.pid}/debug/pprof/allocs", headers=bearer)

    def test_what_is_not_there_says_so(self):
        self.serve(self.program.pid)
        for path in ("/debug/pprof/delta_heap", "/debug/pprof/delta_block", "/debug/pprof/delta_mutex"):
            self.assertIn(path.rpartition("/")[2], FLEET)
            self.assert_refused(self.ask(path), 404, "there are allocs, block")
        self.assert_refused(self.ask("/debug/fgprof?seconds=14"), 404, "/debug/pprof/")


if __name__ == "__main__":
    harness.main()
