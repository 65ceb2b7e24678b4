# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Presets of CogVideoX (arXiv 2408.06072), the base of Mimir."""

import dataclasses

import ml_collections

from mimir_jax import config as c


def tiny() -> c.TrainConfig:
    """The miniature base on clips: 64x64 and 17 frames.

    Command:  python launch/train.py --config configs/cogvideox.py
              --config.init_from=runs/base-images
    Hardware: any; the shipped base was trained on two CPU cores.
    Time:     4096 scenes and 1000 steps; docs/assets.md has the history of the shipped base.
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
    """The miniature base on first frames, with four times as many scenes per second.

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


def tiny_i2v() -> c.TrainConfig:
    """The shipped base as an image-to-video model that also continues clips.

    Command:  python launch/train.py --config configs/cogvideox.py:tiny-i2v
    Hardware: any; two CPU cores.
    Time:     33 minutes on two shared cores, 6.5 of them for encoding the clips.
    Expect:   held-out loss from 0.0544 to 0.0267, at high noise from 0.150 to 0.031, on 32 clips;
              docs/image_to_video.md has the judge's scores of an earlier run.
    """
    config = tiny()
    system = config.system
    dit = dataclasses.replace(system.dit, in_channels=2 * c.TINY_VAE.latent_channels, unroll=6)
    return dataclasses.replace(
        config,
        system=dataclasses.replace(
            system,
            dit=dit,
            first_frame=c.FirstFrameConfig(continuation=0.3, dropout=0.2),
            # High noise, where the content of a video is decided, is what the image must bring.
            diffusion=dataclasses.replace(system.diffusion, timestep_power=2.0),
        ),
        # The channels of the image start at zero, so their weights must grow.
        optimizer=dataclasses.replace(
            config.optimizer, learning_rate=3e-3, lr_scale=(("^patch/", 3.0),)
        ),
        init_from="package:tiny/base",
    )


def cogvideox_2b() -> c.TrainConfig:
    """Full fine-tuning of CogVideoX-2B on a folder of clips, 480x720 and 49 frames at 8 fps.

    Command:  python launch/train.py --config configs/cogvideox.py:2b
              --config.init_from=CogVideoX-2b/transformer --config.system.vae_path=CogVideoX-2b/vae
              --config.system.text.t5_path=CogVideoX-2b/text_encoder
              --config.data.folder.path=FOLDER
    Hardware: `mimir-jax compile` reports the memory per device for a mesh.
    Time:     not run.
    Expect:   not run.
    """
    config = _full_size("2b", c.VAEConfig(dtype="bfloat16", scaling_factor=1.15258426))
    system = dataclasses.replace(config.system, diffusion=c.DiffusionConfig(snr_shift=3.0))
    return dataclasses.replace(config, system=system)


def cogvideox_5b() -> c.TrainConfig:
    """Full fine-tuning of CogVideoX-5B on a folder of clips, 480x720 and 49 frames at 8 fps.

    Command:  python launch/train.py --config configs/cogvideox.py:5b
              --config.init_from=CogVideoX-5b/transformer --config.system.vae_path=CogVideoX-5b/vae
              --config.system.text.t5_path=CogVideoX-5b/text_encoder
              --config.data.folder.path=FOLDER
    Hardware: estimated 32 GB per device on 8 devices with one clip each, and the frozen networks.
    Time:     not run; extrapolated from 4 layers, the gradient of one clip takes 2.3 s on an H100.
    Expect:   not run.
    """
    return _full_size("5b", c.VAEConfig(dtype="bfloat16"))


