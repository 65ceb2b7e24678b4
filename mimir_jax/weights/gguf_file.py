# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads GGUF files without trusting them: metadata whole, tensors when they are asked for.

    magic, version, number of tensors, number of values
    values      name, type, value; an array has a type and a length, and may hold arrays
    tensors     name, sizes (innermost first), type, offset
    data        from the next multiple of `general.alignment`

Large files come in parts, `NAME-00001-of-00003.gguf`: metadata in the first, tensors in all.

Every count and length is compared with the bytes that are left before anything is read by it, so
that neither time nor memory exceeds a small multiple of the size of the file.
"""

import mmap
import pathlib
import re
import struct
from typing import Any, NamedTuple

import numpy as np

from mimir_jax.errors import InputError, listed
from mimir_jax.weights.tensors import Tensor

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_RANK = 4
_MAX_DEPTH = 4  # arrays of arrays
_ALIGNMENT = 32
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_LEAST = {_STRING: 8, _ARRAY: 12} | {code: struct.calcsize(x) for code, x in _SCALARS.items()}
_DTYPES = {code: np.dtype(x) for code, x in _SCALARS.items() if x != "?"}


class File(NamedTuple):
    """What a file holds.

    Attributes:
        path: The file, the first of those in parts.
        values: Its metadata by name: numbers, texts and lists.
        tensors: Its tensors by name, as float32.
        parts: All files.
    """

    path: pathlib.Path
    values: dict[str, Any]
    tensors: dict[str, Tensor]
    parts: tuple[pathlib.Path, ...]

    def value(self, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """Returns a value of the metadata; `default` where it is absent.

        Raises:
            InputError: if it is of another type.
        """
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InputError(
                f"file {self.path} must give {name} as another type, got {value!r:.40}"
            )
        return value

    def texts(self, name: str) -> list[str]:
        """Returns a list of texts of the metadata.

        Raises:
            InputError: if it is absent or something else.
        """
        found = self.value(name, list)
        if found is None or not all(isinstance(text, str) for text in found):
            raise InputError(f"file {self.path} must give {name} as a list of texts, got none")
        return found


class _Damaged(Exception):
    """What is wrong with a file."""


def find(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file in a folder, the first of those in parts; None unless there is one."""
    found = {p: _PART.fullmatch(p.name) for p in folder.glob("[!.]*.gguf")}
    firsts = [path for path, part in found.items() if part is None or int(part[2]) == 1]
    return firsts[0] if len(firsts) == 1 else None


def read(path: pathlib.Path) -> File:
    """Reads the metadata of a file and lists its tensors; any of several parts names them all.

    Raises:
        InputError: if it or another part cannot be read, is no GGUF file, or is damaged.
    """
    file = _read_one(path)
    count = file.value("split.count", int, 1)
    if count <= 1:
        return file
    name = _PART.fullmatch(path.name)
    if name is None or int(name[3]) != count:
        raise InputError(
            f"file {path} must have the name of a part, NAME-00001-of-{count:05d}.gguf; name all "
            f"{count} so"
        )
    parts = [path.with_name(f"{name[1]}-{i:05d}-of-{name[3]}.gguf") for i in range(1, count + 1)]
    if absent := [part.name for part in parts if not part.is_file()]:
        raise InputError(
            f"file {path} is one of {count} parts, {len(absent)} are absent: {listed(absent)}; "
            "download them"
        )
    files = [_read_one(part) for part in parts]
    tensors: dict[str, Tensor] = {}
    for other in files:
        if both := sorted(tensors.keys() & other.tensors.keys()):
            raise InputError(f"tensor {both[0]} of {other.path} must lie in one part, got two")
        tensors |= other.tensors
    return files[0]._replace(tensors=tensors, parts=tuple(parts))


def _read_one(path: pathlib.Path) -> File:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            cursor = _Cursor(data)
            return _read(path, cursor)
    except (_Damaged, OSError, ValueError) as error:  # `ValueError`: an empty file has no mapping
        raise InputError(
            f"file {path} must be whole and in GGUF format: {error}; download it again"
        ) from None


