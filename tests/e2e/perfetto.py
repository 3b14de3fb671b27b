# SPDX-License-Identifier: Apache-2.0
"""Reads a Perfetto trace by hand and checks it against the published schema and its rules.

`perfetto.py FILE` prints what its threads did as JSON, with --events every event, or the first rule
that FILE breaks. It trusts nothing of the project's own: the schema below is that of
https://github.com/google/perfetto/tree/main/protos/perfetto/trace, less what mprof does not write.
"""

import json
import struct
import sys
import zlib
from collections import defaultdict, namedtuple

from pprof import signed, wire_fields

VARINT, FIXED64, BYTES = 0, 1, 2

# Message: {number: (name, type, repeated)}. A type that is no scalar is a message of this table.
# Repeated numbers are not packed in any of these.
ONE, MANY = False, True
SCHEMA = {
    "Trace": {1: ("packet", "TracePacket", MANY)},
    "TracePacket": {
        6: ("clock_snapshot", "ClockSnapshot", ONE),
        8: ("timestamp", "uint64", ONE),
        10: ("trusted_packet_sequence_id", "uint32", ONE),
        11: ("track_event", "TrackEvent", ONE),
        12: ("interned_data", "InternedData", ONE),
        13: ("sequence_flags", "uint32", ONE),
        50: ("compressed_packets", "bytes", ONE),
        58: ("timestamp_clock_id", "uint32", ONE),
        59: ("trace_packet_defaults", "TracePacketDefaults", ONE),
        60: ("track_descriptor", "TrackDescriptor", ONE),
        87: ("first_packet_on_sequence", "bool", ONE),
    },
    "ClockSnapshot": {
        1: ("clocks", "Clock", MANY),
        2: ("primary_trace_clock", "enum", ONE),
    },
    "Clock": {1: ("clock_id", "uint32", ONE), 2: ("timestamp", "uint64", ONE)},
    "TracePacketDefaults": {58: ("timestamp_clock_id", "uint32", ONE)},
    "InternedData": {
        1: ("event_categories", "EventCategory", MANY),
        2: ("event_names", "EventName", MANY),
        3: ("debug_annotation_names", "DebugAnnotationName", MANY),
        5: ("function_names", "InternedString", MANY),
        6: ("frames", "Frame", MANY),
        7: ("callstacks", "Callstack", MANY),
        18: ("source_paths", "InternedString", MANY),
        29: ("debug_annotation_string_values", "InternedString", MANY),
    },
    "EventCategory": {1: ("iid", "uint64", ONE), 2: ("name", "string", ONE)},
    "EventName": {1: ("iid", "uint64", ONE), 2: ("name", "string", ONE)},
    "DebugAnnotationName": {1: ("iid", "uint64", ONE), 2: ("name", "string", ONE)},
    "InternedString": {1: ("iid", "uint64", ONE), 2: ("str", "bytes", ONE)},
    "Frame": {
        1: ("iid", "uint64", ONE),
        2: ("function_name_id", "uint64", ONE),
        5: ("source_path_iid", "uint64", ONE),
        6: ("line_number", "uint32", ONE),
    },
    "Callstack": {1: ("iid", "uint64", ONE), 2: ("frame_ids", "uint64", MANY)},
    "TrackDescriptor": {
        1: ("uuid", "uint64", ONE),
        2: ("name", "string", ONE),
        3: ("process", "ProcessDescriptor", ONE),
        4: ("thread", "ThreadDescriptor", ONE),
        5: ("parent_uuid", "uint64", ONE),
        8: ("counter", "CounterDescriptor", ONE),
        11: ("child_ordering", "enum", ONE),
        12: ("sibling_order_rank", "int32", ONE),
    },
    "ProcessDescriptor": {
        1: ("pid", "int32", ONE),
        2: ("cmdline", "string", MANY),
        6: ("process_name", "string", ONE),
        7: ("start_timestamp_ns", "int64", ONE),
    },
    "ThreadDescriptor": {
        1: ("pid", "int32", ONE),
        2: ("tid", "int64", ONE),
        5: ("thread_name", "string", ONE),
    },
    "CounterDescriptor": {3: ("unit", "enum", ONE)},
    "TrackEvent": {
        3: ("category_iids", "uint64", MANY),
        4: ("debug_annotations", "DebugAnnotation", MANY),
        9: ("type", "enum", ONE),
        10: ("name_iid", "uint64", ONE),
        11: ("track_uuid", "uint64", ONE),
        23: ("name", "string", ONE),
        30: ("counter_value", "int64", ONE),
        47: ("flow_ids", "fixed64", MANY),
        48: ("terminating_flow_ids", "fixed64", MANY),
        56: ("callstack_iid", "uint64", ONE),
    },
    "DebugAnnotation": {
        1: ("name_iid", "uint64", ONE),
        2: ("bool_value", "bool", ONE),
        3: ("uint_value", "uint64", ONE),
        7: ("pointer_value", "uint64", ONE),
        17: ("string_value_iid", "uint64", ONE),
    },
}
# Of which a message has at most one.
ONE_OF = {
    "TracePacket": [{"clock_snapshot", "track_event", "track_descriptor", "compressed_packets"}],
    "TrackEvent": [{"name_iid", "name"}],
    "DebugAnnotation": [{"bool_value", "uint_value", "pointer_value", "string_value_iid"}],
}
SLICE_BEGIN, SLICE_END, INSTANT, COUNTER = 1, 2, 3, 4
CLEARED, NEEDED = 1, 2
REALTIME, MONOTONIC = 1, 3
LARGEST = {"uint32": (1 << 32) - 1, "bool": 1, "enum": (1 << 31) - 1}


