# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Parameters as nested dicts of arrays, and as flat dicts with `/`-joined paths."""

from typing import Any

import numpy as np

from mimir_jax.errors import InputError

Params = dict[str, Any]
"""Nested dict whose leaves are arrays, or whatever describes one (shapes, axes, shardings)."""


def flatten(params: Params, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of a nested dict by their `/`-joined paths."""
    out = {}
    for name, value in params.items():
        if isinstance(value, dict):
            out.update(flatten(value, f"{prefix}{name}/"))
        else:
            out[f"{prefix}{name}"] = value
    return out


def unflatten(flat: dict[str, Any]) -> Params:
    """Returns the nested dict of leaves by `/`-joined paths; the inverse of `flatten`."""
    tree: Params = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = value
    return tree


def prune(params: Params, keep: Params) -> Params:
    """Returns `params` without the leaves where the tree of bools `keep` is False."""
    kept = flatten(keep)
    return unflatten({name: leaf for name, leaf in flatten(params).items() if kept[name]})


def replace(params: Params, part: Params) -> Params:
    """Returns `params` with the leaves of `part`, a subset of its paths, in place of its own."""
    return unflatten({**flatten(params), **flatten(part)})


def overlay(params: Params, loaded: Params, *, source: str) -> tuple[Params, list[str]]:
    """Puts `loaded` in place of freshly drawn `params`.

    Args:
        params: Every parameter of the network.
        loaded: Some of them.
        source: Names the origin of `loaded` in errors.

    Returns:
        The merged tree and the paths that `loaded` lacks.

    Raises:
        InputError: if `loaded` has a path or shape that `params` has not.
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
