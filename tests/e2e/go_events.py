# SPDX-License-Identifier: Apache-2.0
"""Reads a trace in Go's form (1.19) by hand, so that the tests trust no writer of the project's own."""

from collections import namedtuple

from pprof import varint

HEADER = b"go 1.19 trace\0\0\0"

# Of the types that a trace of this project has: name, whether the stack is the last value.
TYPES = {
    4: ("Gomaxprocs", True), 5: ("ProcStart", False), 6: ("ProcStop", False),
    7: ("GCStart", True), 8: ("GCDone", False), 9: ("STWStart", False), 10: ("STWDone", False),
    11: ("SweepStart", True), 12: ("SweepDone", False), 13: ("GoCreate", True),
    14: ("GoStart", False), 15: ("GoEnd", False), 16: ("GoStop", True), 17: ("GoSched", True),
    18: ("GoPreempt", True), 19: ("GoSleep", True), 20: ("GoBlock", True), 21: ("GoUnblock", True),
    22: ("GoBlockSend", True), 23: ("GoBlockRecv", True), 24: ("GoBlockSelect", True),
    25: ("GoBlockSync", True), 26: ("GoBlockCond", True), 27: ("GoBlockNet", True),
    28: ("GoSysCall", True), 29: ("GoSysExit", False), 30: ("GoSysBlock", False),
    31: ("GoWaiting", False), 32: ("GoInSyscall", False), 33: ("HeapAlloc", False),
    34: ("HeapGoal", False), 41: ("GoStartLabel", False), 42: ("GoBlockGC", True),
    43: ("MarkAssistStart", True), 44: ("MarkAssistDone", False), 45: ("UserTaskCreate", True),
    46: ("UserTaskEnd", True), 47: ("UserRegion", True), 48: ("UserLog", True),
    49: ("CPUSample", True),
}  # fmt: skip
BATCH, FREQUENCY, STACK, STRING, TIMERS, LOG = 1, 2, 3, 37, 35, 48
STARTS = ("GoStart", "GoStartLabel")
LEAVES = ("GoEnd", "GoStop", "GoSched", "GoPreempt", "GoSysBlock")

Frame = namedtuple("Frame", "function file line pc")
# `g`: the thread that was on core `p`. `values`: without time and stack; `text`: of a log.
Event = namedtuple("Event", "ns p g name values frames text")
# `waker`: 0 is the kernel. Times in nanoseconds.
Wait = namedtuple("Wait", "g name begin end frames waker waker_frames")


def clears(name):
    return name in LEAVES or name == "GoSleep" or name.startswith("GoBlock")


class Bytes:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def varint(self):
        value, self.at = varint(self.data, self.at)
        return value

    def take(self, count):
        self.at += count
        if self.at > len(self.data):
            raise ValueError("truncated trace")
        return self.data[self.at - count : self.at]


class GoEvents:
    """`events`: of each core in its order, one core after the other."""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        if data[:16] != HEADER:
            raise ValueError(f"header {data[:16]}")
        self.strings = {0: ""}
        self.stacks = {0: []}
        self.frequency = None
        self.raw = {}  # by core: (ticks, type, values, text)
        self._read(Bytes(data[16:]))
        if not self.frequency:
            raise ValueError("no frequency")
        self.events = [event for p in sorted(self.raw) for event in self._of_core(p)]

    def _read(self, data):
        core = ticks = None
        while data.at < len(data.data):
            head = data.take(1)[0]
            kind, count = head & 0x3F, (head >> 6) + 1
            if kind == STRING:
                number = data.varint()
                self.strings[number] = data.take(data.varint()).decode(errors="replace")
                continue
            values = self._values(data, count)
            if kind == BATCH:
                core, ticks = values
            elif kind == FREQUENCY:
                (self.frequency,) = values
            elif kind == STACK:
                self.stacks[values[0]] = [tuple(values[i : i + 4]) for i in range(2, len(values), 4)]
            elif kind != TIMERS:
                ticks += values[0]
                text = data.take(data.varint()).decode(errors="replace") if kind == LOG else ""
                self.raw.setdefault(core, []).append((ticks, kind, values[1:], text))

    @staticmethod
    def _values(data, count):
        if count < 4:
            return [data.varint() for _ in range(count)]
        body = Bytes(data.take(data.varint()))
        values = []
        while body.at < len(body.data):
            values.append(body.varint())
        return values

    def frames(self, stack):
        return [
            Frame(self.strings[function], self.strings[file], line, pc)
            for pc, function, file, line in self.stacks.get(stack, [])
        ]

    def _of_core(self, p):
        g = 0
        for ticks, kind, values, text in self.raw[p]:
            name, has_stack = TYPES[kind]
            frames = self.frames(values[-1]) if has_stack else []
            values = values[:-1] if has_stack else values
            if name in STARTS:
                g = values[0]
            yield Event(ticks * 1000000000 // self.frequency, p, g, name, values, frames, text)
            if clears(name):
                g = 0

    def named(self, name):
        return [event for event in self.events if event.name == name]

    def below(self, name, function):
        """Events of a name whose stack has the function."""
        return [e for e in self.named(name) if any(f.function == function for f in e.frames)]

    def waits(self):
        """A wait that follows the start number n of a thread is ended by the unblock number n + 1."""
        begun, seq = {}, {}
        for event in self.events:
            if event.name in STARTS:
                seq[event.p] = event.values[1]
            elif event.name == "GoSleep" or event.name.startswith("GoBlock"):
                begun[event.g, seq[event.p] + 1] = event
        found = []
        for event in self.named("GoUnblock"):
            wait = begun.get((event.values[0], event.values[1]))
            if wait:
                found.append(Wait(wait.g, wait.name, wait.ns, event.ns, wait.frames, event.g, event.frames))
        return found