class BrokenTrace(Exception):
    pass


def require(condition, complaint):
    if not condition:
        raise BrokenTrace(complaint)


def scalar(kind, wire, value, where):
    wanted = {"fixed64": FIXED64, "string": BYTES, "bytes": BYTES}.get(kind, VARINT)
    require(wire == wanted, f"{where}: wire type {wire}")
    if kind == "fixed64":
        return struct.unpack("<Q", value)[0]
    if kind == "string":
        return value.decode()
    if kind in ("int32", "int64"):
        return signed(value)
    require(kind == "bytes" or value <= LARGEST.get(kind, (1 << 64) - 1), f"{where}: {value}")
    return value


def decode(message, data):
    """A message as {field name: value}; only what the schema has, in the types that it has."""
    result = {}
    for number, wire, value in wire_fields(data):
        require(number in SCHEMA[message], f"{message} has no field {number}")
        name, kind, is_repeated = SCHEMA[message][number]
        where = f"{message}.{name}"
        if kind in SCHEMA:
            require(wire == BYTES, f"{where}: wire type {wire}")
            value = decode(kind, value)
        else:
            value = scalar(kind, wire, value, where)
        if is_repeated:
            result.setdefault(name, []).append(value)
        else:
            require(name not in result, f"{where} is there twice")
            result[name] = value
    for names in ONE_OF.get(message, []):
        require(len(names & result.keys()) <= 1, f"{message} has {sorted(names & result.keys())}")
    return result


class Interned:
    """What one packet describes and later ones, or the same, name by number."""

    def __init__(self):
        self.tables = defaultdict(dict)

    def take(self, data):
        for table, entries in data.items():
            for entry in entries:
                number = entry["iid"]
                require(number != 0, f"{table}: 0 is no id")
                require(number not in self.tables[table], f"{table} {number} is described twice")
                self.tables[table][number] = entry
        for stack in data.get("callstacks", []):
            self.frames(stack["iid"])

    def text(self, table, number):
        require(number in self.tables[table], f"{table} {number} is not described")
        entry = self.tables[table][number]
        text = entry.get("str", entry.get("name", ""))
        return text.decode() if isinstance(text, bytes) else text

    def frames(self, number):
        """Leaf first: (function, file, line)."""
        require(number in self.tables["callstacks"], f"stack {number} is not described")
        result = []
        for frame_id in reversed(self.tables["callstacks"][number]["frame_ids"]):
            require(frame_id in self.tables["frames"], f"frame {frame_id} is not described")
            frame = self.tables["frames"][frame_id]
            path = frame.get("source_path_iid")
            result.append(
                (
                    self.text("function_names", frame["function_name_id"]),
                    self.text("source_paths", path) if path else "",
                    frame.get("line_number", 0),
                )
            )
        return result


