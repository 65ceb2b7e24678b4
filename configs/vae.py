# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The causal 3D VAE: the presets of `mimir_jax.systems.vae.presets`, and yours.

    python launch/train.py --config configs/vae.py:tiny-frames
    python launch/train.py --config configs/vae.py                  # `tiny`

To add a preset, write a function that returns a `TrainConfig` and name it in `PRESETS`:

    def mine():
        return dataclasses.replace(presets.tiny(), steps=10_000)

    PRESETS = {**presets.PRESETS, "mine": mine}
"""

import ml_collections

from mimir_jax.systems.vae import presets

PRESETS = presets.PRESETS


def get_config(preset: str = "tiny") -> ml_collections.ConfigDict:
    """Returns the run `preset`."""
    return presets.get_config(preset, PRESETS)