class _Cursor:
    """Reads the data in order, and never past its end."""

    def __init__(self, data: mmap.mmap):
        self.data, self.place = data, 0

    @property
    def left(self) -> int:
        return len(self.data) - self.place

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise _Damaged(f"{count} bytes are announced at {self.place}, {self.left} are left")
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def count(self, least: int) -> int:
        """Reads a count of things that take `least` bytes each."""
        count = self.number("Q")
        if count * least > self.left:
            raise _Damaged(f"{count} entries are announced at {self.place}, {self.left} bytes left")
        return count

    def value(self, code: int, depth: int = 0) -> Any:
        if code in _SCALARS:
            return self.number(_SCALARS[code])
        if code == _STRING:
            return self.text()
        if code != _ARRAY or depth == _MAX_DEPTH:
            raise _Damaged(f"a value of type {code} at depth {depth}")
        kind = self.number("I")
        if kind not in _LEAST:
            raise _Damaged(f"an array of type {kind}")
        count = self.count(_LEAST[kind])
        if kind in _DTYPES:
            dtype = _DTYPES[kind].newbyteorder("<")
            return np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()
        return [self.value(kind, depth + 1) for _ in range(count)]


def _read(path: pathlib.Path, cursor: _Cursor) -> File:
    if cursor.take(4) != _MAGIC:
        raise _Damaged("it does not begin with GGUF")
    if (version := cursor.number("I")) not in _VERSIONS:
        raise _Damaged(f"version {version} is not read")
    num_tensors = cursor.count(32)
    num_values = cursor.count(13)
    values: dict[str, Any] = {}
    for _ in range(num_values):
        name = cursor.text()
        if name in values:
            raise _Damaged(f"{name!r:.60} comes twice")
        values[name] = cursor.value(cursor.number("I"))
    infos = [_read_info(cursor) for _ in range(num_tensors)]
    alignment = values.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise _Damaged(f"an alignment of {alignment!r:.40}")
    start = cursor.place + -cursor.place % alignment
    tensors = {}
    for name, shape, kind, offset in infos:
        if name in tensors:
            raise _Damaged(f"tensor {name!r:.60} comes twice")
        tensors[name] = _lazy(path, name, shape, kind, start + offset, len(cursor.data))
    return File(path, values, tensors, (path,))


def _read_info(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Reads name, shape (outermost first), type and offset of a tensor."""
    name, rank = cursor.text(), cursor.number("I")
    if rank > _MAX_RANK:
        raise _Damaged(f"tensor {name!r:.60} of {rank} axes")
    shape = tuple(cursor.number("Q") for _ in range(rank))[::-1]
    return name, shape, cursor.number("I"), cursor.number("Q")


def _lazy(
    path: pathlib.Path, name: str, shape: tuple[int, ...], kind: int, start: int, size: int
) -> Tensor:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise _Damaged(f"tensor {name!r:.60} of the unknown type {kind}") from None
    columns = shape[-1] if shape else 1
    if columns % block:
        raise _Damaged(f"tensor {name!r:.60} with rows of {columns}, no whole blocks of {block}")
    count = 1
    for extent in shape:  # exact: these are Python's integers
        count *= extent
    nbytes = count // block * block_bytes
    if start + nbytes > size:
        raise _Damaged(f"tensor {name!r:.60} ends at {start + nbytes} of {size} bytes")

    def read() -> np.ndarray:
        from gguf.quants import dequantize

        rows = (*shape[:-1], columns // block * block_bytes)
        data = np.memmap(path, np.uint8, "r", start, rows) if nbytes else np.empty(rows, np.uint8)
        try:
            value = dequantize(data, GGMLQuantizationType(kind))
        except NotImplementedError:
            raise InputError(
                f"file {path} must be quantised in a way that is read, {name} has type "
                f"{GGMLQuantizationType(kind).name}; take another quantisation"
            ) from None
        return np.array(value, np.float32).reshape(shape)

    return Tensor(shape, np.dtype(np.float32), read)