class Track:
    def __init__(self, descriptor):
        self.uuid = descriptor["uuid"]
        self.parent = descriptor.get("parent_uuid")
        self.process = descriptor.get("process")
        self.thread = descriptor.get("thread")
        self.is_counter = "counter" in descriptor
        self.name = descriptor.get("name")
        self.rank = descriptor.get("sibling_order_rank", 0)
        self.open = []  # slices


class Event:
    """A slice, an instant, or a value of a counter."""

    def __init__(self, track, ns, name, category, notes, stack, flows):
        self.track, self.ns, self.name, self.category = track, ns, name, category
        self.notes, self.stack, self.flows = notes, stack, flows
        self.is_outermost = True  # of its name, on its track
        self.end_ns = None
        self.value = None

    @property
    def length_ns(self):
        return self.end_ns - self.ns


class Trace:
    """A trace that obeys every rule; else BrokenTrace."""

    def __init__(self, data):
        self.interned = Interned()
        self.tracks = {}
        self.slices, self.instants, self.values = [], [], []
        self.by_track = defaultdict(list)  # (parent, name): slices
        self.clocks = {}
        self.sequence = None
        self.last_ns = 0
        self.flows = {}  # id: the event that it begins at
        self.arrows = []  # (event, event)
        self._packets(data)
        require(self.clocks, "no packet")
        for track in self.tracks.values():
            names = [event.name for event in track.open]
            require(not track.open, f"track {track.name}: {names} do not end")
        require(not self.flows, f"{len(self.flows)} flows do not end")

    def _packets(self, data):
        for number, wire, packet in wire_fields(data):
            require((number, wire) == (1, BYTES), f"Trace has field {number}, wire type {wire}")
            packet = decode("TracePacket", packet)
            if "compressed_packets" not in packet:
                self._packet(packet)
                continue
            require(len(packet) == 1, f"a bundle with {sorted(packet)}")
            require(len(packet["compressed_packets"]) < 512 * 1024, "a bundle that is too large")
            self._packets(zlib.decompress(packet["compressed_packets"]))

    def _packet(self, packet):
        flags = packet.get("sequence_flags", 0)
        if self.sequence is None:
            return self._first(packet, flags)
        require(packet.get("trusted_packet_sequence_id") == self.sequence, "another sequence")
        require(flags == NEEDED, f"flags {flags}")
        require("trace_packet_defaults" not in packet, "other defaults")
        self.interned.take(packet.get("interned_data", {}))
        if "track_descriptor" in packet:
            return self._track(packet["track_descriptor"])
        require("track_event" in packet, f"a packet of {sorted(packet)}")
        require(packet["timestamp"] >= self.last_ns, "time goes back")
        self.last_ns = packet["timestamp"]
        self._event(packet["track_event"], self.last_ns)

    def _first(self, packet, flags):
        self.sequence = packet["trusted_packet_sequence_id"]
        require(self.sequence != 0, "0 is no sequence")
        require(flags == CLEARED and packet["first_packet_on_sequence"], "a sequence without begin")
        require(packet["trace_packet_defaults"]["timestamp_clock_id"] == MONOTONIC, "other clock")
        snapshot = packet["clock_snapshot"]
        require(snapshot["primary_trace_clock"] == MONOTONIC, "other clock")
        self.clocks = {clock["clock_id"]: clock["timestamp"] for clock in snapshot["clocks"]}
        require(self.clocks.keys() == {REALTIME, MONOTONIC}, f"clocks {sorted(self.clocks)}")
        self.last_ns = self.clocks[MONOTONIC]

    def _track(self, descriptor):
        track = Track(descriptor)
        require(track.uuid != 0 and track.uuid not in self.tracks, f"track {track.uuid} again")
        if track.process:
            require(not any(t.process for t in self.tracks.values()), "two processes")
        elif track.thread:
            require(track.thread["pid"] == self.process.process["pid"], "thread of no process")
        else:
            require(track.name, f"track {track.uuid} has no name")
            require(track.parent in self.tracks, f"track {track.name} below an unknown one")
        self.tracks[track.uuid] = track

    @property
    def process(self):
        return next(t for t in self.tracks.values() if t.process)

    def _event(self, data, ns):
        require(data.get("track_uuid") in self.tracks, f"an unknown track: {data}")
        track = self.tracks[data["track_uuid"]]
        kind = data["type"]
        require((kind == COUNTER) == track.is_counter, f"type {kind} on track {track.name}")
        require((kind == COUNTER) == ("counter_value" in data), f"a value without counter: {data}")
        event = self._make(data, track, ns)
        if kind == SLICE_BEGIN:
            event.is_outermost = all(outer.name != event.name for outer in track.open)
            track.open.append(event)
        elif kind == SLICE_END:
            require(track.open, f"track {track.name}: an end without begin")
            begun = track.open.pop()
            begun.end_ns = ns
            begun.notes.update(event.notes)
            self.slices.append(begun)
            self.by_track[track.parent, track.name].append(begun)
        elif kind == COUNTER:
            event.value = data["counter_value"]
            self.values.append(event)
        else:
            require(kind == INSTANT, f"type {kind}")
            self.instants.append(event)
        self._arrows(event)

    def _make(self, data, track, ns):
        name = data.get("name")
        if "name_iid" in data:
            name = self.interned.text("event_names", data["name_iid"])
        if data["type"] in (SLICE_BEGIN, INSTANT):
            require(name is not None, f"an event without name on track {track.name}")
            require(data.get("category_iids"), f"{name} has no category")
        categories = [
            self.interned.text("event_categories", i) for i in data.get("category_iids", [])
        ]
        notes = dict(self._note(note) for note in data.get("debug_annotations", []))
        stack = []
        if "callstack_iid" in data:
            stack = self.interned.frames(data["callstack_iid"])
            require(stack, "a stack without frames")
        flows = (data.get("flow_ids", []), data.get("terminating_flow_ids", []))
        return Event(track, ns, name, "".join(categories), notes, stack, flows)

    def _note(self, note):
        name = self.interned.text("debug_annotation_names", note["name_iid"])
        if "string_value_iid" in note:
            table = "debug_annotation_string_values"
            return name, self.interned.text(table, note["string_value_iid"])
        values = [value for key, value in note.items() if key != "name_iid"]
        require(len(values) == 1, f"note {name} has no value")
        return name, values[0]

    def _arrows(self, event):
        for flow in event.flows[0]:
            require(flow not in self.flows, f"flow {flow} begins twice")
            self.flows[flow] = event
        for flow in event.flows[1]:
            require(flow in self.flows, f"flow {flow} ends without begin")
            self.arrows.append((self.flows.pop(flow), event))

    # What is in it.

    def threads(self):
        return [track for track in self.tracks.values() if track.thread]

    def lane(self, thread, name):
        """Slices of one of the tracks of a thread, in the order of their ends."""
        return self.by_track[thread.uuid, name]

    def cores(self):
        """{core: its slices}."""
        group = next((t for t in self.tracks.values() if t.name == "cores"), None)
        result = defaultdict(list)
        for piece in self.slices:
            if group and piece.track.parent == group.uuid:
                result[int(piece.track.name.removeprefix("core "))].append(piece)
        return dict(result)


