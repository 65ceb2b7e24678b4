# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Collective traffic of a compiled program, parsed from its HLO text."""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

COLLECTIVES = (
    "all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute",
    "ragged-all-to-all",
)  # fmt: skip

_BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "f8e4m3fn": 1, "f8e5m2": 1, "bf16": 2, "f16": 2, "s16": 2,
    "u16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8,
}  # fmt: skip
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLS = re.compile(
    r"(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_CONSTANT = re.compile(r"constant\((\d+)\)")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_TILED = re.compile(r"replica_groups=\[\d+,(\d+)\]")
_OF_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\].*? \{('[^}]*)\}")
_AXIS = re.compile(r"('\w+')(?::\(\d+\)(\d+))?")  # a part of an axis names its size
_LAYOUT = re.compile(r"\{[^}]*\}")


@dataclasses.dataclass
class Traffic:
    """All collectives of one kind in one execution of a program.

    Attributes:
        count: Number of executions, loops unrolled.
        bytes: Total bytes of their results on one device; of their operands for a reduce-scatter.
        moved: Bytes that one device receives from others: its own part is left out, and an
            all-reduce counts twice, as it reduces the parts and then distributes the sums.
        overlapped: Number with computation scheduled between their start and their end, or fused
            with a product.
    """

    count: int = 0
    bytes: int = 0
    moved: int = 0
    overlapped: int = 0


class _Op(NamedTuple):
    name: str
    shape: str
    opcode: str
    line: str


class _Send(NamedTuple):
    """A collective and the number of times it runs."""

    kind: str
    channel: str | None
    times: int
    bytes: int
    moved: int
    overlapped: bool


def collectives(text: str) -> dict[str, Traffic]:
    """Sums the collectives of a scheduled HLO module, each times the trips of its loops.

    Args:
        text: `compiled.as_text()`.
    """
    computations, entry = _parse(text)
    totals: dict[str, Traffic] = {}
    for send in _sends(computations, entry, times=1, overlapped=False):
        traffic = totals.setdefault(send.kind, Traffic())
        traffic.count += send.times
        traffic.bytes += send.times * send.bytes
        traffic.moved += send.times * send.moved
        traffic.overlapped += send.times * send.overlapped
    return dict(sorted(totals.items()))


def _sends(
    computations: Mapping[str, list[_Op]], name: str, *, times: int, overlapped: bool
) -> Iterator[_Send]:
    ops = computations.get(name, [])
    scatter = name.startswith("all-reduce-scatter")  # the TPU compiler's fusion of a reduce-scatter
    fused: list[_Send] = []
    for index, op in enumerate(ops):
        if op.opcode.endswith(("-update", "-done")):  # parts of a collective that a start began
            continue
        hidden = overlapped or (op.opcode.endswith("-start") and _busy(ops, index))
        kind = op.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            kind = "reduce-scatter" if scatter and kind == "all-reduce" else kind
            channel, size = _CHANNEL.search(op.line), _bytes(op, ops)
            moved = _moved(op, size) * (2 if kind == "all-reduce" else 1)
            yield _Send(kind, channel and channel[1], times, size, moved, hidden)
        trips = _trips(op, computations) if op.opcode == "while" else 1
        for called in _called(op.line):
            inside = _sends(
                computations,
                called,
                times=times * trips,
                overlapped=hidden or called.startswith("async_collective_fusion"),
            )
            if op.opcode == "fusion":
                fused.extend(inside)
            else:
                yield from inside
    yield from _merge(fused)


def _merge(fused: Iterable[_Send]) -> Iterator[_Send]:
    """Joins the start, the middle and the end of a collective that are fusions of their own.

    The TPU compiler writes the collective into all three, and the product that overlaps it into the
    middle one.
    """
    channels: dict[str, _Send] = {}
    for send in fused:
        if send.channel is None:
            yield send
            continue
        other = channels.get(send.channel, send)
        hidden = send.overlapped or other.overlapped
        channels[send.channel] = max(send, other, key=lambda s: s.bytes)._replace(overlapped=hidden)
    yield from channels.values()


def _parse(text: str) -> tuple[dict[str, list[_Op]], str]:
    computations: dict[str, list[_Op]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if (head := _HEAD.match(line)) and not line.startswith(" "):
            current = computations.setdefault(head[1], [])
            entry = head[1] if line.startswith("ENTRY") else entry
        elif current is not None and (op := _LINE.match(line)):
            current.append(_Op(op[1], op[2], op[3], line))
    return computations, entry


def _trips(loop: _Op, computations: dict[str, list[_Op]]) -> int:
    """Returns the trip count of a loop, from the compiler or from the limit of its condition."""
    if annotated := _TRIPS.search(loop.line):
        return int(annotated[1])
    condition = _CONDITION.search(loop.line)
    ops = computations.get(condition[1], []) if condition else []
    limits = [int(match[1]) for op in ops if (match := _CONSTANT.search(op.line))]
    counts = any(op.opcode == "compare" and "direction=LT" in op.line for op in ops)
    return limits[0] if counts and len(limits) == 1 else 1


def _called(line: str) -> Iterator[str]:
    yield from _CALLS.findall(line)
    if branches := _BRANCHES.search(line):
        yield from (name.strip().lstrip("%") for name in branches[1].split(","))


def _bytes(op: _Op, ops: list[_Op]) -> int:
    """Returns the bytes of the result, or of the operands of a reduce-scatter.

    The shape of a start lists operands before the result, except for an all-reduce.
    """
    kind = op.opcode.removesuffix("-start")
    if kind == "reduce-scatter":
        shapes = {other.name: other.shape for other in ops}
        operands = op.line.split(f" {op.opcode}(", 1)[1].split("), ", 1)[0]
        return sum(_size(shapes.get(name, "")) for name in re.findall(r"%([\w.\-]+)", operands))
    if op.opcode == kind or kind == "all-reduce":
        return _size(op.shape)
    return _size(_elements(op.shape)[1])


def _moved(op: _Op, size: int) -> int:
    """Returns the part of `size` bytes that comes from the other devices of a group."""
    if listed := _LISTED.search(op.line):
        number = listed[1].count(",") + 1
    elif tiled := _TILED.search(op.line):
        number = int(tiled[1])
    elif of_mesh := _OF_MESH.search(op.line):
        sizes = dict(axis.split("=") for axis in of_mesh[1].split(","))
        number = math.prod(int(part or sizes[axis]) for axis, part in _AXIS.findall(of_mesh[2]))
    else:  # pairs of devices, or no groups given
        return size
    return size * (number - 1) // number


def _size(shape: str) -> int:
    return sum(
        math.prod(int(size) for size in dims.split(",") if size) * _BYTES.get(dtype, 0)
        for dtype, dims in _ARRAY.findall(shape)
    )


def _elements(shape: str) -> list[str]:
    """Splits the shape of a tuple into those of its elements, tuples or arrays."""
    depth, elements = 0, [""]
    for letter in _LAYOUT.sub("", shape)[1:-1]:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            elements.append("")
        else:
            elements[-1] += letter
    return elements


def _busy(ops: list[_Op], start: int) -> bool:
    """Whether a product or fusion runs between a start and its end."""
    name = ops[start].name
    for op in ops[start + 1 :]:
        if op.opcode.endswith(("-update", "-done")) and re.search(
            rf"%{re.escape(name)}(?![\w.\-])", op.line
        ):
            if op.opcode.endswith("-done"):
                return False
            name = op.name
        elif op.opcode in ("fusion", "dot", "convolution", "custom-call", "while"):
            return True
    return False
