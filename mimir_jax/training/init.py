# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run starts from: `init_from`, published weights as well as our own."""

from mimir_jax import weights
from mimir_jax.config import DiTConfig, MimirConfig, bridge
from mimir_jax.models import functional

# Settings of the DiT that say how it is run, not what it computes at its native size.
_RUNTIME = ("dtype", "remat", "attention", "text_length", "sample_frames")


def read_init(path: str, model: functional.Model) -> functional.Params:
    """Reads the parameters to start `model` from, as numpy arrays in float32.

    A bare video transformer starts a Mimir: its fuser and stabilizer are then drawn afresh.

    Raises:
        ValueError: if the weights cannot be opened, or are of another model.
    """
    opened, params = weights.read(path, dtype="float32")
    theirs, ours = opened.config, model.config
    if isinstance(ours, MimirConfig):
        ours = ours.dit
        if isinstance(theirs, MimirConfig):
            theirs = theirs.dit
        elif isinstance(theirs, DiTConfig):
            params = {"dit": params}
    if isinstance(theirs, DiTConfig) and isinstance(ours, DiTConfig):
        names = [n for n in bridge.differences(theirs, ours) if n not in _RUNTIME]
        if names:
            listed = ", ".join(
                f"{n} {getattr(theirs, n)!r} not {getattr(ours, n)!r}" for n in names
            )
            raise ValueError(
                f"init_from {path} must hold the DiT of the config, it has {listed}; "
                "set them with --config.task.model.dit.*"
            )
    weights.overlay(model.abstract_params, params, source=path)
    return params
