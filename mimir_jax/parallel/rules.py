# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Logical axis to mesh axis tables, one per strategy, and the specs they give."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mimir_jax.errors import InputError

MeshAxes = str | tuple[str, ...] | None
Rules = Mapping[str, MeshAxes]
AnyMesh = Mesh | AbstractMesh

_ACTIVATIONS: Rules = {
    "act_batch": ("data", "fsdp"),
    "act_length": "context",
    "act_embed": None,
    "act_queries": None,  # inside attention the sequence is whole and heads are split
    "act_columns": "tensor",  # of queries, keys and values before they are heads
    "act_heads": ("tensor", "context"),  # each cuts up the heads that it has of `tensor`
    "act_mlp": "tensor",
    "act_frames": None,
    "act_height": "context",
    "act_width": None,
    "act_channels": None,
}

_REPLICATED: Rules = {
    name: None for name in "embed mlp heads head_dim vocab conv_in conv_out norm layers".split()
}

STRATEGIES: dict[str, Rules] = {
    # Parameters and optimizer state split over `fsdp`, matrices also over `tensor`.
    "fsdp": {
        **_ACTIVATIONS,
        **_REPLICATED,
        "embed": "fsdp",
        "mlp": "tensor",
        "heads": "tensor",
        "vocab": "tensor",
        "conv_out": "fsdp",
    },
    # Every device holds all parameters; only activations are split.
    "replicated": {**_ACTIVATIONS, **_REPLICATED},
}

_RING: Rules = {"act_queries": "context", "act_heads": "tensor"}


def table(strategy: str, context_parallel: str = "ulysses") -> Rules:
    """Returns the table of a strategy, with one form of context parallelism in attention.

    Args:
        strategy: A key of `STRATEGIES`.
        context_parallel: `ulysses` splits heads over `context` inside attention, `ring` leaves the
            sequence split and passes keys and values around.
    """
    return {**STRATEGIES[strategy], **(_RING if context_parallel == "ring" else {})}


def mesh_axes(axis: str, rules: Rules) -> tuple[str, ...]:
    """Returns the mesh axes of a logical axis."""
    target = rules[axis]
    return (target,) if isinstance(target, str) else tuple(target or ())


def spec(
    axes: Sequence[str | None], rules: Rules, mesh: AnyMesh, *, shape: Sequence[int] | None = None
) -> P:
    """Returns the partition spec of an array whose dimensions are `axes`.

    A dimension that its mesh axes do not divide stays whole when `shape` is given; so does one
    whose mesh axes have size one.

    Raises:
        ValueError: for an axis the table does not know, or a mesh axis used twice.
    """
    parts: list[MeshAxes] = []
    used: set[str] = set()
    for dim, axis in enumerate(axes):
        if axis is not None and axis not in rules:
            raise InputError(f"unknown logical axis {axis!r}; the table knows {sorted(rules)}")
        names = mesh_axes(axis, rules) if axis is not None else ()
        names = tuple(name for name in names if mesh.shape.get(name, 1) > 1)
        shards = math.prod(mesh.shape[name] for name in names)
        if shape is not None and shape[dim] % shards:
            names = ()
        if clash := used & set(names):
            raise InputError(f"mesh axis {sorted(clash)} used twice for logical axes {axes}")
        used |= set(names)
        parts.append(names[0] if len(names) == 1 else names or None)
    return P(*parts)


def param_shardings(abstract: Any, axes: Any, rules: Rules, mesh: AnyMesh) -> Any:
    """Returns the `NamedSharding` of every parameter.

    Args:
        abstract: Nested dict of `ShapeDtypeStruct`s.
        axes: The same structure with a tuple of logical axes at each leaf.
        rules: One table of `STRATEGIES`.
        mesh: The device mesh, or its sizes alone.

    Raises:
        ValueError: for a parameter without axes, an unknown axis or a mesh axis used twice.
    """

    def one(path, leaf, names):
        where = jax.tree_util.keystr(path, simple=True, separator=".")
        if len(names) != leaf.ndim:
            raise InputError(f"parameter {where} needs {leaf.ndim} axes, got {names}")
        try:
            return NamedSharding(mesh, spec(names, rules, mesh, shape=leaf.shape))
        except ValueError as error:
            raise InputError(f"parameter {where}: {error}") from None

    return jax.tree_util.tree_map_with_path(
        one, abstract, axes, is_leaf=lambda x: isinstance(x, jax.ShapeDtypeStruct)
    )
