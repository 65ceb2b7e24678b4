# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The mesh and rule table in force, and the activation constraint that models call."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array

from mimir_jax.parallel import rules as rules_lib

_CURRENT: contextvars.ContextVar[tuple[Mesh, rules_lib.Rules] | None] = contextvars.ContextVar(
    "mimir_jax_mesh", default=None
)


@contextlib.contextmanager
def use(mesh: Mesh, rules: rules_lib.Rules) -> Iterator[None]:
    """Makes `constrain` place activations on `mesh` by `rules` inside the block."""
    token = _CURRENT.set((mesh, rules))
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextlib.contextmanager
def local() -> Iterator[None]:
    """Leaves arrays where they are inside the block, or inside the function that this decorates.

    For what a process does with rows of its own: a mesh of many processes would make it a program
    that all of them must run together.
    """
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def constrain(x: Array, *axes: str | None) -> Array:
    """Shards an activation by its logical axes; the identity where no mesh is set.

    Raises:
        ValueError: if `axes` does not name every dimension of `x`.
    """
    if len(axes) != x.ndim:
        raise ValueError(f"constrain needs one axis per dimension, got {axes} for shape {x.shape}")
    if (current := _CURRENT.get()) is None:
        return x
    mesh, rules = current
    spec = rules_lib.spec(axes, rules, mesh, shape=x.shape)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))