Tally = namedtuple("Tally", "count total_ns longest_ns")


def tally(slices):
    lengths = [piece.length_ns for piece in slices]
    return Tally(len(lengths), sum(lengths), max(lengths, default=0))._asdict()


def by(key, slices):
    groups = defaultdict(list)
    for piece in slices:
        groups[key(piece)].append(piece)
    return {name: tally(group) for name, group in sorted(groups.items())}


def times_of(trace, thread):
    """As in a thread of `mprof trace --format json-summary`."""
    states = trace.lane(thread, "state")
    blocked = [piece for piece in states if piece.category == "blocked"]
    for previous, piece in zip(states, states[1:]):
        require(previous.end_ns == piece.ns, f"a gap or overlap in {thread.thread}")
    state = by(lambda piece: piece.category, states)
    nothing = tally([])
    return {
        "tid": thread.thread["tid"],
        "name": thread.thread["thread_name"],
        "running": state.get("running", nothing),
        "runnable": state.get("runnable", nothing),
        "blocked": by(lambda piece: piece.notes["wait"], blocked),
        "in_long_calls": state.get("in call", nothing),
        "not_recorded": state.get("not recorded", nothing),
        "calls": by(lambda piece: piece.name, trace.lane(thread, "system calls")),
    }


def check_cores(trace):
    """A core has one thread at a time, and all the time that threads run."""
    on_cores = 0
    for core, pieces in trace.cores().items():
        for previous, piece in zip(pieces, pieces[1:]):
            require(previous.end_ns <= piece.ns, f"core {core} has two threads at once")
        on_cores += sum(piece.length_ns for piece in pieces)
    running = [s.length_ns for s in trace.slices if s.category == "running"]
    require(on_cores == sum(running), f"threads run {sum(running)} ns, on cores {on_cores} ns")


