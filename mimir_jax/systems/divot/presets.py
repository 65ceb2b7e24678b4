# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Presets of Divot (arXiv 2412.04432): the phases of the miniature, and the paper's sizes."""

import dataclasses

import ml_collections

from mimir_jax import config as c
from mimir_jax.errors import InputError

_PATCHES = "patches"
_WIDTH = dict(width=128, num_heads=4, mlp_dim=512)
TINY_TOKENIZER = c.DivotTokenizerConfig(
    vit=c.TINY_VIT,
    frame_size=64,
    pool=4,
    temporal=c.TemporalConfig(num_layers=2, start="random", position_std=1.0, **_WIDTH),
    space_time=c.SpaceTimeConfig(num_layers=2, position_std=1.0, **_WIDTH),
    resampler=c.ResamplerConfig(
        in_width=128, out_width=32, num_queries=16, num_layers=2, head_dim=32, query_std=1.0,
        **_WIDTH,
    ),
)  # fmt: skip
TINY_DETOKENIZER = c.DiTDetokenizerConfig(
    resampler=c.ResamplerConfig(
        in_width=32, out_width=128, num_queries=20, num_layers=2, head_dim=32, query_std=1.0,
        **_WIDTH,
    ),
    dit=dataclasses.replace(c.TINY_DIT, text_length=20, unroll=6),
)  # fmt: skip
"""16 tokens of width 32, read as 20 rows by the shape of the shipped base."""


def tiny() -> c.TrainConfig:
    """The miniature on clips of 64x64 and 17 frames, with 16 tokens of width 32.

    Command:  python launch/train.py --config configs/divot.py
              --config.init_from=runs/divot-stills; or `mimir-jax recipe divot` for all phases.
    Hardware: any; two CPU cores.
    Time:     20 minutes on one of two cores, with precomputed features.
    Expect:   held-out loss 0.101 -> 0.062; the scores are in docs/divot.md.
    """
    return c.TrainConfig(
        system=c.DivotSystemConfig(
            model=c.DivotConfig(tokenizer=TINY_TOKENIZER, detokenizer=TINY_DETOKENIZER),
            vae=c.TINY_VAE,
            vae_path="package:tiny/vae",
            # High noise, where the content of a video is decided, is what tokens must bring.
            diffusion=dataclasses.replace(c.TINY_DIFFUSION, timestep_power=3.0),
            sampler=c.SamplerConfig(
                name="ddim", steps=20, guidance_scale=1.0, dynamic_guidance="off"
            ),
            caption_dropout=0.0,
        ),
        data=c.DataConfig(toyworld=c.ToyworldConfig(num_scenes=6144, variety="single")),
        optimizer=c.OptimizerConfig(
            name="muon",
            learning_rate=3e-3,
            # Larger steps make the tokens of a clip alike, and the base forget how to draw (D-U13).
            lr_scale=(("^tokenizer/", 0.1), ("^detokenizer/dit/", 0.3)),
            freeze=("^tokenizer/vit/",),
            warmup_steps=20,
            schedule="cosine",
            ema_decay=0.99,
        ),
        steps=1400,
        batch_size=8,
        eval_every=250,
        sample_every=500,
        checkpoint_every=50,
        init_from="package:tiny/base,package:tiny/llava",
    )


def tiny_stills() -> c.TrainConfig:
    """The first phase of the miniature, on first frames, with the image tower of the LLaVA.

    Command:  python launch/train.py --config configs/divot.py:tiny/stills
              --workdir runs/divot-stills
    Hardware: any; two CPU cores.
    Time:     23 minutes on one of two cores, with precomputed features.
    Expect:   held-out loss 0.197 -> 0.062.
    """
    config = tiny()
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data, frames=1, toyworld=c.ToyworldConfig(num_scenes=8192, variety="single")
        ),
        steps=2000,
        batch_size=16,
    )


def tiny_vit() -> c.TrainConfig:
    """The ViT of the miniature, contrastively on first frames and captions, before all phases.

    Command:  python launch/train.py --config configs/divot.py:tiny/vit --workdir runs/divot-vit
    Hardware: any; two CPU cores.
    Time:     400 of its steps took 20 minutes on a third of a core.
    Expect:   after those, of 128 held-out captions the right one is found for 23 % of the frames.
    """
    return c.TrainConfig(
        system=c.ContrastSystemConfig(
            model=c.ContrastConfig(vit=c.TINY_VIT, text_width=128, width=128),
            text=c.TextConfig(t5_path="package:tiny/t5", length=64),
        ),
        data=c.DataConfig(frames=1, toyworld=c.ToyworldConfig(num_scenes=16384, variety="single")),
        optimizer=c.OptimizerConfig(
            learning_rate=1e-3, schedule="cosine", warmup_steps=50, ema_decay=0.99
        ),
        steps=400,
        batch_size=64,
        eval_every=100,
        checkpoint_every=100,
    )


