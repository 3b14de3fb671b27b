# SPDX-License-Identifier: Apache-2.0
"""`mprof threads` shows every thread once, where it stands, what it waits for and who holds that;
and the program does not notice."""

import pathlib
import re
import signal
import subprocess
import time

import harness
from pprof import Profile

# name -> what its heading begins with, and the function it stands in
KINDS = {
    "holder": (r"sleep, ", "hold_locks"),
    "waiter-1": (r"mutex lock, \d.*, for g_mutex, held by \d+ \"holder\"", "take_mutex"),
    "waiter-2": (r"mutex lock, \d.*, for g_mutex, held by \d+ \"holder\"", "take_mutex"),
    "reader": (r"rwlock read lock, \d.*, for g_rwlock, held by \d+ \"holder\"", "read_rwlock"),
    "cond": (r"cond wait, \d.*, for g_cond$", "await_condition"),
    "semaphore": (r"semaphore, \d.*, for g_semaphore$", "await_semaphore"),
    "sleeper": (r"sleep, \d", "sleep_long"),
    "poller": (r"poll, \d", "poll_pipe"),
    "epoller": (r"poll, \d", "epoll_pipe"),
    "selecter": (r"poll, \d", "select_pipe"),
    "blocked read": (r"sleeping$", "read_pipe"),
    "spinner": (r"running$", "compute"),
}


class Paragraph:
    def __init__(self, text):
        heading = re.match(r'thread (\d+) "(.*)" \[(.*)\]:$', text.split("\n")[0])
        self.tid, self.name, self.state = int(heading[1]), heading[2], heading[3]
        self.text = text


def paragraphs(text):
    return [Paragraph(part.strip()) for part in text.split("\n\n")[1:]]


