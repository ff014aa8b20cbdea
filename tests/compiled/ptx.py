"""PTX, what GPU kernels are compiled to, run on the CPU: all threads of a program in step.

A register is an array with a number for each thread. Only what the kernels of this project need is known; of any other
instruction a `NotImplementedError` tells. Threads of a program must branch together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from compiled.memory import Lanes, Memory, as_bytes

WARP = 32
KINDS = {"b": "u", "u": "u", "s": "i", "f": "f"}
HALF = np.dtype(np.uint16)
TINY = np.float32(2.0**-126)


class Instruction(NamedTuple):
    """`@guard name.of.it a, b, c`."""

    guard: str | None
    name: tuple[str, ...]
    arguments: list[str]

    @property
    def type(self) -> np.dtype[Any]:
        """What it computes in."""
        return _dtype(self.name[-1])


@dataclass(frozen=True)
class Program:
    """What `parse` reads."""

    parameters: list[str]
    threads: int
    code: list[Instruction]
    labels: dict[str, int]


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(f"{KINDS[name[0]]}{int(name[1:]) // 8}")


def parse(ptx: str) -> Program:
    """The one kernel of a module."""
    head, body = ptx[ptx.index(".visible .entry") :].split("\n{\n", 1)
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in re.sub(r"//[^\n]*", "", body).splitlines():
        label = re.match(r"\s*([$\w]+):", line)
        if label:
            labels[label[1]] = len(code)
            line = line[label.end() :]
        if line.strip() == "}":
            break
        for text in line.strip(" \t{}").split(";"):
            found = re.match(r"\s*(?:@(!?%\w+)\s+)?([a-z][\w.:]*)\s*(.*)", text)
            if found:
                arguments = re.findall(r"\[[^\]]*\]|\{[^}]*\}|[^,\s]+", found[3])
                code.append(Instruction(found[1], tuple(found[2].split(".")), arguments))
    threads = re.search(r"\.reqntid (\d+)", head)
    assert threads is not None
    return Program(re.findall(r"\w+_param_\d+", head), int(threads[1]), code, labels)


class Block:
    """One program of a launch."""

    def __init__(self, program: Program, memory: Memory, number: int, programs: int) -> None:
        self.program, self.memory = program, memory
        self.lanes = np.arange(program.threads)
        self.warp = self.lanes // WARP * WARP
        self.shared = np.zeros(1 << 18, np.uint8)
        self.registers: dict[str, Lanes] = {
            "%tid.x": self.lanes.astype(np.uint32),
            "%ctaid.x": self._all(number, np.uint32),
            "%nctaid.x": self._all(programs, np.uint32),
            "global_smem": self._all(0, np.uint64),
        }

    def run(self, values: list[Any]) -> None:
        names = self.program.parameters
        own = [0] * (len(names) - len(values))  # Triton's, which are used by none of the kernels
        self.parameters = dict(zip(names, [*values, *own], strict=True))
        place = 0
        with np.errstate(all="ignore"):
            while True:
                step = self.program.code[place]
                place += 1
                active = self._active(step.guard)
                if step.name[0] in ("bra", "ret"):
                    if active.any() != active.all():
                        raise NotImplementedError("threads branch apart")
                    if active.all() and step.name[0] == "ret":
                        return
                    place = self.program.labels[step.arguments[0]] if active.all() else place
                elif step.name[0] == "bar":
                    self.memory.forget()
                else:
                    self._do(step, active)

    def _do(self, step: Instruction, active: Lanes) -> None:
        name = step.name[0]
        if name in ("ld", "st"):
            return self._move(step, active)
        if name == "ldmatrix":
            return self._load_matrix(step)
        own = getattr(self, f"_{name}", None)
        found = own(step) if own else self._compute(step)
        for register, value in zip(_list(step.arguments[0]), found, strict=True):
            self._put(register, value, active)
        return None

    # registers

    def _all(self, value: Any, dtype: Any) -> Lanes:
        return np.full(self.program.threads, value, dtype)

    def _active(self, guard: str | None) -> Lanes:
        if guard is None:
            return self._all(True, np.bool_)
        found = self.registers[guard.lstrip("!")]
        return ~found if guard.startswith("!") else found

    def _get(self, argument: str, dtype: np.dtype[Any]) -> Lanes:
        """The bits of a register or a constant, as another type of the same or of a smaller size."""
        if argument in self.registers:
            bits = self.registers[argument]
            bits = bits if bits.dtype == np.bool_ else bits.view(f"u{bits.dtype.itemsize}")
        elif argument.startswith("0f"):
            bits = self._all(int(argument[2:], 16), np.uint32)
        else:
            bits = self._all(int(argument.rstrip("U"), 0) % 2**64, np.uint64)
        return bits.astype(np.bool_) if dtype == np.bool_ else bits.astype(f"u{dtype.itemsize}").view(dtype)

    def _put(self, register: str, value: Lanes, active: Lanes) -> None:
        value = value if value.dtype == np.bool_ else value.view(f"u{value.dtype.itemsize}")
        if not active.all():
            before = self.registers.get(register, np.zeros_like(value))
            value = np.where(active, value, before)  # of two sizes, the larger
        self.registers[register] = value

    # memory

    def _move(self, step: Instruction, active: Lanes) -> None:
        loads, space, dtype = step.name[0] == "ld", step.name[1], step.type
        if space == "param":
            value = self.parameters[step.arguments[1].strip("[]")]
            bits = np.float32(value).view(np.uint32) if isinstance(value, float) else value
            return self._put(step.arguments[0], self._all(bits, dtype), active)
        registers, at = step.arguments if loads else step.arguments[::-1]
        several = _list(registers)
        addresses = self._address(at)
        if (addresses[active] % (dtype.itemsize * len(several))).any():
            raise RuntimeError("the address of a vector is not aligned")
        for number, register in enumerate(several):
            where = addresses[active] + number * dtype.itemsize
            if loads:
                value = np.zeros(len(active), dtype)
                if active.any():
                    value[active] = self._load(space, where, active, dtype)
                self._put(register, value, active)
            elif active.any():
                self._store(space, where, active, self._get(register, dtype)[active])
        return None

    def _load(self, space: str, where: Lanes, active: Lanes, dtype: np.dtype[Any]) -> Lanes:
        if space == "global":
            return self.memory.load(where, self.lanes[active], dtype)
        found: Lanes = self.shared[where[:, None] + np.arange(dtype.itemsize)].view(dtype)[:, 0]
        return found

    def _store(self, space: str, where: Lanes, active: Lanes, values: Lanes) -> None:
        if space == "global":
            self.memory.store(where, self.lanes[active], values)
        else:
            self.shared[where[:, None] + np.arange(values.dtype.itemsize)] = as_bytes(values)

    def _address(self, argument: str) -> Lanes:
        base, _, offset = argument.strip("[] ").replace(" ", "").partition("+")
        return self._get(base, np.dtype(np.uint64)).astype(np.int64) + int(offset or 0)

    def _load_matrix(self, step: Instruction) -> None:
        """Four matrices of 8 rows of 16 bytes; a thread has the row of eight threads' address, and gives four bytes."""
        if step.name[1:] != ("sync", "aligned", "m8n8", "x4", "shared", "b16"):
            raise NotImplementedError(".".join(step.name))
        rows = self._address(step.arguments[1])
        for number, register in enumerate(_list(step.arguments[0])):
            lane = self.lanes % WARP
            at = rows[self.warp + 8 * number + lane // 4] + 4 * (lane % 4)
            self.registers[register] = self.shared[at[:, None] + np.arange(4)].view(np.uint32)[:, 0]

    # between threads

    def _exchange(self) -> None:
        if len(self.lanes) == WARP:
            self.memory.forget_readers()

    def _shfl(self, step: Instruction) -> list[Lanes]:
        self._exchange()
        _, value, other, *_ = step.arguments
        bits, lane = self._get(value, step.type), self._get(other, np.dtype(np.int32))
        source = {"bfly": (self.lanes % WARP) ^ lane, "idx": lane % WARP}[step.name[2]]
        return [bits[self.warp + source]]

    def _redux(self, step: Instruction) -> list[Lanes]:
        self._exchange()
        rows = self._get(step.arguments[1], step.type).reshape(-1, WARP)
        combine = {"min": np.minimum, "max": np.maximum, "add": np.add}[step.name[2]]
        return [np.repeat(combine.reduce(rows, axis=1, dtype=rows.dtype), WARP)]

    # arithmetic

    def _mov(self, step: Instruction) -> list[Lanes]:
        target, source = map(_list, step.arguments)
        if step.name[1] == "pred":
            return [self._get(source[0], np.dtype(np.bool_))]
        size = step.type.itemsize * 8
        parts = [self._get(part, np.dtype(f"u{size // len(source) // 8}")) for part in source]
        whole = self._all(0, f"u{size // 8}")
        for number, part in enumerate(parts):
            whole |= part.astype(whole.dtype) << whole.dtype.type(number * size // len(parts))
        width = size // len(target)
        return [(whole >> whole.dtype.type(i * width)).astype(f"u{width // 8}") for i in range(len(target))]

    def _cvt(self, step: Instruction) -> list[Lanes]:
        to, of = step.name[-2:]
        values = step.arguments[1:]
        if of == "bf16":
            return [_widened(self._get(values[0], HALF)).astype(_dtype(to))]
        if to in ("bf16", "bf16x2"):
            upper, *lower = (_rounded(self._get(value, _dtype(of))) for value in values)
            return [upper.astype(np.uint32) << np.uint32(16) | lower[0]] if lower else [upper]
        return [self._get(values[0], _dtype(of)).astype(_dtype(to))]

    def _setp(self, step: Instruction) -> list[Lanes]:
        comparison = step.name[1]
        x, y = (self._get(argument, step.type) for argument in step.arguments[1:3])
        unordered = np.isnan(x) | np.isnan(y) if step.name[-1][0] == "f" else self._all(False, np.bool_)
        if comparison in ("num", "nan"):
            return [unordered if comparison == "nan" else ~unordered]
        found = getattr(np, COMPARISONS[comparison[:2]])(x, y)
        return [found | unordered if comparison.endswith("u") else found & ~unordered]

    def _selp(self, step: Instruction) -> list[Lanes]:
        _, x, y, choice = step.arguments
        return [np.where(self.registers[choice], self._get(x, step.type), self._get(y, step.type))]

    def _prmt(self, step: Instruction) -> list[Lanes]:
        """Four of the eight bytes of two numbers."""
        x, y, choice = (self._get(argument, np.dtype(np.uint32)) for argument in step.arguments[1:])
        both = np.stack([x, y], axis=1).view(np.uint8)
        chosen = choice[:, None] >> np.arange(0, 16, 4, dtype=np.uint32) & np.uint32(7)
        return [np.take_along_axis(both, chosen.astype(np.int64), axis=1).view(np.uint32)[:, 0]]

    def _compute(self, step: Instruction) -> list[Lanes]:
        kind = step.name[-1]
        dtype = {"pred": np.dtype(np.bool_), "bf16": HALF}.get(kind) or step.type
        operands = [self._get(argument, dtype) for argument in step.arguments[1:]]
        if "wide" in step.name:
            wide = np.dtype(f"{dtype.kind}{dtype.itemsize * 2}")
            operands = [operand.astype(wide) for operand in operands[:2]]
            operands += [self._get(argument, wide) for argument in step.arguments[3:]]
        compute = OPERATIONS.get(step.name[0])
        if compute is None:
            raise NotImplementedError(f"{'.'.join(step.name)} {step.arguments}")
        if kind == "bf16":
            return [_rounded(np.asarray(compute(*map(_widened, operands)), np.float32))]
        found = np.asarray(compute(*operands))
        if kind == "f32":
            found = found.astype(np.float32)
            if "ftz" in step.name:
                found = np.where(np.abs(found) < TINY, np.float32(0), found)
        return [found]


def _widened(bits: Lanes) -> Lanes:
    """bfloat16 as float32, whose upper half it is."""
    wide: Lanes = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return wide


def _rounded(values: Lanes) -> Lanes:
    """float32 as bfloat16, to the nearest, ties to even."""
    bits = values.view(np.uint32).astype(np.uint64)
    nearest = (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(values), 0x7FFF, nearest).astype(np.uint16)


def _list(argument: str) -> list[str]:
    return argument.strip("{} ").replace(" ", "").split(",")


def _shift(shift: Callable[[Lanes, Lanes], Lanes], x: Lanes, by: Lanes) -> Lanes:
    """PTX clamps what is shifted by to the size."""
    size = x.dtype.itemsize * 8
    beyond = np.where(x < 0, -1, 0).astype(x.dtype) if shift is np.right_shift else np.zeros_like(x)
    return np.where(by.view(f"u{x.dtype.itemsize}") >= size, beyond, shift(x, by % x.dtype.type(size)))


def _field(x: Lanes, start: Lanes, length: Lanes) -> Lanes:
    """Bits of a number, the first of them repeated before them where it is signed."""
    cut: Lanes = x << (32 - start - length) >> (32 - length)
    return cut


COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "mad": lambda x, y, z: x * y + z,
    "fma": lambda x, y, z: x.astype(np.float64) * y + z,
    "div": np.divide,
    "max": lambda x, y: np.fmax(x, y),
    "min": lambda x, y: np.fmin(x, y),
    "neg": np.negative,
    "abs": np.abs,
    "not": np.invert,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shl": lambda x, by: _shift(np.left_shift, x, by),
    "shr": lambda x, by: _shift(np.right_shift, x, by),
    "bfe": _field,
    "ex2": lambda x: np.exp2(x.astype(np.float64)),
    "lg2": lambda x: np.log2(x.astype(np.float64)),
    "rcp": lambda x: 1 / x.astype(np.float64),
}
