#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What code of libmprof.so can reach from where, proved on the linked library: check_calls.py LIBRARY [RULES]

A graph of calls is made of the machine code: direct calls and jumps, jump tables, the procedure
linkage table, and calls through pointers, whose tables are told by where the pointer was loaded
from. Roots are all exported functions and all functions whose address is taken anywhere (signal
handler, thread starts, constructors, cleanups, stand-ins). Leaves are libc's functions, the slots
of the tables of real functions (`real.malloc`) and the system calls (`syscall.openat`). RULES, see
calls.rules, say for each leaf whether it may be reached from anywhere, or which functions stand
before it on every path. A leaf without a rule, a pointer of unknown origin, a path past the gate:
each is a complaint, with the path. So is a rule that nothing needs.
"""

import re
import subprocess
import sys
from collections import deque
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SYSCALLS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
# Makes the system call whose number is its first argument.
SYSTEM_CALL = "sys::numbered"
PREFIXES = {"lock", "rep", "repz", "repnz", "notrack", "bnd", "data16", "cs", "ds", "es"}
CALLER_SAVED = ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11")
READ_ONLY = ("cmp", "test", "push", "bt", "nop", "prefetch", "ucomis", "comis", "ptest")
# Of a thread's variable: its place in the static block. A kind for dynamic TLS is none of these.
KNOWN_RELOCATIONS = {"RELATIVE", "GLOB_DAT", "JUMP_SLOT", "TPOFF64"}
FILLERS = ("nop", "xchg", "int3", "cs", "data16")
ENDS = ("ret", "hlt", "ud2")
# Of a register the values are followed as long as they are this few.
MOST_VALUES = 8


def registers():
    """64-bit name of each name of a register."""
    names = {}
    for letter in "abcd":
        for name in (f"r{letter}x", f"e{letter}x", f"{letter}x", f"{letter}l", f"{letter}h"):
            names[name] = f"r{letter}x"
    for word in ("si", "di", "bp", "sp"):
        for name in (f"r{word}", f"e{word}", word, f"{word}l"):
            names[name] = f"r{word}"
    for number in range(8, 16):
        for suffix in ("", "d", "w", "b"):
            names[f"r{number}{suffix}"] = f"r{number}"
    return names


REGISTERS = registers()


def output_of(*command, text=None):
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


def short_names(names):
    """Names as the source has them: no namespace of ours, parameters, template arguments, or clone."""
    bases = [re.sub(r"(\.(cold|part|isra|constprop|lto_priv)(\.\d+)*)+$", "", name) for name in names]
    readable = output_of("c++filt", "-p", text="\n".join(bases) + "\n").splitlines()
    for old in ("(anonymous namespace)::", "mprof::preload::", "mprof::"):
        readable = [name.replace(old, "") for name in readable]
    return dict(zip(names, (without_template_arguments(name) for name in readable), strict=True))


def without_template_arguments(name):
    depth, kept = 0, ""
    for letter in name:
        depth += letter == "<"
        kept += letter if depth == 0 else ""
        depth -= letter == ">"
    return (kept or name).split(" ")[-1] if "operator" not in name else name


class Instruction:
    """One line of the disassembly."""

    LINE = re.compile(r"^\s*([0-9a-f]+):\t(\S.*)$")

    def __init__(self, address, text):
        self.address = address
        text, _, comment = text.partition("#")
        words = text.split()
        while len(words) > 1 and words[0] in PREFIXES:
            words.pop(0)
        self.name = words[0]
        rest = " ".join(words[1:])
        self.operands = split_operands(rest)
        found = re.match(r"\s*([0-9a-f]+)", comment)
        self.absolute = int(found[1], 16) if found else None  # of an operand relative to %rip
        self.next = None

    def target(self):
        """Of a direct call or jump."""
        found = re.match(r"([0-9a-f]+)( <|$)", self.operands[0]) if self.operands else None
        return int(found[1], 16) if found else None

    def is_call(self):
        return self.name.startswith("call")

    def is_jump(self):
        return self.name.startswith("j")

    def is_plain_jump(self):
        return self.name.startswith("jmp")

    def __str__(self):
        return f"{self.address:x}: {self.name} {','.join(self.operands)}"


def split_operands(text):
    operands, depth, word = [], 0, ""
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            operands.append(word.strip())
            word = ""
        else:
            word += letter
    return operands + [word.strip()] if word.strip() else operands


class Function:
    """A function with its cold part; `calls`: what it calls and from where."""

    def __init__(self, name):
        self.name = name
        self.ranges = []
        self.calls = {}
        self.unknown = []

    def holds(self, address):
        return any(low <= address < high for low, high in self.ranges)


class Library:
    """The linked object: sections, relocations, symbols, instructions."""

    def __init__(self, path):
        self.path = str(path)
        self.sections = self.read_sections()
        self.relocations = self.read_relocations()
        self.exported = set()
        self.objects = {}
        self.functions = []  # in no order
        self.starts = {}  # address -> Function
        self.read_symbols()
        self.instructions = {}
        self.read_code()

    def read_sections(self):
        sections = {}
        line = re.compile(r"^\s*\[\s*\d+\] (\S+)\s+(\S+)\s+([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) \S+\s+(\S*)")
        for text in output_of("readelf", "-SW", self.path).splitlines():
            found = line.match(text)
            if found and "A" in found[6]:
                sections[found[1]] = tuple(int(found[i], 16) for i in (3, 4, 5)) + (found[2],)
        return sections

    def read_relocations(self):
        """Place -> (kind, symbol or address)."""
        relocations = {}
        for text in output_of("readelf", "-rW", self.path).splitlines():
            words = text.split()
            if len(words) < 4 or not words[2].startswith("R_X86_64_"):
                continue
            place, kind = int(words[0], 16), words[2].removeprefix("R_X86_64_")
            if kind == "RELATIVE":
                relocations[place] = (kind, int(words[3], 16))
            else:
                relocations[place] = (kind, words[4].split("@")[0] if len(words) > 4 else words[3])
        return relocations

    def read_symbols(self):
        rows = []
        for text in output_of("readelf", "-sW", self.path).splitlines():
            words = text.split()
            if len(words) < 8 or not words[0].rstrip(":").isdigit() or words[6] in ("UND", "ABS"):
                continue
            rows.append((int(words[1], 16), int(words[2], 0), words[3], words[4], words[5], words[7]))
        names = short_names(sorted({row[5].split("@")[0] for row in rows}))
        by_symbol, cold = {}, []
        for address, size, kind, binding, visibility, full in rows:
            full = full.split("@")[0]
            if kind in ("FUNC", "IFUNC", "GNU_IFUNC"):
                if binding != "LOCAL" and visibility == "DEFAULT":
                    self.exported.add(address)
                if ".cold" in full:
                    cold.append((full, address, size, names[full]))
                elif address in self.starts:
                    function = self.starts[address]
                    # Of names for the same code the exported one says more.
                    if binding != "LOCAL":
                        function.name = names[full]
                    by_symbol[full] = function
                else:
                    function = Function(names[full])
                    function.ranges.append((address, address + max(size, 1)))
                    self.functions.append(function)
                    self.starts[address] = by_symbol[full] = function
            elif kind == "OBJECT":
                self.objects[address] = (names[full], size)
        for full, address, size, name in cold:
            parent = by_symbol.get(full.split(".cold")[0])
            if parent is None or self.is_ambiguous(full, rows):
                parent = Function(name + " (cold)")
                self.functions.append(parent)
                self.starts[address] = parent
            parent.ranges.append((address, address + size))

    @staticmethod
    def is_ambiguous(full, rows):
        return sum(row[5] == full.split(".cold")[0] and row[2] == "FUNC" and row[3] == "LOCAL" for row in rows) > 1

    def read_code(self):
        last = None
        text = output_of("objdump", "-d", "--no-show-raw-insn", "-w", self.path)
        for line in text.splitlines():
            found = Instruction.LINE.match(line)
            if found:
                instruction = Instruction(int(found[1], 16), found[2])
                self.instructions[instruction.address] = instruction
                if last:
                    last.next = instruction.address
                last = instruction
        for section in (".plt", ".plt.got", ".plt.sec"):
            self.add_stubs(section)
        self.extend_functions()

    def add_stubs(self, section):
        """Each stub of the linkage table as a function that jumps through its slot."""
        if section not in self.sections:
            return
        low, _, size, _ = self.sections[section]
        for address, instruction in self.instructions.items():
            if low <= address < low + size and instruction.is_plain_jump() and instruction.absolute in self.relocations:
                # Stubs lie at multiples of 8 or 16; a branch mark may stand before the jump.
                start = address & ~7
                stub = Function(f"{self.relocations[instruction.absolute][1]}@plt")
                stub.ranges.append((start, address + 2))
                self.starts[start] = stub
                self.functions.append(stub)

    def extend_functions(self):
        """Written in assembly, a function may have no size: it ends where the next begins."""
        starts = sorted([low for function in self.functions for low, _ in function.ranges] + self.section_ends())
        for function in self.functions:
            low, high = function.ranges[0]
            if high == low + 1:
                function.ranges[0] = (low, next(start for start in starts if start > low))

    def section_ends(self):
        return [low + size for low, _, size, _ in self.sections.values()]

    def nameless_code(self):
        """Instructions that belong to no function, but for what fills the gaps."""
        inside = set()
        for function in self.functions:
            for low, high in function.ranges:
                inside.update(range(low, high))
        return [
            instruction
            for address, instruction in self.instructions.items()
            if self.is_code(address)
            and address not in inside
            and not instruction.name.startswith(FILLERS)
        ]

    def is_code(self, address):
        return any(
            low <= address < low + size
            for name, (low, _, size, _) in self.sections.items()
            if name in (".text", ".init", ".fini")
        )

    def is_constant(self, address):
        """Memory that nothing writes to after relocation."""
        return any(
            low <= address < low + size
            for name, (low, _, size, _) in self.sections.items()
            if name in (".rodata", ".data.rel.ro", ".got", ".init_array", ".fini_array")
        )

    def words_at(self, address):
        """The signed 32-bit words of constant data from an address on."""
        for name, (low, offset, size, kind) in self.sections.items():
            if low <= address < low + size and kind == "PROGBITS":
                data = Path(self.path).read_bytes()[offset + address - low : offset + size]
                return [int.from_bytes(data[i : i + 4], "little", signed=True) for i in range(0, len(data) - 3, 4)]
        return []

    def owner(self, address):
        """The function that an address lies in; None if no symbol says so."""
        start = self.starts.get(address)
        return start or next((function for function in self.functions if function.holds(address)), None)


class Tables:
    """The tables of real functions, as the headers list them: address -> name of the slot."""

    def __init__(self, library):
        self.slots = {}
        self.ranges = []
        self.complaints = []
        self.add(library, "real", re.findall(r"\(\*(\w+)\)\(", self.struct("real.h", "RealFunctions")))
        for header, symbol, prefix in (
            ("real_locks.h", "mprof_real_locks", "real_locks"),
            ("real_calls.h", "mprof_real_calls", "real_calls"),
        ):
            text = (ROOT / "preload" / header).read_text()
            self.add(library, symbol, re.findall(r"^  X\([^,]+, (\w+)", text, re.MULTILINE), prefix)

    @staticmethod
    def struct(header, name):
        text = (ROOT / "preload" / header).read_text()
        return re.search(rf"struct {name} \{{(.*?)^\}};", text, re.DOTALL | re.MULTILINE)[1]

    def add(self, library, symbol, names, prefix=None):
        if symbol not in {name for name, _ in library.objects.values()}:
            self.complaints.append(f"there is no table {symbol}")
        for address, (name, size) in library.objects.items():
            if name != symbol:
                continue
            if size != 8 * len(names):
                self.complaints.append(f"{symbol} has {size} bytes, its header {len(names)} names")
            self.ranges.append((address, address + size))
            for number, slot in enumerate(names):
                self.slots[address + 8 * number] = f"{prefix or symbol}.{slot}"


class Flow:
    """What the registers of one function may hold before each instruction, and so what it calls."""

    def __init__(self, library, tables, function, numbers):
        self.library = library
        self.tables = tables
        self.function = function
        self.numbers = numbers
        self.before = {}
        self.work = deque()

    def run(self, entry):
        self.follow(entry)
        # What a jump that was not understood leads to: nothing is known there, but it is looked at.
        for low, high in self.function.ranges:
            for address in range(low, high):
                code = self.library.instructions.get(address)
                if code and address not in self.before and not code.name.startswith(FILLERS):
                    self.follow(address)
        for address in sorted(self.before):
            if address in self.library.instructions:
                self.note_calls(self.library.instructions[address], self.before[address])

    def follow(self, entry):
        self.join(entry, {})
        while self.work:
            address = self.work.popleft()
            instruction = self.library.instructions.get(address)
            if instruction is None:
                self.function.unknown.append(f"{address:x}: no instruction there")
                continue
            self.step(instruction, dict(self.before[address]))

    def join(self, address, state):
        known = self.before.get(address)
        if known is None:
            self.before[address] = dict(state)
            self.work.append(address)
            return
        merged = {}
        for name, values in known.items():
            both = values | state[name] if name in state else None
            if both and len(both) <= MOST_VALUES:
                merged[name] = both
        if merged != known:
            self.before[address] = merged
            self.work.append(address)

    def step(self, instruction, state):
        if instruction.is_jump():
            for target in self.jump_targets(instruction, state):
                if self.function.holds(target):
                    self.join(target, state)
            if instruction.is_plain_jump():
                return
        elif instruction.name.startswith(ENDS):
            return
        self.change(instruction, state)
        if instruction.next is not None and self.function.holds(instruction.next):
            self.join(instruction.next, state)

    def jump_targets(self, instruction, state):
        direct = instruction.target()
        if direct is not None:
            return [direct]
        operand = instruction.operands[0]
        register = REGISTERS.get(operand.removeprefix("*%"))
        targets = []
        for kind, value in state.get(register, ()):
            if kind == "case":
                targets += self.cases(value)
        return targets

    def cases(self, table):
        """Where a jump table leads: as far as its words lead into this function."""
        targets = []
        for word in self.library.words_at(table):
            if not self.function.holds(table + word) or table + word not in self.library.instructions:
                break
            targets.append(table + word)
        return targets

    def value_of(self, operand, instruction, state):
        """What an operand reads, if it can be told."""
        if operand.startswith("$"):
            return frozenset({("number", int(operand[1:], 0))})
        if operand.startswith("%"):
            return state.get(REGISTERS.get(operand[1:]))
        places = self.places(operand, instruction, state)
        return frozenset(("at", place) for place in places) if places else None

    def places(self, operand, instruction, state):
        """Addresses that a memory operand may mean."""
        if operand.endswith("(%rip)"):
            return {instruction.absolute}
        found = re.fullmatch(r"(-?0x[0-9a-f]+|)\(%(\w+)\)", operand)
        if not found:
            return set()
        bases = state.get(REGISTERS.get(found[2]), ())
        if not bases or any(kind != "address" for kind, _ in bases):
            return set()
        return {value + int(found[1] or "0", 0) for _, value in bases}

    def change(self, instruction, state):
        name, operands = instruction.name, instruction.operands
        if instruction.is_call():
            for register in CALLER_SAVED:
                state.pop(register, None)
            return
        if name.startswith("syscall"):
            for register in ("rax", "rcx", "r11"):
                state.pop(register, None)
            return
        if name.startswith(("mul", "div", "idiv", "rdtsc", "cpuid", "cqto", "cltd", "cltq", "cwtl", "xgetbv")) or (
            name.startswith("imul") and len(operands) == 1
        ):
            for register in ("rax", "rdx", "rbx", "rcx") if name.startswith("cpuid") else ("rax", "rdx", "rcx"):
                state.pop(register, None)
            return
        if name.startswith(("stos", "movs", "scas", "cmps")) and any("es:" in word for word in operands):
            for register in ("rdi", "rsi", "rcx"):
                state.pop(register, None)
            return
        if not operands or name.startswith(READ_ONLY):
            return
        for operand in operands[:-1] if name.startswith(("xchg", "xadd")) else ():
            state.pop(REGISTERS.get(operand[1:]), None)
        if name.startswith("cmpxchg"):
            state.pop("rax", None)
        last = operands[-1]
        if not last.startswith("%"):
            self.note_store(instruction, state)
            return
        target = REGISTERS.get(last[1:])
        value = self.result(instruction, state) if target else None
        if value:
            state[target] = value
        else:
            state.pop(target, None)

    def note_store(self, instruction, state):
        """A register that was stored in a slot is what a load of the slot would give."""
        source, place = instruction.operands[0], instruction.operands[-1]
        if instruction.name not in ("mov", "movq") or not source.startswith("%") or len(instruction.operands) != 2:
            return
        places = self.places(place, instruction, state)
        if places and places <= self.tables.slots.keys() and source[1:] in REGISTERS:
            state[REGISTERS[source[1:]]] = frozenset(("at", place) for place in places)

    def result(self, instruction, state):
        """What the last operand, a register, holds afterwards; None if it cannot be told."""
        name, operands = instruction.name, instruction.operands
        if len(operands) != 2:
            return None
        source, target = operands
        register = REGISTERS.get(target[1:])
        if name.startswith("lea"):
            return frozenset(("address", place) for place in self.places(source, instruction, state)) or None
        if name in ("mov", "movl", "movq", "movabs"):
            if register != target[1:] and target[1:] not in (register.replace("r", "e", 1), register + "d"):
                return None  # a part of it
            return self.value_of(source, instruction, state)
        if name.startswith("xor") and source == target:
            return frozenset({("number", 0)})
        if name.startswith("cmov"):
            one, other = self.value_of(source, instruction, state), state.get(register)
            return one | other if one and other else None
        if name == "movslq":  # (%table,%number,4)
            found = re.fullmatch(r"\(%(\w+),%\w+,4\)", source)
            bases = state.get(found[1], ()) if found else ()
            return frozenset(("offset", value) for kind, value in bases if kind == "address") or None
        if name == "add":
            one, other = self.value_of(source, instruction, state) or (), state.get(register) or ()
            kinds = {kind for kind, _ in one} | {kind for kind, _ in other}
            tables = {value for _, value in one} | {value for _, value in other}
            if kinds == {"address", "offset"} and len(tables) == 1:
                return frozenset({("case", tables.pop())})
        return None

    def note_calls(self, instruction, state):
        if instruction.name.startswith("syscall") and not instruction.operands:
            return self.note_system_call(instruction, state, "rax")
        if not instruction.is_call() and not instruction.is_jump():
            return self.note_addresses(instruction)
        direct = instruction.target()
        if direct is not None:
            return self.note_direct(instruction, direct, state)
        operand = instruction.operands[0].removeprefix("*")
        for what in self.value_of(operand, instruction, state) or [("unknown", 0)]:
            self.note_indirect(instruction, *what)

    def note_direct(self, instruction, target, state):
        if not instruction.is_call() and self.function.holds(target):
            return
        owner = self.library.owner(target)
        if owner is None:
            self.function.unknown.append(f"{instruction}: into code without a symbol")
            return
        self.function.calls.setdefault(owner, instruction)
        if owner.name == SYSTEM_CALL:
            self.note_system_call(instruction, state, "rdi")

    def note_indirect(self, instruction, kind, value):
        called = None
        if kind == "at":
            relocation = self.library.relocations.get(value)
            if value in self.tables.slots:
                called = self.tables.slots[value]
            elif relocation and relocation[0] in ("GLOB_DAT", "JUMP_SLOT"):
                called = relocation[1]
            elif relocation and relocation[0] == "RELATIVE" and self.library.is_constant(value):
                called = self.library.owner(relocation[1])
        elif kind == "address":
            called = self.library.owner(value)
        elif kind == "case":
            return
        if called is None:
            self.function.unknown.append(f"{instruction}: through a pointer of unknown origin")
        else:
            self.function.calls.setdefault(called, instruction)

    def note_system_call(self, instruction, state, register):
        if self.function.name == SYSTEM_CALL:
            return  # by its callers
        for kind, value in state.get(register, [("unknown", 0)]):
            if kind == "number":
                self.function.calls.setdefault(f"syscall.{self.numbers.get(value, value)}", instruction)
            else:
                self.function.unknown.append(f"{instruction}: a system call of unknown number")

    def note_addresses(self, instruction):
        """A function whose address is taken can be called by whoever gets it."""
        relocation = self.library.relocations.get(instruction.absolute)
        if relocation and relocation[0] in ("GLOB_DAT", "JUMP_SLOT"):
            self.function.calls.setdefault(relocation[1], instruction)
        if instruction.name.startswith("lea") and instruction.absolute in self.library.starts:
            self.library.taken.setdefault(instruction.absolute, f"taken in {self.function.name}")


class Graph:
    def __init__(self, library, tables):
        self.library = library
        self.reached = {}
        self.nameless = library.nameless_code()
        numbers = {
            int(number): name
            for name, number in re.findall(r"#define __NR_(\w+) (\d+)", SYSCALLS.read_text())
        }
        library.taken = {}
        for start, function in list(library.starts.items()):
            Flow(library, tables, function, numbers).run(start)
        for place, (kind, value) in library.relocations.items():
            if kind == "RELATIVE" and library.is_code(value):
                library.taken.setdefault(value, f"stored at {place:x}")
        for start in ("INIT", "FINI"):
            found = re.search(rf"\({start}\)\s+0x([0-9a-f]+)", output_of("readelf", "-dW", library.path))
            if found:
                library.taken.setdefault(int(found[1], 16), f"DT_{start}")

    def roots(self, named=()):
        """What can be called from outside, and why; not those of which the name alone is used."""
        roots = {}
        library = self.library
        for address in sorted(library.exported | set(library.taken)):
            function = library.owner(address)
            if function and (function.name not in named or address in library.exported):
                roots.setdefault(function, "exported" if address in library.exported else library.taken[address])
        return roots

    def reach(self, roots, without):
        """All that can be reached past the functions named, each with what it was reached from."""
        question = (frozenset(roots), frozenset(without))
        if question not in self.reached:
            self.reached[question] = self.search(roots, without)
        return self.reached[question]

    def search(self, roots, without):
        before = {root: None for root in roots if root.name not in without}
        work = deque(before)
        while work:
            function = work.popleft()
            for called in function.calls:
                if called in before or (isinstance(called, Function) and called.name in without):
                    continue
                before[called] = function
                if isinstance(called, Function):
                    work.append(called)
        return before

    @staticmethod
    def chain(before, leaf):
        names, at = [], leaf
        while at is not None:
            names.append(at if isinstance(at, str) else at.name)
            at = before[at]
        return " -> ".join(name for name in reversed(names) if not name.endswith("@plt"))


class Rules:
    """calls.rules: see there."""

    LINE = re.compile(r"(\w+)\s+(.*?)\s*:\s+(\S.*)")

    def __init__(self, path):
        self.leaves = {}  # leaf -> names of gates, or None for anywhere
        self.gates = {}  # group -> names of functions
        self.pointers = set()  # functions that may call through pointers of unknown origin
        self.taken = set()
        self.named = set()  # functions whose address is only a place
        self.never = []  # pairs of names: from the one the other is not reached
        self.complaints = []
        text = re.sub(r"\n[ \t]+(?=\S)", " ", Path(path).read_text())
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                self.read(line, number)

    def read(self, line, number):
        found = self.LINE.fullmatch(line.strip())
        if not found:
            self.complaints.append(f"rule {number}: not 'WORD names: reason': {line}")
            return
        word, names = found[1], found[2].split()
        if word == "anywhere":
            self.leaves.update((name, None) for name in names)
        elif word == "gate":
            self.gates[names[0]] = names[1:]
        elif word in ("behind", "never") and "|" in names:
            at = names.index("|")
            if word == "never":
                self.never += [(root, name) for root in names[:at] for name in names[at + 1 :]]
            for name in names[:at] if word == "behind" else ():
                self.leaves.setdefault(name, []).extend(names[at + 1 :])
        elif word == "named":
            self.named.update(names)
        elif word == "pointer":
            self.pointers.update(names)
        elif word == "root":
            self.taken.update(names)
        else:
            self.complaints.append(f"rule {number}: what is '{word}'?")

    def gates_of(self, leaf):
        """Functions that stand before a leaf; None: nothing need. A slot's own hook always may."""
        names = self.leaves.get(leaf, [])
        if names is None:
            return None
        functions = set()
        for name in names:
            functions.update(self.gates.get(name, [name]))
        if leaf.startswith("real"):
            hook = leaf.partition(".")[2]
            functions.update((hook, f"boot_{hook}"))
        return functions


