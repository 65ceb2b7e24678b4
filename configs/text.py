# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The small text models of the embedded default: `t5` (encoder) and `llm` (Phi-3 layout)."""

import dataclasses

import ml_collections

from mimir_jax import config as c

OPTIMIZER = c.OptimizerConfig(
    learning_rate=2e-3, schedule="cosine", warmup_steps=100, weight_decay=0.01
)

PRESETS = {
    "t5": c.TrainConfig(
        task=c.LanguageTaskConfig(
            kind="t5", model=c.TINY_T5, tokenizer_path="package:tiny/t5", length=64
        ),
        # Position enters through the relative bias alone, which must grow from 0.1 to several.
        optimizer=dataclasses.replace(
            OPTIMIZER, lr_scale=(("^relative_bias", 30.0), ("^embed/", 3.0))
        ),
        steps=1500,
        batch_size=32,
        eval_every=500,
        checkpoint_every=1000,
    ),
    "llm": c.TrainConfig(
        task=c.LanguageTaskConfig(
            kind="llm",
            model=dataclasses.replace(c.TINY_LLM, vocab_size=2432),
            tokenizer_path="package:tiny/llm",
            length=240,
        ),
        optimizer=c.OptimizerConfig(
            name="muon", learning_rate=5e-3, schedule="cosine", warmup_steps=100, weight_decay=0.01
        ),
        steps=2400,
        batch_size=12,
        eval_every=200,
        checkpoint_every=200,
    ),
}


def get_config(preset: str = "llm") -> ml_collections.ConfigDict:
    """Returns the run `preset`."""
    return c.pick_preset(PRESETS, preset)
