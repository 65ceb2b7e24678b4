# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizer and de-tokenizer of Divot: the presets of `mimir_jax.systems.divot.presets`, and yours.

    python launch/train.py --config configs/divot.py                # `tiny`

To add a preset, write a function that returns a `TrainConfig` and name it in `PRESETS`:

    def mine():
        return dataclasses.replace(presets.tiny(), steps=10_000)

    PRESETS = {**presets.PRESETS, "mine": mine}
"""

import ml_collections

from mimir_jax.systems.divot import presets

PRESETS = presets.PRESETS


def get_config(preset: str = "tiny") -> ml_collections.ConfigDict:
    """Returns the run `preset`."""
    return presets.get_config(preset, PRESETS)