def check(graph, rules):
    """Complaints, and how much was looked at."""
    library = graph.library
    complaints = list(rules.complaints)
    complaints += [f"{instruction}: code without a symbol" for instruction in graph.nameless]
    unfollowed = {kind for kind, _ in library.relocations.values()} - KNOWN_RELOCATIONS
    complaints += [f"relocations of kind {kind}, which this check does not follow" for kind in sorted(unfollowed)]
    roots = graph.roots(rules.named)
    strange = {root.name: why for root, why in roots.items() if why != "exported"}
    for name in sorted(name for name in strange if not any(fnmatchcase(name, known) for known in rules.taken)):
        complaints.append(f"{name}: whoever has its address can call it ({strange[name]}), no rule names it as a root")
    everything = graph.reach(roots, set())
    for function in library.functions:
        if function.unknown and function.name not in rules.pointers and function in everything:
            complaints += [f"{graph.chain(everything, function)}: {what}" for what in sorted(set(function.unknown))]
    leaves = sorted(leaf for leaf in everything if isinstance(leaf, str))
    by_gates = {}
    for leaf in leaves:
        gates = rules.gates_of(leaf)
        if leaf not in rules.leaves and not leaf.startswith("real"):
            complaints.append(f"{leaf} is called, and no rule says from where: {graph.chain(everything, leaf)}")
        elif gates is not None:
            by_gates.setdefault(frozenset(gates), []).append(leaf)
    for gates, guarded in by_gates.items():
        reached = graph.reach(roots, gates)
        complaints += [f"{leaf} is reached: {graph.chain(reached, leaf)}" for leaf in guarded if leaf in reached]
    complaints += forbidden(rules, graph)
    complaints += unused(rules, roots, library, leaves)
    size = f"{len(everything) - len(leaves)} functions, {len(roots)} roots, {len(leaves)} leaves"
    return complaints, size


