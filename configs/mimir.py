# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Mimir (arXiv 2412.03085): presets `tiny`, `2b`, `5b`, each also as `PRESET/ROW` of Table 3."""

import dataclasses

import ml_collections

from mimir_jax import config as c

TINY = c.TrainConfig(
    task=c.TextToVideoConfig(
        model=c.MimirConfig(
            dit=c.TINY_DIT,
            # The measured RMS of the shipped T5's states (M-U7).
            fuser=c.FuserConfig(t5_width=128, llm_width=160, scale_init=1.57),
            stabilizer=c.StabilizerConfig(t5_width=128, llm_width=160, scale_init=1.57),
        ),
        vae=c.TINY_VAE,
        vae_path="package:tiny/vae",
        diffusion=c.TINY_DIFFUSION,
        text=c.TextConfig(
            t5_path="package:tiny/t5",
            llm_path="package:tiny/llm",
            length=64,
            instruction_length=128,
            num_answers=2,
        ),
        sampler=c.SamplerConfig(name="ddim", steps=20, guidance=4.0, dynamic="off"),
        heldout_clips=8,
    ),
    data=c.DataConfig(num_scenes=256, scenery="single"),
    optimizer=c.OptimizerConfig(
        learning_rate=2e-5,
        schedule="cosine",
        lr_scale=(("^(fuser|stabilizer)/", 12.5),),
        warmup_steps=50,
        ema_decay=0.99,
    ),
    steps=300,
    batch_size=4,
    init_from="package:tiny/base",
)

# The paper's scale. Steps, batch and learning rates are UNSTATED there; these follow the
# fine-tuning recipe of the base (M-U20, M-U21).
PAPER = c.TrainConfig(
    task=c.TextToVideoConfig(sampler=c.SamplerConfig(name="dpm", steps=50, guidance=6.0)),
    data=c.DataConfig(source="folder", path="data/videos", frames=49, height=480, width=720),
    optimizer=c.OptimizerConfig(
        learning_rate=1e-5, lr_scale=(("^(fuser|stabilizer)/", 10.0),), warmup_steps=100,
        ema_decay=0.9999, clip_norm=1.0,
    ),
    mesh=c.MeshConfig(data=1, fsdp=-1, shard_frozen=True),
    steps=10_000,
    batch_size=64,
    eval_every=500,
    sample_every=1000,
    checkpoint_every=500,
)  # fmt: skip


def paper(size: str, **vae) -> c.TrainConfig:
    """Returns the paper-scale run on CogVideoX-`size`."""
    dit = c.DiTConfig(**c.COGVIDEOX[size], dtype="bfloat16", remat="full")
    model = c.MimirConfig(
        dit=dit,
        fuser=c.FuserConfig(dtype="bfloat16"),
        stabilizer=c.StabilizerConfig(dtype="bfloat16"),
    )
    task = dataclasses.replace(
        PAPER.task, model=model, vae=c.VAEConfig(dtype="bfloat16", **vae), **({
            "diffusion": c.DiffusionConfig(snr_shift=3.0)} if size == "2b" else {})
    )  # fmt: skip
    return dataclasses.replace(PAPER, task=task)


PRESETS = {
    "tiny": lambda: TINY,
    "2b": lambda: paper("2b", scaling_factor=1.15258426),
    "5b": lambda: paper("5b"),
}


def get_config(preset: str = "tiny") -> ml_collections.ConfigDict:
    """Returns the run `preset`, or `preset/row` for an ablation row."""
    size, _, row = preset.partition("/")
    if size not in PRESETS or (row and row not in c.ABLATIONS):
        raise ValueError(
            f"preset must be one of {', '.join(PRESETS)}, alone or with one of "
            f"{', '.join('/' + name for name in c.ABLATIONS)}, got {preset!r}"
        )
    run = PRESETS[size]()
    if row:
        run = dataclasses.replace(run, task=dataclasses.replace(run.task, ablation=row))
    if row == "baseline":  # has no parts of its own to train faster
        run = dataclasses.replace(run, optimizer=dataclasses.replace(run.optimizer, lr_scale=()))
    return c.to_config_dict(run)
