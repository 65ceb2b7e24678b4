# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Presets of the causal 3D VAE: `tiny` ships with the package, `full` is the paper's."""

import ml_collections

from mimir_jax import config as c


def tiny_frames() -> c.TrainConfig:
    """The miniature VAE on single frames, the start of `tiny`.

    Command:  python launch/train.py --config configs/vae.py:tiny-frames --workdir runs/vae-frames
    Hardware: any; the shipped VAE was trained on two CPU cores.
    Time:     450 steps of 12 frames.
    Expect:   no loss was recorded.
    """
    return c.TrainConfig(
        system=c.VAESystemConfig(model=c.TINY_VAE, crop_frames=1),
        optimizer=c.OptimizerConfig(
            learning_rate=1.5e-3, schedule="cosine", warmup_steps=20, ema_decay=0.99, b2=0.99
        ),
        steps=450,
        batch_size=12,
        eval_every=250,
        sample_every=500,
        checkpoint_every=500,
    )


def tiny() -> c.TrainConfig:
    """The miniature VAE on crops of clips, for temporal compression.

    Command:  python launch/train.py --config configs/vae.py:tiny --workdir runs/vae
              --config.init_from=new/vae-frames
    Hardware: any; the shipped VAE was trained on two CPU cores.
    Time:     1900 steps of 8 crops.
    Expect:   the shipped VAE reaches 29.8 dB on held-out clips of `varied` scenes.
    """
    return c.TrainConfig(
        system=c.VAESystemConfig(model=c.TINY_VAE, crop_size=32, crop_frames=9),
        optimizer=c.OptimizerConfig(
            learning_rate=1e-3, schedule="cosine", warmup_steps=10, ema_decay=0.98, b2=0.99
        ),
        steps=1900,
        batch_size=8,
        eval_every=475,
        checkpoint_every=475,
    )


def full() -> c.TrainConfig:
    """The VAE of CogVideoX at its full size, on 17 frames of 256x256.

    Command:  python launch/train.py --config configs/vae.py:full --config.data.folder.path=FOLDER
    Hardware: not run.
    Time:     not run.
    Expect:   not run.
    """
    return c.TrainConfig(
        system=c.VAESystemConfig(model=c.VAEConfig(dtype="bfloat16")),
        data=c.DataConfig(
            source="folder",
            folder=c.FolderConfig(path="data/videos"),
            frames=17,
            height=256,
            width=256,
        ),
        optimizer=c.OptimizerConfig(learning_rate=1e-4, warmup_steps=1000, ema_decay=0.999),
        mesh=c.MeshConfig(data=1, fsdp=-1),
        steps=200_000,
        batch_size=64,
        eval_every=1000,
        sample_every=5000,
        checkpoint_every=1000,
    )


PRESETS = {"tiny-frames": tiny_frames, "tiny": tiny, "full": full}


def get_config(preset: str = "tiny", presets: c.Presets = PRESETS) -> ml_collections.ConfigDict:
    """Returns the run `preset` of `presets`."""
    return c.pick_preset(presets, preset)
