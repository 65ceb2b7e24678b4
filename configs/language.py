# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The small text models: the presets of `mimir_jax.systems.language.presets`, and yours.

    python launch/train.py --config configs/language.py:t5
    python launch/train.py --config configs/language.py             # `llm`

To add a preset, write a function that returns a `TrainConfig` and name it in `PRESETS`:

    def mine():
        return dataclasses.replace(presets.llm(), steps=10_000)

    PRESETS = {**presets.PRESETS, "mine": mine}
"""

import ml_collections

from mimir_jax.systems.language import presets

PRESETS = presets.PRESETS


def get_config(preset: str = "llm") -> ml_collections.ConfigDict:
    """Returns the run `preset`."""
    return presets.get_config(preset, PRESETS)
