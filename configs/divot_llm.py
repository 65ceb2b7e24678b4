# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's LLM: the presets of `mimir_jax.systems.divot_llm.presets`, and yours.

    python launch/train.py --config configs/divot_llm.py                # `tiny`
    python launch/train.py --config configs/divot_llm.py:paper
    python launch/train.py --config configs/divot_llm.py:tiny/causal    # a row of the ablations

To add a preset, write a function that returns a `TrainConfig` and name it in `PRESETS`:

    def mine():
        return dataclasses.replace(presets.tiny(), steps=10_000)

    PRESETS = {**presets.PRESETS, "mine": mine}
"""

import ml_collections

from mimir_jax.systems.divot_llm import presets

PRESETS = presets.PRESETS


def get_config(preset: str = "tiny") -> ml_collections.ConfigDict:
    """Returns the run `preset`."""
    return presets.get_config(preset, PRESETS)
