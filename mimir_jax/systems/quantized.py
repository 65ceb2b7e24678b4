# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Inference with quantised networks: the transformer and the frozen encoders of a run."""

import copy
import dataclasses

from mimir_jax.config import Quantization, TrainConfig, bridge
from mimir_jax.errors import require
from mimir_jax.models import quantization
from mimir_jax.systems import base


def with_frozen(config: TrainConfig, how: Quantization) -> TrainConfig:
    """Returns a run whose frozen text and multimodal encoders are quantised."""
    system = bridge.replace_everywhere(config.system, "quantize", how)
    return dataclasses.replace(config, system=system)


def with_network(system: base.System, how: Quantization) -> base.System:
    """Returns a system whose network is quantised, for inference alone.

    Args:
        system: The system.
        how: As in `models.quantization`; `off` changes nothing.

    Raises:
        InputError: for a network without a transformer of repeated blocks, or without qwix.
    """
    if how == "off":
        return system
    require(
        system.backbone is not None,
        f"--quantize must be off for a run of {system.config.kind}, which has no transformer of "
        f"repeated blocks, got {how}; leave --quantize out",
    )
    made = copy.copy(system)
    made.model = quantization.quantized(system.model, how)
    return made