def forbidden(rules, graph):
    complaints = []
    for root, name in rules.never:
        reached = graph.reach([function for function in graph.library.functions if function.name == root], set())
        found = [what for what in reached if (what if isinstance(what, str) else what.name) == name]
        complaints += [f"{root} must never reach {name}: {graph.chain(reached, what)}" for what in found]
    return complaints


def unused(rules, roots, library, leaves):
    """A rule for what is not there any more would let it come back unseen."""
    names = {function.name for function in library.functions}
    complaints = [f"a rule for {leaf}, which nothing calls" for leaf in rules.leaves if leaf not in leaves]
    strange = [known for known in rules.taken if not any(fnmatchcase(root.name, known) for root in roots)]
    complaints += [f"a rule for the root {known}, which is none" for known in sorted(strange)]
    gates = {name for group in rules.gates.values() for name in group}
    gates |= {name for group in rules.leaves.values() for name in group or () if name not in rules.gates}
    gates |= rules.pointers | rules.named | {root for root, _ in rules.never}
    complaints += [f"no function is named {name}, as a rule has it" for name in sorted(gates - names)]
    return complaints


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit("usage: check_calls.py LIBRARY [RULES]")
    library = Library(sys.argv[1])
    rules = Rules(sys.argv[2] if len(sys.argv) == 3 else Path(__file__).with_name("calls.rules"))
    tables = Tables(library)
    complaints, size = check(Graph(library, tables), rules)
    complaints = tables.complaints + complaints
    print(f"check_calls: {size}, {len(complaints)} complaints")
    for complaint in complaints:
        print(f"check_calls: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
