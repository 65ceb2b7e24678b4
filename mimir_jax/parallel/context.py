# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The mesh and rule table in force, and the activation constraint that models call."""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from mimir_jax.errors import InputError
from mimir_jax.parallel import rules as rules_lib

_CURRENT: contextvars.ContextVar[tuple[Mesh, rules_lib.Rules] | None] = contextvars.ContextVar(
    "mimir_jax_mesh", default=None
)


def use_mesh(
    mesh: Mesh | None, rules: rules_lib.Rules | None = None
) -> contextlib.AbstractContextManager:
    """Makes `constrain` shard activations over `mesh` inside the block.

    Args:
        mesh: The devices; None leaves the mesh that is already in force.
        rules: Logical to mesh axes; None takes the table `fsdp`.
    """
    if mesh is None:
        return contextlib.nullcontext()
    return _set((mesh, rules_lib.table("fsdp") if rules is None else rules))


@contextlib.contextmanager
def no_mesh() -> Iterator[None]:
    """Leaves arrays where they are inside the block, or inside the decorated function.

    Use it for work on the rows of one process: with a mesh of many processes in force, that work
    would become a program that all of them must run together.
    """
    with _set(None):
        yield


@contextlib.contextmanager
def in_32_bits() -> Iterator[None]:
    """Keeps JAX's default dtypes inside the block or function, also under `jax_enable_x64`.

    Indices and constants would take 64 bits there, and results other values.
    """
    with jax.enable_x64(False):
        yield


@contextlib.contextmanager
def _set(current: tuple[Mesh, rules_lib.Rules] | None) -> Iterator[None]:
    token = _CURRENT.set(current)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def num_shards(axis: str) -> int:
    """Returns the number of parts into which the mesh splits a logical axis; 1 without a mesh."""
    if (current := _CURRENT.get()) is None:
        return 1
    mesh, rules = current
    return math.prod(mesh.shape.get(name, 1) for name in rules_lib.mesh_axes(axis, rules))


def platform() -> str:
    """Returns the platform of the mesh's devices, or of the default device without a mesh."""
    if (current := _CURRENT.get()) is None:
        return jax.default_backend()
    return current[0].devices.flat[0].platform


def on_shards(
    function: Callable[..., Array],
    arrays: Sequence[Array | None],
    axes: Sequence[tuple[str | None, ...]],
) -> Array:
    """Calls `function` on every device with its shards of `arrays`; directly without a mesh.

    Args:
        function: Its result is shaped and split as its first argument.
        arrays: Arguments; a dimension that its mesh axes do not divide stays whole.
        axes: Logical axes of each.
    """
    if (current := _CURRENT.get()) is None:
        return function(*arrays)
    mesh, rules = current
    specs = tuple(
        P() if x is None else rules_lib.spec(names, rules, mesh, shape=x.shape)
        for x, names in zip(arrays, axes, strict=True)
    )
    call = jax.shard_map(
        function, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False
    )  # Pallas calls do not say over which axes their results vary
    return call(*arrays)


def constrain(x: Array, *axes: str | None) -> Array:
    """Shards an activation by its logical axes; the identity without a mesh.

    Raises:
        ValueError: if `axes` does not name every dimension of `x`.
    """
    if len(axes) != x.ndim:
        raise InputError(f"constrain needs one axis per dimension, got {axes} for shape {x.shape}")
    if (current := _CURRENT.get()) is None:
        return x
    mesh, rules = current
    spec = rules_lib.spec(axes, rules, mesh, shape=x.shape)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))
