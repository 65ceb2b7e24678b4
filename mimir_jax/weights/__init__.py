# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Weights in and out: published checkpoints, native folders, runs, and the tables between them."""

from mimir_jax.models.params import flatten, overlay, unflatten
from mimir_jax.weights.convert import convert, convert_adapters
from mimir_jax.weights.loading import load, load_run, read
from mimir_jax.weights.native import save
from mimir_jax.weights.opening import open_weights, resolve
from mimir_jax.weights.verification import verify

__all__ = [
    "convert",
    "convert_adapters",
    "flatten",
    "load",
    "load_run",
    "open_weights",
    "overlay",
    "read",
    "resolve",
    "save",
    "unflatten",
    "verify",
]
