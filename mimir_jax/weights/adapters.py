# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters out of files and into them: merged, trained further, and exported.

What is exported is what diffusers loads, `pipeline.load_lora_weights(FOLDER)`.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from mimir_jax import files, remote
from mimir_jax.config import (
    DiTConfig,
    DiTDetokenizerConfig,
    DivotConfig,
    LoraConfig,
    MimirConfig,
    flag,
)
from mimir_jax.errors import InputError, listed
from mimir_jax.models import lora
from mimir_jax.models import params as params_lib
from mimir_jax.weights import adapter_files, dit, exported, family, opening
from mimir_jax.weights import rules as rules_lib
from mimir_jax.weights import tensors as tensors_lib
from mimir_jax.weights.rules import LINEAR, Rule
from mimir_jax.weights.tensors import Tensor, Tensors


@dataclasses.dataclass(frozen=True)
class Source:
    """A file or folder of adapters and the strength to merge them with.

    Attributes:
        path: Where they are.
        scale: Factor on top of alpha over rank.
    """

    path: pathlib.Path
    scale: float = 1.0


def parse(text: str | os.PathLike[str]) -> Source:
    """Returns what `FILE[:SCALE]` names; FILE may be a folder, and one of remote storage.

    Raises:
        InputError: if there is no such file, or the scale is no finite number.
    """
    text = os.fspath(text)
    head, colon, tail = text.rpartition(":")
    is_whole = not colon or head == "package" or "/" in tail  # the colon of gs://bucket/adapters
    if is_whole or (not remote.is_address(text) and files.expand_path(text).exists()):
        return Source(opening.resolve(text))
    try:
        scale = float(tail)
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale):
        raise InputError(
            f"adapters must be FILE or FILE:SCALE with a finite number, got {text}; a scale of 1 "
            "merges them as they trained"
        )
    return Source(opening.resolve(head), scale)


def merged(opened: opening.Weights, texts: Sequence[str | os.PathLike[str]]) -> opening.Weights:
    """Returns opened weights with the adapters that `texts` name merged into them."""
    sources = [parse(text) for text in texts]
    known, name, raw = opened.family, opened.class_name, opened.raw
    params = merge(opened.params, opened.config, sources, known=known, name=name, raw=raw)
    return dataclasses.replace(opened, params=params)


def merge(
    params: Tensors,
    config: Any,
    sources: Sequence[Source],
    *,
    known: family.Family | None = None,
    name: str | None = None,
    raw: family.Raw | None = None,
) -> Tensors:
    """Returns parameters with adapters merged into them, each when it is read.

    The sum is formed in float32 and rounded once to the dtype of the parameter.

    Args:
        params: Parameters by path.
        config: The network.
        sources: Adapters, in the order in which they are added.
        known: Its kind; None for one with a video transformer.
        name: Its published class, None for our own.
        raw: Its published config.

    Raises:
        InputError: for adapters of other layers than the network has.
    """
    if not sources:
        return params
    below, table, abstract = _part(config, known, name, raw or {})
    shapes = rules_lib.expected_shapes(table, abstract)
    for source in sources:
        factors = _bind(source.path, adapter_files.open_file(source.path), shapes)
        params = {**params, **_conditioners(source.path, config, params)}
        for rule in table:
            path = f"{below}{rule.path}"
            layers = range(params[path].shape[0] if rule.stacked else 1)
            if any(name in factors for layer in layers for name in rule.tensors(layer)):
                params[path] = _merged(path, rule, params[path], factors, shapes, source.scale)
    return params


def _merged(
    path: str,
    rule: Rule,
    tensor: Tensor,
    factors: Mapping[str, adapter_files.Factors],
    shapes: Mapping[str, tuple[int, ...]],
    scale: float,
) -> Tensor:
    def part(name: str) -> np.ndarray:
        if name not in factors:
            return np.zeros(shapes[name], np.float32)
        return np.float32(scale) * factors[name].product(shapes[name])

    def read() -> np.ndarray:
        value = np.array(tensor.read(), np.float32)
        for layer, row in enumerate(value if rule.stacked else value[None]):
            names = rule.tensors(layer)
            if any(name in factors for name in names):
                row += rule.import_layer([part(name) for name in names])
        return tensors_lib.cast(path, value, tensor.dtype)

    return tensors_lib.finite(path, Tensor(tensor.shape, tensor.dtype, read), "with adapters")


def _part(
    config: Any, known: family.Family | None, name: str | None, raw: family.Raw
) -> tuple[str, list[Rule], rules_lib.Abstract]:
    """Returns where the part with adapters is in a network, its table and its shapes."""
    below, inner = "", config
    if isinstance(config, MimirConfig):
        below, inner, known = "dit/", config.dit, None
    elif isinstance(config, DivotConfig) and isinstance(config.detokenizer, DiTDetokenizerConfig):
        below, inner, known = "detokenizer/dit/", config.detokenizer.dit, None
    if known is None and isinstance(inner, DiTConfig):
        known = dit.DiT()
    if not isinstance(known, family.Published):
        raise InputError(
            "adapters must be of a published network or of a video transformer, the checkpoint "
            f"has a {type(config).__name__}; leave them out"
        )
    return below, known.table(inner, name or known.classes[0], raw), known.abstract(inner)


