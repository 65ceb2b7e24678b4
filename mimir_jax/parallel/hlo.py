# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a compiled program sends between devices, read from its text."""

import dataclasses
import math
import re
from collections.abc import Iterator

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


@dataclasses.dataclass
class Traffic:
    """All collectives of one kind in one run of a program.

    Attributes:
        count: How often they run, loops unrolled.
        bytes: What they put out on one device, in all.
        overlapped: How many have computation scheduled between their start and their end.
    """

    count: int = 0
    bytes: int = 0
    overlapped: int = 0


@dataclasses.dataclass(frozen=True)
class _Op:
    name: str
    shape: str
    kind: str
    line: str


def collectives(text: str) -> dict[str, Traffic]:
    """Sums the collectives of a scheduled HLO module, each as often as its loops run it.

    Args:
        text: `compiled.as_text()`.
    """
    computations, entry = _parse(text)
    found: dict[str, Traffic] = {}

    def visit(name: str, times: int) -> None:
        ops = computations.get(name, [])
        scatter = name.startswith("all-reduce-scatter")  # how the TPU compiler fuses that
        for index, op in enumerate(ops):
            kind = op.kind.removesuffix("-start")
            kind = "reduce-scatter" if scatter and kind == "all-reduce" else kind
            if kind in COLLECTIVES:
                traffic = found.setdefault(kind, Traffic())
                traffic.count += times
                traffic.bytes += times * _bytes(op)
                traffic.overlapped += times * (op.kind.endswith("-start") and _busy(ops, index))
            trips = _trips(op, computations) if op.kind == "while" else 1
            for called in _called(op.line):
                visit(called, times * trips)

    visit(entry, 1)
    return dict(sorted(found.items()))


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
    """How often a loop runs; where the compiler does not say, up to what its condition counts."""
    if known := _TRIPS.search(loop.line):
        return int(known[1])
    condition = _CONDITION.search(loop.line)
    ops = computations.get(condition[1], []) if condition else []
    limits = [int(found[1]) for op in ops if (found := _CONSTANT.search(op.line))]
    counts = any(op.kind == "compare" and "direction=LT" in op.line for op in ops)
    return limits[0] if counts and len(limits) == 1 else 1


def _called(line: str) -> Iterator[str]:
    yield from _CALLS.findall(line)
    if branches := _BRANCHES.search(line):
        yield from (name.strip().lstrip("%") for name in branches[1].split(","))


def _bytes(op: _Op) -> int:
    """Bytes of the result; a start holds operand and result, of which the larger is moved."""
    sizes = [
        math.prod(int(size) for size in dims.split(",") if size) * _BYTES.get(dtype, 0)
        for dtype, dims in _ARRAY.findall(op.shape)
    ]
    if not sizes:
        return 0
    return max(sizes) if op.kind.endswith("-start") else sum(sizes)


def _busy(ops: list[_Op], start: int) -> bool:
    """Whether a product or fusion runs between a start and its end."""
    name = ops[start].name
    for op in ops[start + 1 :]:
        if op.kind.endswith("-done") and re.search(rf"%{re.escape(name)}\b", op.line):
            return False
        if op.kind in ("fusion", "dot", "convolution", "custom-call", "while"):
            return True
    return False
