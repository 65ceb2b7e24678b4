# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""From opened weights to parameters in memory, one at a time and straight into their shards."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from mimir_jax.config import Quantization
from mimir_jax.errors import InputError
from mimir_jax.models import functional, params, quantization
from mimir_jax.parallel import rules as sharding_rules
from mimir_jax.weights import adapter_files, adapters, exported, opening, runs
from mimir_jax.weights import tensors as tensors_lib
from mimir_jax.weights.tensors import Tensors


def load(
    path: str | os.PathLike[str],
    *,
    dtype: DTypeLike | None = None,
    mesh: Mesh | None = None,
    kind: str | None = None,
    lora: Sequence[str | os.PathLike[str]] = (),
    quantize: Quantization = "off",
) -> tuple[functional.Model, functional.Params]:
    """Opens a network with its weights, published or our own; its `config.json` decides.

        model, params = mimir_jax.load("CogVideoX-2b/transformer")
        velocity = model.apply(params, latents, text, timestep)

    Args:
        path: Folder of transformers, diffusers or this package, a run, a `.gguf` file, a SAT
            checkpoint of CogVideoX, `package:NAME` for what ships with the package, or `gguf:NAME`
            for the GGUF file in the installed Python package NAME.
        dtype: Dtype of parameters and compute. None computes in the dtype that published weights
            are stored in, or that a folder of ours names, and keeps parameters stored wider.
        mesh: Puts parameters on this mesh, split over its `fsdp` and `tensor` axes.
        kind: Refuses networks of another kind (a key of `config.KINDS`). `vit` also opens the tower
            of a LLaVA, `clip` both towers of a CLIP, which without a kind is its image tower, and
            `image_vae` the VAE in the file of a de-tokenizer of Divot.
        lora: Files of adapters to merge, each `FILE` or `FILE:SCALE`.
        quantize: Gives a network for inference with 8-bit kernels, quantised one by one as they are
            read; see `models.quantization`.

    Returns:
        The network and its parameters, a nested dict of arrays.

    Raises:
        ValueError: in one line, for anything wrong with the weights.
    """
    opened = adapters.merged(opening.open_weights(path, kind=kind), lora)
    check_kind(opened, kind)
    config = opened.config
    if dtype is not None:
        config = opened.family.with_dtype(config, str(np.dtype(dtype)))
    model = quantization.quantized(opened.family.build(config), quantize)
    compute = _compute_dtype(config)
    target = {
        name: np.dtype(dtype) if dtype is not None else jnp.promote_types(tensor.dtype, compute)
        for name, tensor in opened.params.items()
    }
    return model, _put(opened.params, model, target, mesh)


def load_run(
    workdir: pathlib.Path,
    model: functional.Model,
    *,
    step: int | None = None,
    mesh: Mesh | None = None,
    lora: Sequence[str | os.PathLike[str]] = (),
) -> functional.Params:
    """Loads the parameters of a run into its network, which may be of any system.

    The average is taken where the run keeps one, and adapters are merged.

    Args:
        workdir: The run.
        model: Its network, `System.model`; kernels of a quantised one are quantised as they are
            read.
        step: A kept step; None takes the newest.
        mesh: Puts the parameters on this mesh, split over its `fsdp` and `tensor` axes.
        lora: Files of adapters to merge, each `FILE` or `FILE:SCALE`.

    Raises:
        InputError: if there is no such checkpoint, or it is damaged or of another network.
    """
    adapter_files.require_network(workdir)
    quantized = isinstance(model, quantization.Quantized)
    plain = model.plain if quantized else model
    plain = getattr(plain, "plain", plain)  # adapters are merged
    if exported.is_exported(workdir):
        tensors = opening.open_weights(workdir).params
    else:
        _, _, stored = runs.open_run(workdir, step)
        tensors = opening.check_params(workdir, params.flatten(plain.abstract_params), stored)
    tensors = adapters.merge(tensors, plain.config, [adapters.parse(text) for text in lora])
    compute = _compute_dtype(plain.config)
    target = {name: jnp.promote_types(x.dtype, compute) for name, x in tensors.items()}
    return _put(tensors, model if quantized else plain, target, mesh)


def read(path: str | os.PathLike[str], *, dtype: str) -> tuple[opening.Weights, functional.Params]:
    """Reads parameters into host memory as numpy arrays of `dtype`, with what they are."""
    opened = opening.open_weights(path)
    cast = np.dtype(dtype)
    values = {n: tensors_lib.cast(n, x.read(), cast) for n, x in opened.params.items()}
    return opened, params.unflatten(values)


def check_kind(opened: opening.Weights, kind: str | None) -> None:
    """Raises `ValueError` unless the weights are of `kind`; None takes any."""
    if kind is not None and opened.family.kind != kind:
        raise InputError(
            f"weights {opened.path} must hold a {kind}, got a {opened.family.kind}; "
            "choose another folder"
        )


def _put(
    tensors: Tensors, model: functional.Model, dtypes: Mapping[str, np.dtype], mesh: Mesh | None
) -> functional.Params:
    """Reads tensors one by one onto the default device or into their shards on `mesh`.

    Of a quantised network, one floating-point kernel at a time is in memory.
    """
    shardings: dict[str, Any] = {}
    if mesh is not None:
        table = sharding_rules.table("fsdp")
        shardings = params.flatten(
            sharding_rules.param_shardings(model.abstract_params, model.axes, table, mesh)
        )
    how = model.how if isinstance(model, quantization.Quantized) else "off"
    targets = set() if how == "off" else set(model.targets)
    values: dict[str, Any] = {}
    for name, tensor in tensors.items():
        value = tensors_lib.cast(name, tensor.read(), np.dtype(dtypes[name]))
        parts = None
        if name in targets and mesh is not None:
            parts = tuple(shardings[f"{name}/{part}"] for part in quantization.PARTS)
        place = shardings.get(name) if parts is None else parts[0]
        value = jax.device_put(value, place)  # compiles nothing, unlike asarray
        values[name] = quantization.quantize(value, how, parts) if name in targets else value
    return params.unflatten(values)


def _compute_dtype(config: Any) -> np.dtype:
    config = getattr(config, "dit", config)
    return np.dtype(getattr(config, "dtype", "float32"))
