# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The adapters of a run in the form that diffusers loads, `pipeline.load_lora_weights(FOLDER)`."""

from collections.abc import Mapping

import numpy as np

from mimir_jax.config import DiTConfig, LoraConfig
from mimir_jax.errors import InputError
from mimir_jax.models import lora
from mimir_jax.weights import dit
from mimir_jax.weights.rules import LINEAR

FILE = "pytorch_lora_weights"
"""Name, without suffix, that diffusers looks for in a folder."""


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