def tiny_captions() -> c.TrainConfig:
    """The tokenizer of the miniature by captioning instead of denoising, an ablation (D-U15).

    Command:  python launch/train.py --config configs/divot.py:tiny/captions
    Hardware: any; two CPU cores.
    Time:     not run.
    Expect:   not run.
    """
    config = tiny()
    return dataclasses.replace(
        config,
        system=c.ClipCaptioningSystemConfig(
            model=c.ClipCaptionerConfig(
                tokenizer=TINY_TOKENIZER,
                llm=dataclasses.replace(c.TINY_LLM, vocab_size=2432 + 6 + 16),
            ),
            tokenizer_path="package:tiny/llm",
            max_length=72,
        ),
        optimizer=dataclasses.replace(
            config.optimizer,
            name="adamw",
            learning_rate=2e-3,
            lr_scale=(("^llm/blocks/", 0.5),),  # begin trained
        ),
        batch_size=32,
        sample_every=0,
        init_from="package:tiny/llm,package:tiny/llava",
    )


def tiny_detokenizer() -> c.TrainConfig:
    """The last phase of the miniature: the de-tokenizer alone, with 5 % token dropout.

    Command:  python launch/train.py --config configs/divot.py:tiny/detokenizer
              --config.init_from=runs/divot-tiny --workdir runs/divot-detokenizer
    Hardware: any; two CPU cores.
    Time:     36 minutes on one of two cores, with precomputed features.
    Expect:   held-out loss 0.0587 -> 0.0533, after 1,100 earlier steps of the same kind.
    """
    config = tiny()
    return dataclasses.replace(
        config,
        system=dataclasses.replace(
            config.system,
            caption_dropout=0.05,
            # Also less noise, where edges are decided.
            diffusion=dataclasses.replace(c.TINY_DIFFUSION, timestep_power=2.0),
        ),
        optimizer=dataclasses.replace(
            config.optimizer, lr_scale=(("^detokenizer/dit/", 0.5),), freeze=("^tokenizer/",)
        ),
        steps=3000,
        init_from="runs/divot-tiny",
    )


def tiny_written() -> c.TrainConfig:
    """The de-tokenizer of the miniature on tokens that its LLM writes for captions.

    Command:  python launch/precompute.py --config configs/divot.py:tiny/written --out written
              python launch/train.py --config configs/divot.py:tiny/written
              --config.data.features=written
    Hardware: any; two CPU cores.
    Time:     not run to its end.
    Expect:   not run to its end.
    """
    config = tiny_detokenizer()
    return dataclasses.replace(
        config,
        system=dataclasses.replace(config.system, agent_path="runs/divot_llm"),
        data=dataclasses.replace(config.data, window="first"),
        steps=900,
        init_from="runs/divot-detokenizer",
    )