def _bind(
    path: pathlib.Path,
    factors: Mapping[str, adapter_files.Factors],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, adapter_files.Factors]:
    """Returns adapters by the published name of the tensor that they change."""
    names = {
        adapter_files.plain(name.removesuffix(".weight")): name
        for name in shapes
        if name.endswith(".weight")
    }
    if unknown := [layer for layer in factors if layer not in names]:
        raise InputError(
            f"adapters {path} must be of layers of the network, {len(unknown)} of {len(factors)} "
            f"are not: {listed(unknown)}; name those of this network"
        )
    out = {names[layer]: pair for layer, pair in factors.items()}
    wrong = [
        f"{name} {pair.b.shape} {pair.a.shape} for {shapes[name]}"
        for name, pair in out.items()
        if (pair.b.shape[0], math.prod(pair.a.shape[1:]), math.prod(pair.b.shape[1:]))
        != (shapes[name][0], math.prod(shapes[name][1:]), pair.a.shape[0])
    ]
    if wrong:
        raise InputError(
            f"adapters {path} must fit the layers of the network, {len(wrong)} do not: "
            f"{listed(wrong)}; name those of this size"
        )
    return out


def _conditioners(path: pathlib.Path, config: Any, params: Tensors) -> Tensors:
    """Returns fuser and stabilizer where they were exported beside adapters of a Mimir."""
    found = exported.read_parts(path) if path.is_dir() else {}
    if not found:
        return {}
    if not isinstance(config, MimirConfig):
        logging.warning("adapters %s: %d tensors of a Mimir not read", path, len(found))
        return {}
    wrong = [n for n, x in found.items() if n not in params or params[n].shape != x.shape]
    if wrong:
        raise InputError(
            f"adapters {path} must have the fuser and stabilizer of the network, {len(wrong)} "
            f"parameters differ: {listed(wrong)}; name the checkpoint that they trained on"
        )
    return {name: tensors_lib.finite(name, x, str(path)) for name, x in found.items()}


def read_start(path: str, model: lora.Adapted) -> dict[str, Any]:
    """Reads adapters to go on training, with the fuser and stabilizer exported beside them.

    Args:
        path: File or folder.
        model: The network with adapters.

    Returns:
        Their parameters as a nested dict of numpy arrays in float32.

    Raises:
        InputError: unless they have the rank and the layers of the run.
    """
    place = opening.resolve(path)
    plain_shapes = {n: x.shape for n, x in params_lib.flatten(model.plain.abstract_params).items()}
    below, table, abstract = _part(model.config, None, None, {})
    shapes = rules_lib.expected_shapes(table, abstract)
    found = _bind(place, adapter_files.open_file(place), shapes)
    by_path = {f"{below}{rule.path}": rule for rule in table}
    flat: dict[str, np.ndarray] = {}
    for target in model.targets:
        rule = by_path[target]
        if rule.layout is not LINEAR or len(rule.names) > 1:
            raise InputError(
                f"adapters on {target} must be drawn, no file has them for a convolution; change "
                f"{flag('system.lora.targets')}"
            )
        count = plain_shapes[target][0] if rule.stacked else 1
        names = [rule.tensors(layer)[0] for layer in range(count)]
        if absent := [name for name in names if name not in found]:
            raise InputError(
                f"adapters {place} must be of the layers of the run, {len(absent)} are missing: "
                f"{listed(absent)}; change {flag('system.lora.targets')}"
            )
        pairs = [_factors(place, found.pop(name), model.lora) for name in names]
        for where, values in zip(lora.factor_paths(target), zip(*pairs, strict=True), strict=True):
            flat[where] = np.stack(values) if rule.stacked else values[0]
    if found:
        raise InputError(
            f"adapters {place} must be of the layers of the run, {len(found)} are of others: "
            f"{listed(list(found))}; change {flag('system.lora.targets')}"
        )
    own = {n: Tensor(tuple(shape), np.dtype(np.float32), np.empty) for n, shape in
           plain_shapes.items()}  # fmt: skip
    for name, tensor in _conditioners(place, model.config, own).items():
        flat[name] = tensor.read().astype(np.float32)
    return params_lib.unflatten(flat)


def _factors(
    place: pathlib.Path, pair: adapter_files.Factors, config: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Returns our two factors, the second scaled as the run scales them."""
    a, b = (x.read().astype(np.float32) for x in (pair.a, pair.b))
    if a.shape[0] != config.rank:
        raise InputError(
            f"adapters {place} must have the rank of the run, {config.rank}, got {a.shape[0]}; set "
            f"{flag('system.lora.rank')}={a.shape[0]}"
        )
    return a.T, (np.float32(pair.scale / config.scale) * b).T


def export(
    dit_config: DiTConfig, config: LoraConfig, params: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the factors of every adapted linear layer by the names of diffusers.

    `transformer.LAYER.lora_A.weight` is [rank, in] and `lora_B` [out, rank]. B includes the scale,
    because diffusers assumes that alpha is the rank.

    Args:
        dit_config: The adapted transformer.
        config: Scale of the adapters.
        params: The adapters by path, those of a Mimir under `lora/dit/`.

    Raises:
        ValueError: for an adapter on a layer that is a convolution there.
    """
    known = dit.DiT()
    table = {rule.path: rule for rule in known.rules(dit_config, known.classes[0])}
    out: dict[str, np.ndarray] = {}
    for target in lora.targets(params):
        rule = table[target.removeprefix("dit/")]
        if rule.layout is not LINEAR:
            raise InputError(
                f"adapters must be on linear layers to be exported, {target} is a convolution in "
                "diffusers; convert the run whole, without --adapters"
            )
        a, b = (params[path] for path in lora.factor_paths(target))
        b = np.float32(config.scale) * b
        if not rule.stacked:
            a, b = a[None], b[None]
        for layer, (rows, columns) in enumerate(zip(a, b, strict=True)):
            (name,) = rule.tensors(layer)
            prefix = f"transformer.{name.removesuffix('.weight')}"
            out[f"{prefix}.lora_A.weight"] = np.ascontiguousarray(rows.T)
            out[f"{prefix}.lora_B.weight"] = np.ascontiguousarray(columns.T)
    return out
