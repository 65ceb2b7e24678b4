# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""CogVideoX without Mimir's parts: the presets of `mimir_jax.systems.cogvideox.presets`, and yours.

    python launch/train.py --config configs/cogvideox.py:tiny-images
    python launch/train.py --config configs/cogvideox.py            # `tiny`

To add a preset, write a function that returns a `TrainConfig` and name it in `PRESETS`:

    def mine():
        return dataclasses.replace(presets.tiny(), steps=10_000)

    PRESETS = {**presets.PRESETS, "mine": mine}
"""

import ml_collections

from mimir_jax.systems.cogvideox import presets

PRESETS = presets.PRESETS


def get_config(preset: str = "tiny") -> ml_collections.ConfigDict:
    """Returns the run `preset`."""
    return presets.get_config(preset, PRESETS)
