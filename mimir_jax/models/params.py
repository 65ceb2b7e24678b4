# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Nested parameter dicts and their flat form with `/`-joined paths."""

from typing import Any

import numpy as np

from mimir_jax.errors import InputError
from mimir_jax.models.functional import Params


def flatten(params: Params, prefix: str = "") -> dict[str, Any]:
    """Flattens a nested dict to `/`-joined names."""
    out = {}
    for name, value in params.items():
        if isinstance(value, dict):
            out.update(flatten(value, f"{prefix}{name}/"))
        else:
            out[f"{prefix}{name}"] = value
    return out


def unflatten(flat: dict[str, Any]) -> Params:
    """Inverse of `flatten`."""
    tree: Params = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = value
    return tree


def prune(params: Params, keep: Params) -> Params:
    """Returns the leaves of `params` where the tree of bools `keep` is True, and nothing else."""
    kept = flatten(keep)
    return unflatten({name: leaf for name, leaf in flatten(params).items() if kept[name]})


def replace(params: Params, part: Params) -> Params:
    """Returns `params` with the leaves of `part`, some of theirs, in their place."""
    return unflatten({**flatten(params), **flatten(part)})


def overlay(params: Params, loaded: Params, *, source: str) -> tuple[Params, list[str]]:
    """Puts `loaded` over freshly drawn `params`.

    Returns:
        The merged tree and the names that `loaded` lacks.

    Raises:
        ValueError: if `loaded` has a name or shape that `params` has not.
    """
    target, given = flatten(params), flatten(loaded)
    wrong = [
        f"{name} {tuple(np.shape(x))}"
        for name, x in given.items()
        if name not in target or tuple(target[name].shape) != tuple(np.shape(x))
    ]
    if wrong:
        raise InputError(
            f"weights {source} must fit the model: {len(wrong)} parameters do not, "
            f"such as {', '.join(wrong[:3])}; use the config they were trained with"
        )
    return unflatten({**target, **given}), [name for name in target if name not in given]
