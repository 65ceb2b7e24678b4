# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Digests that name content: of strings, arrays, parameter trees and files.

Stored features, manifests and data splits hold these digests: the same content must have the same
digest in every version.
"""

import hashlib
import pathlib
from typing import Any

import numpy as np


def content_key(*parts: str | bytes | np.ndarray) -> bytes:
    """Returns the 16-byte BLAKE2b digest of strings, bytes and arrays with their shape and dtype.

    Each part enters with its length, so that ("ab", "c") and ("a", "bc") differ.
    """
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
    """Returns the hex digest of a tree of arrays: names, shapes, dtypes and values.

    Only one leaf at a time is in host memory.
    """
    import jax  # the other digests are needed where JAX is not loaded

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    keys = (
        content_key(jax.tree_util.keystr(path), np.asarray(jax.device_get(leaf)))
        for path, leaf in leaves
    )
    return content_key(*keys).hex()


def sha256(content: str | bytes) -> str:
    """Returns the hex SHA-256 of bytes, or of a string as UTF-8.

    A file name that is not UTF-8 counts as its bytes, which Python holds as lone surrogates.
    """
    content = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: pathlib.Path) -> str:
    """Returns the hex SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
