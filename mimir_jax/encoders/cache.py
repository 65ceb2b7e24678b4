# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a frozen network made of some content, kept by the content itself."""

import collections
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def content_key(*parts: str | bytes | np.ndarray) -> bytes:
    """Hashes strings, bytes and arrays (their shape and dtype included)."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            part = np.ascontiguousarray(part).tobytes()
        elif isinstance(part, str):
            part = part.encode()
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def tree_digest(tree: Any) -> str:
    """Hashes a tree of arrays, names, shapes and dtypes included; one leaf at a time is on host."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    keys = (
        content_key(jax.tree_util.keystr(path), np.asarray(jax.device_get(leaf)))
        for path, leaf in leaves
    )
    return content_key(*keys).hex()


class ContentCache:
    """Least-recently-used store of numpy pytrees, bounded in bytes."""

    def __init__(self, max_bytes: int = 4 << 30):
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: collections.OrderedDict[bytes, Any] = collections.OrderedDict()
        self.hits = 0
        self.misses = 0

    def get(self, key: bytes, compute: Callable[[], Any]) -> Any:
        """Returns the entry of `key`, computing and keeping it at the first request."""
        if key in self._entries:
            self.hits += 1
            self._entries.move_to_end(key)
            return self._entries[key]
        self.misses += 1
        entry = jax.device_get(compute())
        self._entries[key] = entry
        self._bytes += _size(entry)
        while self._bytes > self._max_bytes and len(self._entries) > 1:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= _size(oldest)
        return entry


def _size(entry: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(entry))
