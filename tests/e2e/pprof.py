# SPDX-License-Identifier: Apache-2.0
"""Reads a pprof file: protobuf by hand, so that the tests trust no decoder of the project's own."""

import gzip
from collections import namedtuple

Frame = namedtuple("Frame", "function file line address mapping")
Sample = namedtuple("Sample", "frames values labels")


def varint(data, at):
    """(number that begins there, where it ends)"""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def wire_fields(data):
    """(field number, wire type, value) of one message: numbers are int, all else is bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
            yield key >> 3, kind, value
        elif kind == 1:
            yield key >> 3, kind, data[at : at + 8]
            at += 8
        elif kind == 2:
            length, at = varint(data, at)
            if at + length > len(data):
                raise ValueError("truncated message")
            yield key >> 3, kind, data[at : at + length]
            at += length
        else:
            raise ValueError(f"unknown wire type {kind}")


def fields(data):
    """(field number, value) of one message; a length-delimited value is bytes."""
    for number, _, value in wire_fields(data):
        yield number, value


def signed(value):
    return value - (1 << 64) if value >= 1 << 63 else value


def numbers(value):
    """A repeated number: packed, or one of them."""
    if isinstance(value, int):
        return [value]
    # A packed list reads like a message without keys.
    result, number, shift = [], 0, 0
    for byte in value:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            result.append(number)
            number = shift = 0
    return result


class Profile:
    """One profile: sample_types, samples (leaf frame first), mappings, comments, period."""

    def __init__(self, path):
        with gzip.open(path) as file:
            self.message = list(fields(file.read()))
        self.strings = [v.decode() for n, v in self.message if n == 6]
        self.functions = {m[1]: m for m in self._messages(5)}
        self.mappings = {m[1]: m for m in self._messages(3)}
        self.locations = dict(self._location(v) for n, v in self.message if n == 4)
        self.sample_types = [
            (self.strings[m.get(1, 0)], self.strings[m.get(2, 0)]) for m in self._messages(1)
        ]
        self.samples = [self._sample(v) for n, v in self.message if n == 2]
        self.comments = [self.strings[i] for n, v in self.message if n == 13 for i in numbers(v)]
        self.period = next((v for n, v in self.message if n == 12), 0)

    def _messages(self, number):
        return [dict(fields(v)) for n, v in self.message if n == number]

    def _location(self, data):
        location_id = mapping = address = 0
        lines = []
        for number, value in fields(data):
            if number == 1:
                location_id = value
            elif number == 2:
                mapping = value
            elif number == 3:
                address = value
            elif number == 4:
                line = dict(fields(value))
                lines.append((line.get(1, 0), line.get(2, 0)))
        file = self.mapping_file(mapping)
        frames = [self._frame(f, line, address, file) for f, line in lines]
        return location_id, frames or [Frame("", "", 0, address, file)]

    def _frame(self, function_id, line, address, mapping):
        function = self.functions.get(function_id, {})
        name = self.strings[function.get(2, 0)]
        return Frame(name, self.strings[function.get(4, 0)], line, address, mapping)

    def mapping_file(self, mapping_id):
        return self.strings[self.mappings.get(mapping_id, {}).get(5, 0)]

    def _sample(self, data):
        frames, values, labels = [], [], {}
        for number, value in fields(data):
            if number == 1:
                for location in numbers(value):
                    frames += self.locations[location]
            elif number == 2:
                values += [signed(v) for v in numbers(value)]
            elif number == 3:
                label = dict(fields(value))
                key = self.strings[label.get(1, 0)]
                labels[key] = self.strings[label[2]] if 2 in label else signed(label.get(3, 0))
        return Sample(frames, dict(zip((name for name, _ in self.sample_types), values)), labels)

    def names(self):
        return {frame.function for sample in self.samples for frame in sample.frames}

    def below(self, function):
        """Sum of the samples whose stack has this function: {sample type: value}."""
        total = {name: 0 for name, _ in self.sample_types}
        for sample in self.samples:
            if any(is_function(frame.function, function) for frame in sample.frames):
                for name, value in sample.values.items():
                    total[name] += value
        return total

    def total(self):
        total = {name: 0 for name, _ in self.sample_types}
        for sample in self.samples:
            for name, value in sample.values.items():
                total[name] += value
        return total


def is_function(found, wanted):
    """Demanglers differ in what stands around a name: return type, namespace, arguments."""
    if found == wanted:
        return True
    at = found.find(wanted)
    if at < 0:
        return False
    before, after = found[at - 1 : at], found[at + len(wanted) :]
    return before in ("", ":", " ", "*") and (after == "" or after[0] in "(<.@ ")