def paper() -> c.TrainConfig:
    """The paper's sizes at 256x256: ViT-H/14, 64 tokens of width 256, 17 frames at 8 fps.

    The de-tokenizer is that of CogVideoX-2B. Learning rate, batch and steps are UNSTATED.

    Command:  python launch/train.py --config configs/divot.py:paper
              --config.init_from=CogVideoX-2b/transformer,CLIP-ViT-H-14
              --config.system.vae_path=CogVideoX-2b/vae --config.data.folder.path=FOLDER
    Hardware: compiled ahead of time for TPU v5p: 7.9 GB per chip on 8 chips with batch_size=8.
    Time:     not run.
    Expect:   not run.
    """
    half = dict(dtype="bfloat16")
    vit = dataclasses.replace(c.DivotTokenizerConfig().vit, remat="full", **half)
    tokenizer = c.DivotTokenizerConfig(
        vit=vit,
        temporal=c.TemporalConfig(remat="full", **half),
        space_time=c.SpaceTimeConfig(remat="full", **half),
        resampler=c.ResamplerConfig(**half),
    )
    detokenizer = c.DiTDetokenizerConfig(
        resampler=c.ResamplerConfig(in_width=256, out_width=4096, num_queries=125, **half),
        dit=c.DiTConfig(**c.COGVIDEOX["2b"], text_length=125, remat="full", **half),
    )
    return c.TrainConfig(
        system=c.DivotSystemConfig(
            model=c.DivotConfig(tokenizer=tokenizer, detokenizer=detokenizer),
            vae=c.VAEConfig(dtype="bfloat16", scaling_factor=1.15258426),
            diffusion=c.DiffusionConfig(snr_shift=3.0),
            sampler=c.SamplerConfig(name="dpm", steps=50, guidance_scale=6.0),
            caption_dropout=0.0,
        ),
        data=c.DataConfig(
            source="folder",
            folder=c.FolderConfig(path="data/videos"),
            frames=17,
            height=256,
            width=256,
        ),
        optimizer=c.OptimizerConfig(
            learning_rate=1e-5,
            lr_scale=(("^(tokenizer|detokenizer/resampler)/", 10.0),),
            freeze=("^tokenizer/vit/",),
            warmup_steps=500,
            ema_decay=0.9999,
        ),
        mesh=c.MeshConfig(data=1, fsdp=-1, shard_frozen=True),
        steps=50_000,
        batch_size=64,
        eval_every=500,
        sample_every=1000,
        checkpoint_every=500,
    )


def paper_unet() -> c.TrainConfig:
    """The paper's own de-tokenizer at 256x256: the U-Net of DynamiCrafter, 16 frames at 8 fps.

    Latents are those of Stable Diffusion's VAE, frame by frame. Divot's files initialise it.

    Command:  python launch/train.py --config configs/divot.py:paper/unet
              --config.init_from=DIVOT,DIVOT/Divot_detokenizer_stage1.bin
              --config.system.vae_path=DIVOT/Divot_detokenizer_stage1.bin
              --config.data.folder.path=FOLDER, where DIVOT is Divot_tokenizer_detokenizer
    Hardware: not compiled ahead of time.
    Time:     not run.
    Expect:   not run.
    """
    config, half = paper(), dict(dtype="bfloat16")
    detokenizer = c.UNetDetokenizerConfig(
        resampler=c.ResamplerConfig(in_width=256, out_width=1024, num_queries=125, **half),
        unet=c.UNetConfig(remat="full", **half),
    )
    return dataclasses.replace(
        config,
        system=dataclasses.replace(
            config.system,
            model=dataclasses.replace(config.system.model, detokenizer=detokenizer),
            vae=c.ImageVAEConfig(**half),
            diffusion=c.DiffusionConfig(),
            sampler=dataclasses.replace(c.DIVOT_REFERENCE, variant="clean"),
        ),
        data=dataclasses.replace(config.data, frames=16),
    )


PRESETS = {
    "tiny": tiny,
    "tiny/vit": tiny_vit,
    "tiny/stills": tiny_stills,
    "tiny/captions": tiny_captions,
    "tiny/detokenizer": tiny_detokenizer,
    "tiny/written": tiny_written,
    "paper": paper,
    "paper/unet": paper_unet,
}


def get_config(preset: str = "tiny", presets: c.Presets = PRESETS) -> ml_collections.ConfigDict:
    """Returns the run `preset` of `presets`, or `preset/patches` with tokens tied to patches.

    The latter have 2 x 2 tokens for each frame of the miniature, 20 of a clip, and 4 x 4 at the
    paper's sizes, 80 of a clip (D-U14).

    Raises:
        InputError: for another preset, or one without a tokenizer of clips.
    """
    name, _, row = preset.rpartition("/")
    if row != _PATCHES:
        return c.pick_preset(presets, preset)
    run = presets[name]() if name in presets else None
    if not isinstance(getattr(run, "system", None), c.DivotSystemConfig):
        tied = [n for n, make in presets.items() if make().system.kind == "divot"]
        raise InputError(
            f"preset must be one of {', '.join(tied)} before /{_PATCHES}, got {preset!r}"
        )
    return c.to_config_dict(_tied_to_patches(run))


def _tied_to_patches(run: c.TrainConfig) -> c.TrainConfig:
    tokenizer = run.system.model.tokenizer
    pool = 2 if tokenizer.pool == TINY_TOKENIZER.pool else 4
    tokenizer = dataclasses.replace(tokenizer, tokens=_PATCHES, token_pool=pool)
    model = dataclasses.replace(run.system.model, tokenizer=tokenizer)
    return dataclasses.replace(run, system=dataclasses.replace(run.system, model=model))
