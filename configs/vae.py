# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Causal 3D VAE of CogVideoX: `tiny` is the one that ships with the package, `full` the paper's."""

import ml_collections

from mimir_jax import config as c

PRESETS = {
    # Two stages, images before video: single frames hold little redundancy, so space is learned
    # from them; whole clips then teach time.
    "tiny-frames": c.TrainConfig(
        task=c.VAETaskConfig(model=c.TINY_VAE, crop_frames=1),
        optimizer=c.OptimizerConfig(
            learning_rate=1.5e-3, schedule="cosine", warmup_steps=20, ema_decay=0.99, b2=0.99
        ),
        steps=450,
        batch_size=12,
        eval_every=250,
        sample_every=500,
        checkpoint_every=500,
    ),
    "tiny": c.TrainConfig(
        task=c.VAETaskConfig(model=c.TINY_VAE, crop_size=32, crop_frames=9),
        optimizer=c.OptimizerConfig(
            learning_rate=1e-3, schedule="cosine", warmup_steps=10, ema_decay=0.98, b2=0.99
        ),
        steps=1900,
        batch_size=8,
        eval_every=475,
        checkpoint_every=475,
    ),
    "full": c.TrainConfig(
        task=c.VAETaskConfig(model=c.VAEConfig(dtype="bfloat16")),
        data=c.DataConfig(source="folder", path="data/videos", frames=17, height=256, width=256),
        optimizer=c.OptimizerConfig(learning_rate=1e-4, warmup_steps=1000, ema_decay=0.999),
        mesh=c.MeshConfig(data=1, fsdp=-1),
        steps=200_000,
        batch_size=64,
        eval_every=1000,
        sample_every=5000,
        checkpoint_every=1000,
    ),
}


def get_config(preset: str = "tiny") -> ml_collections.ConfigDict:
    """Returns the run `preset`."""
    return c.pick_preset(PRESETS, preset)