def read(path):
    with open(path, "rb") as file:
        trace = Trace(file.read())
    check_cores(trace)
    return trace


def overview(trace):
    instants = defaultdict(int)
    for event in trace.instants:
        instants[event.category] += 1
    outermost = [piece for piece in trace.slices if piece.is_outermost]
    of = lambda category: [piece for piece in outermost if piece.category == category]
    return {
        "threads": [times_of(trace, thread) for thread in trace.threads()],
        "regions": by(lambda piece: piece.name, of("region")),
        "tasks": by(lambda piece: piece.name, of("task")),
        "instants": instants,
        "arrows": len(trace.arrows),
        "described": sum(map(len, trace.interned.tables.values())) + len(trace.tracks),
    }


def path_of(trace, track):
    """Names from the outermost track to this one."""
    if track.process:
        return [track.process["process_name"]]
    if track.thread:
        return [track.thread["tid"]]
    return path_of(trace, trace.tracks[track.parent]) + [track.name]


def event_list(trace):
    """Everything that is in it, with times since its begin."""
    start_ns = trace.clocks[MONOTONIC]
    events = sorted(trace.slices + trace.instants + trace.values, key=lambda event: event.ns)
    result = []
    for event in events:
        row = {
            "track": path_of(trace, event.track),
            "ns": event.ns - start_ns,
            "name": event.name,
            "category": event.category,
            "notes": event.notes,
            "stack": [f"{function} {file}:{line}" for function, file, line in event.stack],
            "from": [
                path_of(trace, source.track) for source, target in trace.arrows if target is event
            ],
        }
        if event.end_ns is not None:
            row["length_ns"] = event.length_ns
        if event.value is not None:
            row["value"] = event.value
        result.append(row)
    return result


def main():
    path, all_events = sys.argv[1], "--events" in sys.argv
    try:
        trace = read(path)
        print(json.dumps(event_list(trace) if all_events else overview(trace)))
    except BrokenTrace as broken:
        sys.exit(f"{path}: {broken}")


if __name__ == "__main__":
    main()
