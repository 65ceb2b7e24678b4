# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import hashlib

import numpy as np

from mimir_jax import hashing

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_digests_never_change():
    """Stored features and manifests hold them."""
    assert hashing.content_key("ab", b"c", ARRAY).hex() == "25fe52261a61bfd207795c77b9c7f65c"
    tree = {"a": ARRAY, "b": {"c": ARRAY[0]}}
    assert hashing.tree_digest(tree) == "19643bc7c5728b89f284709df68342b8"


def test_content_differs_by_parts_shape_and_dtype():
    contents = [("ab", "c"), ("a", "bc"), (ARRAY,), (ARRAY.T,), (ARRAY.astype(np.int32),)]
    assert len({hashing.content_key(*parts) for parts in contents}) == len(contents)


def test_sha256_of_text_and_files(tmp_path):
    (tmp_path / "a").write_bytes("é".encode())
    expected = hashlib.sha256("é".encode()).hexdigest()
    assert hashing.sha256("é") == hashing.sha256_file(tmp_path / "a") == expected
