# SPDX-License-Identifier: Apache-2.0
"""What a dump and its DUMP.trace have of each trace ring, as docs/journal-format.md says it."""

import ctypes
import struct
import zlib
from collections import namedtuple
from pathlib import Path

import trace_rings

HEADER = struct.Struct("<8sIIQQIIII")
MARK = struct.Struct("<QQII")
FRAME = struct.Struct("<4sIIIQIIQ")
SPAN = struct.Struct("<IIQQQQ")

Frame = namedtuple("Frame", "flags sequence clock spans")

libzstd = ctypes.CDLL("libzstd.so.1")
libzstd.ZSTD_decompress.restype = ctypes.c_size_t
libzstd.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]


def unpacked(stored, raw_bytes):
    raw = ctypes.create_string_buffer(raw_bytes)
    assert libzstd.ZSTD_decompress(raw, raw_bytes, stored, len(stored)) == raw_bytes
    return raw.raw


def spans_of(raw):
    at = 24
    for _ in range(struct.unpack_from("<Q", raw, 16)[0]):
        row, flags, begin, end, _, _ = SPAN.unpack_from(raw, at)
        at += SPAN.size
        yield row, flags, begin, raw[at : at + end - begin]
        at += (end - begin + 7) // 8 * 8


def frames(path):
    """All that were kept, each of which must be whole, up to a torn one at the end."""
    data = Path(path).read_bytes()
    at = HEADER.unpack_from(data)[2]
    offset, sequence, zero, crc = MARK.unpack_from(data, HEADER.size)
    if offset:
        assert crc == zlib.crc32(data[HEADER.size : HEADER.size + 20])
        at = offset
    while at + FRAME.size <= len(data):
        magic, head_crc, crc, flags, number, stored, raw, offset = FRAME.unpack_from(data, at)
        payload = data[at + FRAME.size : at + FRAME.size + stored]
        if len(payload) < stored:
            return
        assert (magic, number, offset) == (b"JFRM", sequence, at)
        assert head_crc == zlib.crc32(data[at + 8 : at + FRAME.size]) and crc == zlib.crc32(payload)
        content = unpacked(payload, raw)
        yield Frame(flags, number, struct.unpack_from("<QQ", content), list(spans_of(content)))
        sequence += 1
        at += FRAME.size + stored


class Stream:
    """The bytes of one ring from some position on."""

    def __init__(self, begin):
        self.begin = begin
        self.data = bytearray()

    @property
    def end(self):
        return self.begin + len(self.data)

    def add(self, begin, data):
        """What is known already must be the same."""
        known = self.end - begin
        assert 0 <= known, f"a gap of {-known} bytes"
        shared = min(known, len(data))
        at = begin - self.begin
        if at >= 0:
            assert self.data[at : at + shared] == data[:shared]
        self.data += data[known:]

    def records(self):
        first = -(-self.begin // trace_rings.BLOCK) * trace_rings.BLOCK - self.begin
        for at in range(first, len(self.data), trace_rings.BLOCK):
            yield from trace_rings.block_records(self.data[at : at + trace_rings.BLOCK])


def streams(dump_path):
    """By row: the journal, then what the ring holds beyond it."""
    found = {}
    journal = Path(f"{dump_path}.trace")
    for frame in frames(journal) if journal.exists() else ():
        for row, flags, begin, data in frame.spans:
            assert flags & 0xFF == 0
            stream = found.setdefault(row, Stream(begin))
            assert stream.data == b"" or stream.end == begin + (flags >> 8), "repeats what it says"
            stream.add(begin, data)
    rings = trace_rings.rings_of(trace_rings.Dump(dump_path))
    for row, ring in enumerate(rings):
        at = ring.released % len(ring.data)
        held = (ring.data + ring.data)[at : at + ring.written - ring.released]
        found.setdefault(row, Stream(ring.released)).add(ring.released, held)
    return found, rings
