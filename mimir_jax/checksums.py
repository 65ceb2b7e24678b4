# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Checksums of stored values, by which a flipped bit is noticed when they are read again.

That of an array is a sum over its elements, modulo 2^32: the bits of each element are mixed, then
multiplied by an odd number that depends on its place. Any change of one element changes the sum,
and the parts of an array that is split over devices add up, whatever the split
(`training.checkpoint` computes the same sum on the devices).
"""

import concurrent.futures
import json
import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mimir_jax.errors import InputError

MIX = 0x85EBCA6B
SHIFT = 15

_ROWS, _COLUMNS = 64, 1024  # of a piece, which stays in the cache
_ROW_NUMBERS = np.arange(_ROWS, dtype=np.uint32)
_WEIGHTS = 2 * np.arange(_COLUMNS, dtype=np.uint32) + 1
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint32}


def of_array(value: np.ndarray) -> str:
    """Returns the checksum of an array's elements in order, as 8 hex digits.

    An element of 8 bytes counts as two of 4, the lower first. Shape and dtype do not enter.
    """
    words = np.ascontiguousarray(value).reshape(-1).view(_WORDS[value.dtype.itemsize])
    starts = range(0, len(words), _ROWS * _COLUMNS)
    if len(starts) < 16:
        total = sum(_piece(words, start) for start in starts)
    else:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            total = sum(pool.map(lambda start: _piece(words, start), starts))
    return as_text(total)


def as_text(total: int) -> str:
    """Returns a sum as 8 hex digits."""
    return f"{total % (1 << 32):08x}"


def of_file(path: pathlib.Path) -> str:
    """Returns the CRC-32 of a file, as 8 hex digits."""
    return f"{zlib.crc32(path.read_bytes()):08x}"


def of_json(content: Any) -> str:
    """Returns the CRC-32 of a JSON value, whose spelling does not enter."""
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def check(stored: Mapping[str, str], name: str, value: np.ndarray) -> np.ndarray:
    """Returns an array that was read, having compared it with the checksum stored for it.

    Raises:
        InputError: if there is none, or another one.
    """
    if name not in stored or of_array(value) != stored[name]:
        reason = "no checksum" if name not in stored else "other values than were written"
        raise InputError(f"{name} has {reason}")
    return value


def _piece(words: np.ndarray, start: int) -> int:
    """Returns the part of a sum that a piece adds, by the sums of its rows and columns."""
    mixed = words[start : start + _ROWS * _COLUMNS].astype(np.uint32, copy=False) * np.uint32(MIX)
    mixed ^= mixed >> np.uint32(SHIFT)
    if rest := -len(mixed) % _COLUMNS:
        mixed = np.concatenate([mixed, np.zeros(rest, np.uint32)])
    grid = mixed.reshape(-1, _COLUMNS)
    columns, rows = grid.sum(0, dtype=np.uint32), grid.sum(1, dtype=np.uint32)
    total = int((columns * _WEIGHTS).sum(dtype=np.uint32))
    total += 2 * _COLUMNS * int((rows * _ROW_NUMBERS[: len(rows)]).sum(dtype=np.uint32))
    return total + 2 * start * int(rows.sum(dtype=np.uint32))
