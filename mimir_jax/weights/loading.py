# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""From opened weights to parameters in memory, one at a time and straight into their shards."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from mimir_jax.errors import InputError
from mimir_jax.models import functional, params
from mimir_jax.parallel import rules as sharding_rules
from mimir_jax.weights import opening


def load(
    path: str | os.PathLike[str],
    *,
    dtype: DTypeLike | None = None,
    mesh: Mesh | None = None,
    kind: str | None = None,
) -> tuple[functional.Model, functional.Params]:
    """Opens a network with its weights, published or our own; its `config.json` decides.

        model, params = mimir_jax.load("CogVideoX-2b/transformer")
        velocity = model.apply(params, latents, text, timestep)

    Args:
        path: Folder of transformers, diffusers or this package, a run, a `.gguf` file, a SAT
            checkpoint of CogVideoX, or `package:NAME` for what ships with the package.
        dtype: Dtype of parameters and compute. None computes in the dtype that published weights
            are stored in, or that a folder of ours names, and keeps parameters stored wider.
        mesh: Puts parameters on this mesh, split over its `fsdp` and `tensor` axes.
        kind: Refuses networks of another kind (a key of `config.KINDS`).

    Returns:
        The network and its parameters, a nested dict of arrays.

    Raises:
        ValueError: in one line, for anything wrong with the weights.
    """
    opened = opening.open_weights(path)
    check_kind(opened, kind)
    config = opened.config
    if dtype is not None:
        config = opened.family.with_dtype(config, str(np.dtype(dtype)))
    model = opened.family.build(config)
    compute = _compute_dtype(config)
    target = {
        name: np.dtype(dtype) if dtype is not None else jnp.promote_types(tensor.dtype, compute)
        for name, tensor in opened.params.items()
    }
    if mesh is None:
        place = dict.fromkeys(target)
    else:
        table = sharding_rules.table("fsdp")
        axes = model.axes
        place = params.flatten(
            sharding_rules.param_shardings(model.abstract_params, axes, table, mesh)
        )
    values = {}
    for name, tensor in opened.params.items():
        value = tensor.read().astype(target[name], copy=False)
        values[name] = jax.device_put(value, place[name])  # compiles nothing, unlike asarray
    return model, params.unflatten(values)


def read(path: str | os.PathLike[str], *, dtype: str) -> tuple[opening.Weights, functional.Params]:
    """Reads parameters into host memory as numpy arrays of `dtype`, with what they are."""
    opened = opening.open_weights(path)
    values = {name: x.read().astype(dtype, copy=False) for name, x in opened.params.items()}
    return opened, params.unflatten(values)


def check_kind(opened: opening.Weights, kind: str | None) -> None:
    """Raises `ValueError` unless the weights are of `kind`; None takes any."""
    if kind is not None and opened.family.kind != kind:
        raise InputError(
            f"weights {opened.path} must hold a {kind}, got a {opened.family.kind}; "
            "choose another folder"
        )


def _compute_dtype(config: Any) -> np.dtype:
    return np.dtype(getattr(config, "dtype", None) or config.dit.dtype)
