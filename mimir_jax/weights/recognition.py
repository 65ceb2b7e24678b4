# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What published tensors are part of, whatever wrapped them: prefixes of names, sane configs."""

import dataclasses
import math
import re
from typing import Any

from mimir_jax.config import bridge
from mimir_jax.errors import InputError, listed
from mimir_jax.weights.tensors import Tensors

_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
BUFFERS = (
    r"(.*\.)?(position_ids|causal_mask|masked_bias|num_batches_tracked|attn_mask)",
    r"(.*\.)?((original_)?inv_freq|(cos|sin)_cached|freqs(_(cos|sin|cis))?)",
    r"(.*\.)?(self_attn|attention|attn)\.bias",  # a causal mask, named so since GPT-2
)
"""Names of tensors that are computed, not learned, which some libraries store all the same."""

_ALL = "module."  # of DistributedDataParallel, in front of every name
_LARGEST = 2**31 - 1
_COUNTED = ("num_layers", "layers_per_block")  # each has tensors of its own


def unwrapped(tensors: Tensors) -> Tensors:
    """Returns tensors without the names that compilation and sharding put among theirs."""
    named = {_WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
    while named and all(name.startswith(_ALL) for name in named):
        named = {name.removeprefix(_ALL): tensor for name, tensor in named.items()}
    if len(named) < len(tensors):
        raise InputError("tensors must have different names without _orig_mod. and its kin")
    return named


def prefix(tensors: Tensors, anchor: str) -> str | None:
    """Returns what stands before the name `anchor`, a regular expression; None if none has it."""
    for name in tensors:
        if match := re.fullmatch(rf"((?:.*\.)?){anchor}", name):
            return match[1]
    return None


def rooted(tensors: Tensors, anchor: str) -> Tensors:
    """Returns tensors whose names begin where `anchor` does; others keep theirs."""
    before = prefix(tensors, anchor) if anchor else None
    if not before:
        return tensors
    return {name.removeprefix(before): tensor for name, tensor in tensors.items()}


def check_config(config: Any, tensors: Tensors) -> None:
    """Checks that the config of a network has values of the right types and sane sizes.

    Raises:
        InputError: naming the field.
    """
    values = dataclasses.asdict(config)
    bridge.from_values(type(config), values)
    for name, value in _numbers(values):
        if abs(value) > _LARGEST or not math.isfinite(value):
            raise InputError(f"config.json must give a sane {name}, got {value!r:.40}")
        if name.endswith(("eps", "theta")) and value <= 0:
            raise InputError(f"config.json must give a positive {name}, got {value!r}")
    for name in _COUNTED:
        if (count := values.get(name, 0)) > len(tensors):
            raise InputError(
                f"config.json must give the {name} of its tensors, got {count} and "
                f"{len(tensors)} tensors"
            )
    stages = values.get("block_channels", ())
    if len(stages) > len(tensors):
        raise InputError(
            f"config.json must have stages of tensors, got {listed(list(map(str, stages)))}"
        )


def _numbers(values: Any, name: str = "") -> list[tuple[str, int | float]]:
    if isinstance(values, dict):
        return [pair for n, value in values.items() for pair in _numbers(value, n)]
    if isinstance(values, tuple | list):
        return [pair for value in values for pair in _numbers(value, name)]
    return [(name, values)] if isinstance(values, int | float) else []