class Threads(harness.Case):
    def start(self, *args, env=None):
        process = self.start_under(*args, env=env, rate=None, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(process.stdout.readline(), b"ready\n")
        return process

    def end(self, process):
        process.stdin.close()
        self.assertEqual(process.wait(timeout=harness.TIMEOUT_S), 0)

    def stop(self, process):
        """Returns when each thread has stopped; the signal alone is only sent by then."""
        process.send_signal(signal.SIGSTOP)
        tasks = pathlib.Path(f"/proc/{process.pid}/task")
        all_stopped = lambda: all("State:\tT" in (task / "status").read_text() for task in tasks.iterdir())
        self.wait_for(all_stopped, "each thread is stopped")

    def threads(self, process, *options):
        return self.mprof_ok("threads", process.pid, *options).stdout

    def kinds(self):
        return self.start(harness.target("thread_states"), "kinds")

    def check_kinds(self, text):
        by_name = {p.name: p for p in paragraphs(text)}
        self.assertEqual(set(by_name), {*KINDS, "deaf", "thread_states"})
        for name, (state, function) in KINDS.items():
            with self.subTest(name):
                self.assertRegex(by_name[name].state, "^" + state)
                self.assertRegex(by_name[name].text, rf"\b{function}\n\t\S*/thread_states\.cc:\d+\n")
                self.assertRegex(by_name[name].text, r"created by .*start_kinds")
        self.assertIn("(no stack: it blocks signal 23)", by_name["deaf"].text)
        self.assertIn("until_input_ends", by_name["thread_states"].text)

    def test_every_way_to_wait_is_shown_with_its_stack(self):
        process = self.kinds()
        text = self.threads(process)
        self.assertRegex(text, r"^# threads were asked one by one")
        self.check_kinds(text)
        self.end(process)

    def test_a_rendezvous_says_so(self):
        process = self.kinds()
        text = self.threads(process, "--rendezvous")
        self.assertRegex(text, r"^# rendezvous: \d+ threads stood still at one moment")
        self.check_kinds(text)
        self.end(process)

    def test_parked_threads_answer_when_asked_all_the_same(self):
        process = self.kinds()
        by_name = {p.name: p for p in paragraphs(self.threads(process, "--interrupt"))}
        self.assertRegex(by_name["poller"].text, r"\bpoll_pipe\n")
        self.assertRegex(by_name["sleeper"].text, r"\bsleep_long\n")
        self.assertRegex(self.threads(process, "--interrupt"), r"\b0 read from outside")
        # The poller polls on: it gets no EINTR.
        self.assertRegex({p.name: p for p in paragraphs(self.threads(process))}["poller"].state, "^poll, ")
        self.end(process)

    def test_the_profile_opens_in_go_pprof(self):
        process = self.kinds()
        file = self.dir / "threads.pb.gz"
        self.mprof_ok("threads", process.pid, "-o", file)
        profile = Profile(file)
        self.assertEqual(profile.sample_types, [("threads", "count")])
        self.assertEqual(sum(s.values["threads"] for s in profile.samples), len(KINDS) + 2)
        self.assertEqual({s.labels["thread"] for s in profile.samples}, {*KINDS, "deaf", "thread_states"})
        tags = self.go_pprof("-tags", file)
        self.assertRegex(tags, r"2\.0 \(14\.29%\): mutex lock")
        self.assert_no_own_frames(profile)
        self.end(process)

    def test_the_text_opens_in_go_pprof(self):
        process = self.kinds()
        file = self.dir / "threads.txt"
        text = self.threads(process, "--debug", "1")
        self.assertRegex(text, rf"^thread profile: total {len(KINDS) + 2}\n")
        self.assertIn('"state":"mutex lock"', text)
        self.assertRegex(text, r"\n# threads were asked one by one")
        file.write_text(text)
        self.assertIn(f" 100% of {len(KINDS) + 2} total", self.go_pprof("-top", file))
        self.end(process)

    def test_five_hundred_threads_are_all_there_once(self):
        process = self.start(harness.target("thread_states"), "many", "500")
        for options in ([], ["--rendezvous"]):
            took_s = []
            for _ in range(3):
                begin = time.monotonic()
                text = self.threads(process, "--symbols", "names", *options)
                took_s.append(time.monotonic() - begin)
            found = paragraphs(text)
            self.assertEqual(sorted(p.name for p in found), sorted(["thread_states"] + [f"many-{i}" for i in range(500)]))
            self.assertEqual(len({p.tid for p in found}), 501)
            self.assertEqual(re.findall(r"\(no stack.*", text), [], options)
            self.assertLess(min(took_s), 1, options)
        self.end(process)

    def test_nothing_is_interrupted(self):
        for options in ([], ["--rendezvous"], ["--interrupt"]):
            with self.subTest(options):
                process = self.start(harness.target("eintr"), "5", env={"MPROF_CPU_HZ": "1000"})
                answered = 0
                for _ in range(20):
                    text = self.threads(process, "--symbols", "none", *options)
                    self.assertEqual(len(paragraphs(text)), 19)
                    answered += int(re.search(r"(\d+) stacks answered", text)[1])
                rest = process.stdout.read()
                self.assertEqual((process.wait(), rest), (0, b"clean\n"), options)
                if "--interrupt" in options:
                    self.assertGreater(answered, 15 * 20)

    def test_the_program_s_own_signals_interrupt_as_ever(self):
        plain = self.run_plain(harness.target("eintr"), "own")
        self.assertEqual(plain.stdout, "clean\n", plain)
        self.assert_same_behaviour(plain, self.run_under(harness.target("eintr"), "own"))

    def test_a_thread_is_cancelled_where_it_was(self):
        plain = self.run_plain(harness.target("eintr"), "cancel")
        self.assertGreater(plain.stdout.count(": cancelled"), 10, plain)
        self.assert_same_behaviour(plain, self.run_under(harness.target("eintr"), "cancel"))

    def test_a_thread_that_jumped_out_of_a_call_answers_after_its_next_one(self):
        process = self.start(harness.target("eintr"), "jump")
        (main,) = [p for p in paragraphs(self.threads(process)) if p.tid == process.pid]
        self.assertEqual(main.state, "running")
        self.assertRegex(main.text, r"\bcompute_after_jump\n")
        self.end(process)

    def test_an_ended_process_has_its_last_waits(self):
        process = self.kinds()
        process.send_signal(signal.SIGKILL)
        process.wait()
        text = self.mprof_ok("threads", self.only_dump()).stdout
        self.assertRegex(text, r"^# the process has ended")
        by_name = {p.name: p for p in paragraphs(text)}
        self.assertRegex(by_name["waiter-1"].state, r"^mutex lock, .*, for g_mutex$")
        self.assertRegex(by_name["waiter-1"].text, r"\btake_mutex\n")
        self.assertRegex(by_name["spinner"].text, r"\(no stack: the process has ended")

    def test_a_stopped_process_is_listed_in_time(self):
        process = self.kinds()
        self.stop(process)
        text = self.threads(process)
        by_name = {p.name: p for p in paragraphs(text)}
        self.assertEqual(set(by_name), {*KINDS, "deaf", "thread_states"})
        self.assertEqual(by_name["spinner"].state, "stopped")
        self.assertIn("(no stack: it is stopped)", by_name["spinner"].text)
        self.assertRegex(by_name["poller"].text, r"\bpoll_pipe\n")
        self.assertRegex(by_name["waiter-1"].text, r"take_mutex(.*\n)+\(as it was when this wait began")
        # Linux itself ends an epoll_wait that was stopped; all others go on.
        process.send_signal(signal.SIGCONT)
        after = {p.name: p for p in paragraphs(self.threads(process))}
        self.assertEqual(set(by_name) - set(after), {"epoller"})
        self.assertRegex(after["spinner"].text, r"\bcompute\n")
        self.end(process)


if __name__ == "__main__":
    harness.main()
