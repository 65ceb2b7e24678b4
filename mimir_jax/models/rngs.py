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
        params: Seed or key.
    """

    def __init__(self, *, params: int | jax.Array):
        self._key = jax.random.key(params) if isinstance(params, int) else params
        self._count = 0

    def params(self) -> jax.Array:
        """Returns the next key."""
        key = jax.random.fold_in(self._key, self._count)
        self._count += 1
        return key
