# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""VIMI: the presets of `mimir_jax.systems.vimi.presets`, and yours.

    python launch/train.py --config configs/vimi.py                 # `tiny/stage1`
    python launch/train.py --config configs/vimi.py:tiny/stage2

To add a preset, write a function that returns a `TrainConfig` and name it in `PRESETS`:

    def mine():
        return dataclasses.replace(presets.tiny_stage1(), steps=10_000)

    PRESETS = {**presets.PRESETS, "mine": mine}
"""

import ml_collections

from mimir_jax.systems.vimi import presets

PRESETS = presets.PRESETS


def get_config(preset: str = "tiny/stage1") -> ml_collections.ConfigDict:
    """Returns the run `preset`."""
    return presets.get_config(preset, PRESETS)
