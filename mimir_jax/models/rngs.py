# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Keys for the initial parameters of modules."""

import jax


class Rngs:
    """A stream of keys that gives those of `nnx.Rngs(params=key)`, counted in Python.

    `nnx.Rngs` counts in an array. While a module is traced, each of its keys then searches all
    that was traced before for the origin of that array: in networks of hundreds of parameters
    outside a scanned stack, most of the time to build them.

    Args:
        params: Seed or key; None builds modules of shapes alone, for which nothing is traced.
    """

    def __init__(self, *, params: int | jax.Array | None):
        self._key = jax.random.key(params) if isinstance(params, int) else params
        self._count = 0

    def params(self) -> jax.Array | None:
        """Returns the next key, None if there are none."""
        if self._key is None:
            return None
        key = jax.random.fold_in(self._key, self._count)
        self._count += 1
        return key
