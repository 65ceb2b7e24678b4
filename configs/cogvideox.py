# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""CogVideoX (arXiv 2408.06072) without Mimir's parts: the base that Mimir continues from."""

import ml_collections

from mimir_jax import config as c

PRESETS = {
    "tiny": c.TrainConfig(
        task=c.TextToVideoConfig(
            model=c.MimirConfig(
                dit=c.TINY_DIT,
                fuser=c.FuserConfig(t5_width=128, llm_width=160),
                stabilizer=c.StabilizerConfig(t5_width=128, llm_width=160),
            ),
            ablation="baseline",
            vae=c.TINY_VAE,
            vae_path="package:tiny/vae",
            text=c.TextConfig(t5_path="package:tiny/t5", length=64),
            sampler=c.SamplerConfig(name="ddim", steps=20, guidance=4.0, dynamic="off"),
        ),
        data=c.DataConfig(num_scenes=2048, scenery="single"),
        optimizer=c.OptimizerConfig(
            learning_rate=1e-3, schedule="cosine", warmup_steps=100, ema_decay=0.999
        ),
        steps=5500,
        batch_size=8,
        eval_every=1500,
        sample_every=1500,
        checkpoint_every=500,
    ),
}


def get_config(preset: str = "tiny") -> ml_collections.ConfigDict:
    """Returns the run `preset`."""
    return c.pick_preset(PRESETS, preset)
