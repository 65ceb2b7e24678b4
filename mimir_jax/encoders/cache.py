# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A content-addressed cache of what frozen networks computed."""

import collections
from collections.abc import Callable
from typing import Any

import jax


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