def cogvideox_5b_i2v() -> c.TrainConfig:
    """Full fine-tuning of CogVideoX-5B-I2V on a folder of clips and their first frames.

    Its learned position table has one size: 480x720 and 49 frames.

    Command:  python launch/train.py --config configs/cogvideox.py:5b-i2v
              --config.init_from=CogVideoX-5b-I2V/transformer
              --config.system.vae_path=CogVideoX-5b-I2V/vae
              --config.system.text.t5_path=CogVideoX-5b-I2V/text_encoder
              --config.data.folder.path=FOLDER
    Hardware: as `5b`.
    Time:     not run.
    Expect:   not run.
    """
    return _full_size("5b-i2v", c.VAEConfig(dtype="bfloat16"))


def cogvideox_15_5b_i2v() -> c.TrainConfig:
    """Full fine-tuning of CogVideoX1.5-5B-I2V on clips, 768x1360 and 81 frames at 16 fps.

    The latents of the first frame enter unscaled, as its authors trained it (I-U1); diffusers
    samples with `--config.system.first_frame.latent_scale=inverse`.

    Command:  as `5b-i2v`, with --config configs/cogvideox.py:1.5-5b-i2v
    Hardware: `mimir-jax compile` reports the memory per device for a mesh.
    Time:     not run.
    Expect:   not run.
    """
    config = _full_size("1.5-5b-i2v", c.VAEConfig(dtype="bfloat16"))
    first_frame = c.FirstFrameConfig(latent_scale="raw")
    return dataclasses.replace(
        config,
        system=dataclasses.replace(config.system, first_frame=first_frame),
        data=dataclasses.replace(config.data, frames=81, height=768, width=1360, fps=16.0),
    )


def cogvideox_5b_lora() -> c.TrainConfig:
    """Rank-64 adapters (LoRA) on CogVideoX-5B on one GPU, on a folder of clips.

    Command:  as `5b`, with --config configs/cogvideox.py:5b-lora; on N devices
              --config.optimizer.grad_accumulation=8/N.
    Hardware: estimated 25 GB with one clip at a time, and 10 GB for the frozen T5 and VAE.
    Time:     not run.
    Expect:   not run.
    """
    config = cogvideox_5b()
    lora = c.LoraConfig(rank=64, alpha=64.0, base_dtype="bfloat16")
    return dataclasses.replace(
        config,
        system=dataclasses.replace(config.system, lora=lora),
        optimizer=dataclasses.replace(
            config.optimizer, learning_rate=1e-4, ema_decay=0.0, grad_accumulation=8
        ),
        steps=2000,
        batch_size=8,
    )


PRESETS = {
    "tiny": tiny,
    "tiny-images": tiny_images,
    "tiny-i2v": tiny_i2v,
    "2b": cogvideox_2b,
    "5b": cogvideox_5b,
    "5b-lora": cogvideox_5b_lora,
    "5b-i2v": cogvideox_5b_i2v,
    "1.5-5b-i2v": cogvideox_15_5b_i2v,
}


def get_config(preset: str = "tiny", presets: c.Presets = PRESETS) -> ml_collections.ConfigDict:
    """Returns the run `preset` of `presets`."""
    return c.pick_preset(presets, preset)


def _full_size(size: str, vae: c.VAEConfig) -> c.TrainConfig:
    """Returns a full fine-tuning of CogVideoX-`size` by the recipe of its authors."""
    return c.TrainConfig(
        system=c.CogVideoXSystemConfig(
            dit=c.DiTConfig(**c.COGVIDEOX[size], dtype="bfloat16", remat="full"),
            vae=vae,
            sampler=c.SamplerConfig(name="dpm", steps=50, guidance_scale=6.0),
        ),
        data=c.DataConfig(
            source="folder",
            folder=c.FolderConfig(path="data/videos"),
            frames=49,
            height=480,
            width=720,
        ),
        optimizer=c.OptimizerConfig(
            learning_rate=1e-5, warmup_steps=100, ema_decay=0.9999, clip_norm=1.0
        ),
        mesh=c.MeshConfig(data=1, fsdp=-1, shard_frozen=True),
        steps=10_000,
        batch_size=64,
        eval_every=500,
        sample_every=1000,
        checkpoint_every=500,
    )
