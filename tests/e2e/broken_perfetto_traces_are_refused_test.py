# SPDX-License-Identifier: Apache-2.0
"""perfetto.py is the judge of other tests: it takes a small trace made by hand, and names what is
wrong with each of its broken copies."""

import struct
import unittest
import zlib

import perfetto
from perfetto import BrokenTrace, Trace


def varint(value):
    out = bytearray()
    value &= (1 << 64) - 1
    while value >= 0x80:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes(out) + bytes([value])


def message(*fields):
    """Of (number, value): bytes and texts, fixed64 as ("fixed", value), or numbers."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        elif isinstance(value, tuple):
            out += varint(number << 3 | 1) + struct.pack("<Q", value[1])
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def packet(*fields, flags=2, sequence=7):
    return [(10, sequence), (13, flags), *fields]


def interned(*fields):
    return 12, message(*fields)


def track(*fields):
    return packet((60, message(*fields)))


def event(ns, kind, uuid, *fields, new=()):
    packet_of = packet((8, ns), (11, message((9, kind), (11, uuid), *fields)))
    return packet_of + [interned(*new)] if new else packet_of


BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4
CLOCKS = message((1, message((1, 3), (2, 1000))), (1, message((1, 1), (2, 5000))), (2, 3))
NAMED = [(3, 1), (10, 1)]  # category, name
NEW_NAMES = [(1, message((1, 1), (2, "state"))), (2, message((1, 1), (2, "running")))]
NEW_STACK = [
    (5, message((1, 1), (2, "main"))),
    (6, message((1, 1), (2, 1))),
    (7, message((1, 4), (2, 1))),
]


def good():
    return {
        "first": packet((87, 1), (59, message((58, 3))), (6, CLOCKS), flags=1),
        "process": track((1, 1), (3, message((1, 42), (6, "program")))),
        "thread": track((1, 2), (4, message((1, 42), (2, 43), (5, "worker")))),
        "state": track((1, 3), (2, "state"), (5, 2)),
        "heap": track((1, 4), (2, "heap"), (5, 1), (8, message((3, 3)))),
        "begin": event(1010, BEGIN, 3, *NAMED, (47, ("fixed", 9)), new=NEW_NAMES),
        "count": event(1010, COUNTER, 4, (30, 77)),
        "inner": event(1020, BEGIN, 3, *NAMED, (56, 4), new=NEW_STACK),
        "end of inner": event(1030, END, 3),
        "end": event(1040, END, 3),
        "instant": event(1050, INSTANT, 3, *NAMED, (48, ("fixed", 9))),
    }


def bytes_of(packets):
    return b"".join(message((1, message(*fields))) for fields in packets.values())


def bundle(data):
    return message((1, message((50, zlib.compress(data)))))


class Test(unittest.TestCase):
    def assert_refused(self, complaint, **changes):
        packets = good()
        for name, fields in changes.items():
            name = name.replace("_", " ")
            self.assertIn(name, packets)
            if fields is None:
                del packets[name]
            else:
                packets[name] = fields
        with self.assertRaisesRegex(BrokenTrace, complaint):
            Trace(bytes_of(packets))

    def test_a_good_trace_is_read(self):
        trace = Trace(bytes_of(good()))
        self.assertEqual([piece.length_ns for piece in trace.slices], [10, 30])
        self.assertEqual(trace.slices[0].stack, [("main", "", 0)])
        self.assertEqual([value.value for value in trace.values], [77])
        self.assertEqual([(a.ns, b.ns) for a, b in trace.arrows], [(1010, 1050)])

    def test_packets_may_be_in_bundles(self):
        data = bytes_of(good())
        self.assertEqual(len(Trace(bundle(data)).slices), 2)
        with self.assertRaisesRegex(BrokenTrace, "a bundle with"):
            Trace(message((1, message((10, 7), (50, zlib.compress(data))))))

    def test_fields_are_those_of_the_schema(self):
        self.assert_refused("TrackEvent has no field 999", end=event(1040, END, 3, (999, 1)))
        self.assert_refused("uuid: wire type 2", heap=track((1, "4"), (2, "heap"), (5, 1)))
        self.assert_refused("type is there twice", end=event(1040, END, 3, (9, END)))
        self.assert_refused("sequence_flags: ", end=packet(*event(1040, END, 3)[2:], flags=1 << 40))
        # Packed, where the schema says one by one.
        self.assert_refused("category_iids: wire type 2", begin=event(1010, BEGIN, 3, (3, b"\1")))

    def test_packets_are_of_one_sequence_with_its_state(self):
        end = event(1040, END, 3)[2:]
        self.assert_refused("another sequence", end=packet(*end, sequence=8))
        self.assert_refused("flags 0", end=packet(*end, flags=0))
        self.assert_refused("flags 3", end=packet(*end, flags=3))
        self.assert_refused("without begin", first=packet((87, 1), (6, CLOCKS), flags=2))
        self.assert_refused("time goes back", end=event(1029, END, 3))
        self.assert_refused("time goes back", begin=event(999, BEGIN, 3, *NAMED, new=NEW_NAMES))

    def test_what_is_named_by_number_is_described_before_and_once(self):
        nothing_new = event(1010, BEGIN, 3, *NAMED)
        self.assert_refused("event_names 1 is not described", begin=nothing_new)
        self.assert_refused("stack 5 is not", inner=event(1020, BEGIN, 3, *NAMED, (56, 5)))
        again = event(1050, INSTANT, 3, *NAMED, new=NEW_NAMES[:1])
        self.assert_refused("event_categories 1 is described twice", instant=again)
        zero = event(1050, INSTANT, 3, *NAMED, new=[(2, message((1, 0), (2, "x")))])
        self.assert_refused("0 is no id", instant=zero)
        no_frame = event(1020, BEGIN, 3, *NAMED, (56, 4), new=NEW_STACK[2:])
        self.assert_refused("frame 1 is not described", inner=no_frame)

    def test_every_track_is_described_before_and_once(self):
        self.assert_refused("an unknown track", end=event(1040, END, 5))
        self.assert_refused("track 3 again", heap=track((1, 3), (2, "heap"), (5, 1)))
        self.assert_refused("below an unknown one", state=track((1, 3), (2, "state"), (5, 6)))
        self.assert_refused("has no name", state=track((1, 3), (5, 2)))
        self.assert_refused("thread of no process", thread=track((1, 2), (4, message((1, 4)))))
        self.assert_refused("type 4 on track state", count=event(1010, COUNTER, 3, (30, 1)))
        self.assert_refused("type 2 on track heap", count=event(1010, END, 4))

    def test_slices_begin_and_end(self):
        self.assert_refused("do not end", end=None)
        self.assert_refused("an end without begin", inner=None)
        self.assert_refused("without name", inner=event(1020, BEGIN, 3))
        self.assert_refused("has no category", inner=event(1020, BEGIN, 3, (10, 1)))

    def test_flows_begin_and_end(self):
        self.assert_refused("1 flows do not end", instant=None)
        other = event(1050, INSTANT, 3, *NAMED, (48, ("fixed", 8)))
        self.assert_refused("ends without begin", instant=other)
        self.assert_refused("begins twice", inner=event(1020, BEGIN, 3, *NAMED, (47, ("fixed", 9))))

    def test_a_state_follows_the_other_without_a_gap(self):
        packets = good()
        packets["later"] = event(1060, BEGIN, 3, *NAMED)
        packets["end of later"] = event(1070, END, 3)
        for name in ("inner", "end of inner"):
            del packets[name]
        trace = Trace(bytes_of(packets))
        with self.assertRaisesRegex(BrokenTrace, "a gap or overlap"):
            perfetto.times_of(trace, trace.threads()[0])


if __name__ == "__main__":
    unittest.main()
