# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that peft wrote while adapters trained, merged as they are read.

X.weight, or X.base_layer.weight          the frozen kernel W
X.lora_A.NAME.weight, X.lora_B.NAME.weight   become part of it: W + alpha / r * B @ A
X.modules_to_save.NAME.weight             in place of X.original_module.weight
"""

import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mimir_jax import files
from mimir_jax.errors import InputError
from mimir_jax.weights.tensors import Tensor, Tensors

CONFIG_FILE = "adapter_config.json"
_FACTOR = re.compile(r"(.+)\.lora_([AB])(?:\.([^.]+))?\.weight")
_SAVED = re.compile(r"(.+)\.modules_to_save\.([^.]+)\.(weight|bias)")
_ORIGINAL = re.compile(r".+\.original_module\.(weight|bias)")


def is_unmerged(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors are those of a network with adapters beside its kernels."""
    return any(_FACTOR.fullmatch(name) or _SAVED.fullmatch(name) for name in tensors)


def merge(tensors: Tensors, folder: pathlib.Path) -> Tensors:
    """Returns the tensors of the plain network, each merged when it is read; others pass unchanged.

    Args:
        tensors: Tensors of the network with adapters.
        folder: Where `adapter_config.json` is looked for, also in its folders. Without one, alpha
            is r, as in the runs of Divot.

    Raises:
        InputError: for a factor without its partner or kernel, several adapters, or a rank that the
            config does not have.
    """
    if not is_unmerged(tensors):
        return tensors
    plain: Tensors = {}
    factors: dict[str, dict[str, Tensor]] = {}
    saved: Tensors = {}
    adapters: set[str] = set()
    for name, tensor in tensors.items():
        name = name.replace("base_model.model.", "", 1)
        if match := _FACTOR.fullmatch(name):
            factors.setdefault(match[1], {})[match[2]] = tensor
            adapters.add(match[3] or "default")
        elif match := _SAVED.fullmatch(name):
            saved[f"{match[1]}.{match[3]}"] = tensor
            adapters.add(match[2])
        elif not _ORIGINAL.fullmatch(name):
            plain[re.sub(r"\.base_layer\.(weight|bias)$", r".\1", name)] = tensor
    if len(adapters) > 1:
        raise InputError(
            f"weights {folder} must have one adapter to merge, got {', '.join(sorted(adapters))}; "
            "save one of them"
        )
    settings = _read_settings(folder)
    for layer, pair in factors.items():
        name = f"{layer}.weight"
        lacks = [f"lora_{part}" for part in "AB" if part not in pair]
        if lacks or name not in plain:
            raise InputError(
                f"weights {folder} must hold a kernel and both factors for each adapter, {layer} "
                f"lacks {', '.join(lacks) or 'its weight'}; download the checkpoint again"
            )
        plain[name] = _merged(layer, plain[name], pair["A"], pair["B"], settings)
    return {**plain, **saved}


def _merged(
    layer: str, kernel: Tensor, a: Tensor, b: Tensor, settings: Mapping[str, Any]
) -> Tensor:
    rank = a.shape[0]
    if (b.shape[0], a.shape[1]) != kernel.shape or b.shape[1] != rank:
        raise InputError(
            f"adapter of {layer} must fit its kernel {kernel.shape}, got factors {b.shape} and "
            f"{a.shape}; download the checkpoint again"
        )
    if rank != settings.get("r", rank):
        raise InputError(
            f"adapter of {layer} must have the rank {settings['r']} of {CONFIG_FILE}, got {rank}; "
            "use the file that belongs to it"
        )
    over = math.sqrt(rank) if settings.get("use_rslora") else rank
    scale = np.float32(settings.get("lora_alpha", over) / over)

    def read() -> np.ndarray:
        product = b.read().astype(np.float32) @ a.read().astype(np.float32)
        return kernel.read().astype(np.float32) + scale * product

    return Tensor(kernel.shape, np.dtype(np.float32), read)


def _read_settings(folder: pathlib.Path) -> dict[str, Any]:
    folder = folder if folder.is_dir() else folder.parent
    places = [folder / CONFIG_FILE, *sorted(folder.glob(f"*/{CONFIG_FILE}"))]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        return {}
    settings = files.read_json(found, "config of adapters")
    for name in ("rank_pattern", "alpha_pattern", "use_dora"):
        if settings.get(name):
            raise InputError(
                f"{CONFIG_FILE} of {folder} must have no {name}, got {settings[name]!r}; merge the "
                "adapters with peft"
            )
    return settings
