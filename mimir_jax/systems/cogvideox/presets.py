# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Presets of CogVideoX (arXiv 2408.06072), the base that Mimir continues from."""

import dataclasses

import ml_collections

from mimir_jax import config as c


def tiny() -> c.TrainConfig:
    """The miniature base on clips: 64x64 and 17 frames.

    Command:  python launch/train.py --config configs/cogvideox.py
              --config.init_from=runs/base-images
    Hardware: any; the shipped base was trained on two CPU cores.
    Time:     4096 scenes and 1000 steps; docs/assets.md tells how the shipped base came about.
    Expect:   the shipped base went from 0.1468 to 0.0764 in 800 steps on 3072 scenes and to 0.0666
              in 1400 more, on 32 held-out clips.
    """
    return c.TrainConfig(
        system=c.CogVideoXSystemConfig(
            dit=dataclasses.replace(c.TINY_DIT, unroll=6),  # worth its compilation in a long run
            vae=c.TINY_VAE,
            vae_path="package:tiny/vae",
            diffusion=c.TINY_DIFFUSION,
            text=c.TextConfig(t5_path="package:tiny/t5", length=64),
            sampler=c.SamplerConfig(
                name="ddim", steps=20, guidance_scale=4.0, dynamic_guidance="off"
            ),
        ),
        data=c.DataConfig(toyworld=c.ToyworldConfig(num_scenes=4096, variety="single")),
        optimizer=c.OptimizerConfig(
            name="muon", learning_rate=5e-3, schedule="cosine", warmup_steps=100, ema_decay=0.99
        ),
        steps=1000,
        batch_size=8,
        eval_every=500,
        sample_every=500,
        checkpoint_every=250,
    )


def tiny_images() -> c.TrainConfig:
    """The miniature base on first frames: it sees four times as many scenes per second.

    Command:  python launch/train.py --config configs/cogvideox.py:tiny-images
              --workdir runs/base-images
    Hardware: any; the shipped base was trained on two CPU cores.
    Time:     14,336 frames and 5000 steps of 16.
    Expect:   the shipped base reached 0.0720 on 64 held-out frames.
    """
    config = tiny()
    toyworld = dataclasses.replace(config.data.toyworld, num_scenes=14336)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, frames=1, toyworld=toyworld),
        steps=5000,
        batch_size=16,
        eval_every=500,
        sample_every=1000,
    )


PRESETS = {"tiny": tiny, "tiny-images": tiny_images}


def get_config(preset: str = "tiny", presets: c.Presets = PRESETS) -> ml_collections.ConfigDict:
    """Returns the run `preset` of `presets`."""
    return c.pick_preset(presets, preset)
