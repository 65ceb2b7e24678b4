# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""CogVideoX (arXiv 2408.06072) without Mimir's parts: the base that Mimir continues from.

`tiny-images` learns from first frames what words look like, four times as many scenes a second;
`tiny` goes on with clips, `--config.init_from` naming what it left.
"""

import dataclasses

import ml_collections

from mimir_jax import config as c

TINY = c.TrainConfig(
    task=c.TextToVideoConfig(
        model=c.MimirConfig(
            dit=dataclasses.replace(c.TINY_DIT, unroll=6),  # worth its compilation in a long run
            fuser=c.FuserConfig(t5_width=128, llm_width=160),
            stabilizer=c.StabilizerConfig(t5_width=128, llm_width=160),
        ),
        ablation="baseline",
        vae=c.TINY_VAE,
        vae_path="package:tiny/vae",
        diffusion=c.TINY_DIFFUSION,
        text=c.TextConfig(t5_path="package:tiny/t5", length=64),
        sampler=c.SamplerConfig(name="ddim", steps=20, guidance=4.0, dynamic="off"),
    ),
    data=c.DataConfig(num_scenes=4096, scenery="single"),
    optimizer=c.OptimizerConfig(
        name="muon", learning_rate=5e-3, schedule="cosine", warmup_steps=100, ema_decay=0.99
    ),
    steps=1000,
    batch_size=8,
    eval_every=500,
    sample_every=500,
    checkpoint_every=250,
)

PRESETS = {
    "tiny": TINY,
    "tiny-images": dataclasses.replace(
        TINY,
        data=dataclasses.replace(TINY.data, frames=1, num_scenes=14336),
        steps=5000,
        batch_size=16,
        eval_every=500,
        sample_every=1000,
    ),
}


def get_config(preset: str = "tiny") -> ml_collections.ConfigDict:
    """Returns the run `preset`."""
    return c.pick_preset(PRESETS, preset)
