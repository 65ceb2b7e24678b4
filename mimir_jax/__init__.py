# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Mimir, VIMI and Divot in JAX: video diffusion conditioned by language models."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mimir_jax.sampling.open import load_pipeline as load_pipeline
    from mimir_jax.weights import load as load

_HOMES = {"load": "mimir_jax.weights", "load_pipeline": "mimir_jax.sampling.open"}


def __getattr__(name: str) -> Any:
    """Imports the entry points when they are used: JAX takes a while."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mimir_jax' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
