# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Presets of VIMI (arXiv 2407.06304): the networks and stages of the miniature; the paper's sizes.

The miniature is trained by `mimir-jax recipe vimi --out runs/vimi`, where these presets find its
parts.
"""

import dataclasses

import ml_collections

from mimir_jax import config as c

_SIZES = dict(width=128, num_layers=3, num_heads=4, head_dim=32, mlp_dim=512)
TINY_LLAVA = c.LlavaConfig(vit=c.TINY_VIT, llm=c.TINY_LLM, image_token=2357, vision_layers=(-1,))
"""The ViT of Divot's miniature and the shipped LLM: 64 tokens per image."""

TINY_ALIGNER = c.AlignerConfig(llm_width=160, text_width=128, text_length=64, **_SIZES)
_TINY_PROMPTS = c.MultimodalConfig(path="runs/vimi/llava", length=224)
_TINY_DIT = dataclasses.replace(
    c.TINY_DIT,
    in_channels=2 * c.TINY_VAE.latent_channels,  # reads first frames (V-U19)
    unroll=6,
)
_TINY_TEXT = c.TextConfig(t5_path="package:tiny/t5", length=64)


def tiny_llava() -> c.TrainConfig:
    """The multimodal LLM of the miniature: the shipped LLM learns to read images.

    Command:  python launch/train.py --config configs/vimi.py:tiny/llava
              --workdir runs/vimi/runs/llava
    Hardware: any; two CPU cores.
    Time:     12 minutes on two cores.
    Expect:   held-out loss 5.03 -> 0.26; 92 % of the held-out answer tokens right.
    """
    return c.TrainConfig(
        system=c.CaptioningSystemConfig(
            model=TINY_LLAVA, tokenizer_path="package:tiny/llava", length=128
        ),
        data=c.DataConfig(frames=1, toyworld=c.ToyworldConfig(num_scenes=32768, variety="single")),
        optimizer=c.OptimizerConfig(
            learning_rate=1e-3,
            schedule="cosine",
            lr_scale=(("^(vit|llm)/", 0.3),),  # begin trained
            warmup_steps=50,
            ema_decay=0.99,
        ),
        steps=2000,
        batch_size=16,
        eval_every=250,
        sample_every=1000,
        checkpoint_every=250,
        init_from="package:tiny/llm,runs/vimi/runs/vit",
    )


def tiny_aligner() -> c.TrainConfig:
    """The first phase of the aligner, which matches the shipped T5's states of captions.

    Command:  python launch/train.py --config configs/vimi.py:tiny/aligner
              --workdir runs/vimi/runs/aligner
    Hardware: any; two CPU cores.
    Time:     17 minutes on two cores shared with other programs.
    Expect:   held-out loss 4.17 -> 0.12; cosine 0.98 with T5's states.
    """
    return c.TrainConfig(
        system=c.AlignerSystemConfig(
            model=TINY_ALIGNER,
            multimodal=dataclasses.replace(_TINY_PROMPTS, length=64),  # captions alone
            text=_TINY_TEXT,
        ),
        data=c.DataConfig(toyworld=c.ToyworldConfig(num_scenes=16384, variety="single")),
        optimizer=c.OptimizerConfig(
            name="muon", learning_rate=5e-3, schedule="cosine", warmup_steps=50, ema_decay=0.99
        ),
        steps=2000,
        batch_size=64,
        eval_every=250,
        checkpoint_every=250,
    )


def tiny_aligner_images() -> c.TrainConfig:
    """The aligner goes on with images: it matches T5's states of what a prompt's images tell.

    Prompts have images of objects, first frames and documents, which explain an invented name in
    three of four; one in eight is a caption alone.

    Command:  python launch/train.py --config configs/vimi.py:tiny/aligner_images
              --workdir runs/vimi/runs/aligner_images
    Hardware: any; two CPU cores.
    Time:     0.4 to 0.7 s per step on one core that other programs also used.
    Expect:   `mimir-jax evaluate aligner`: the shape of an image in 9 of 10 scenes, that of a
              document in 7 of 10; after 2,400 and 3,000 steps, which started from an earlier one.
    """
    config = tiny_aligner()
    return dataclasses.replace(
        config,
        system=dataclasses.replace(
            config.system,
            multimodal=_TINY_PROMPTS,
            memory_path="runs/vimi/memory",
            tasks=c.TasksConfig(caption=1.0, subject=2.0, prediction=1.0, retrieval=4.0),
            invented_names=0.75,
            prompts_per_clip=3,
        ),
        optimizer=dataclasses.replace(config.optimizer, learning_rate=4e-3),
        steps=4000,
        batch_size=32,
        eval_every=500,
        init_from="runs/vimi/runs/aligner",
    )


def tiny_stage1() -> c.TrainConfig:
    """Retrieval-augmented pretraining of the miniature on a base that also reads first frames.

    Command:  python launch/train.py --config configs/vimi.py    (after the stages before it)
              or `mimir-jax recipe vimi --out runs/vimi` for all of them.
    Hardware: any; two CPU cores.
    Time:     not measured.
    Expect:   not run with this start.
    """
    return c.TrainConfig(
        system=c.VimiSystemConfig(
            model=c.VimiConfig(aligner=TINY_ALIGNER, dit=_TINY_DIT),
            multimodal=_TINY_PROMPTS,
            text=_TINY_TEXT,
            memory_path="runs/vimi/memory",
            tasks=c.TasksConfig(max_images=2),
            vae=c.TINY_VAE,
            vae_path="package:tiny/vae",
            # High noise, where the content of a video is decided, is what images must bring.
            diffusion=dataclasses.replace(c.TINY_DIFFUSION, timestep_power=2.0),
            sampler=c.SamplerConfig(
                name="ddim", steps=20, guidance_scale=4.0, dynamic_guidance="off"
            ),
            invented_names=0.5,
            heldout_clips=8,
        ),
        data=c.DataConfig(toyworld=c.ToyworldConfig(num_scenes=4096, variety="single")),
        optimizer=c.OptimizerConfig(
            learning_rate=1e-4,
            schedule="cosine",
            freeze=("^aligner/",),  # denoising would make it forget what images tell (V-U11)
            warmup_steps=50,
            ema_decay=0.99,
        ),
        steps=400,
        batch_size=8,
        eval_every=250,
        sample_every=500,
        checkpoint_every=100,
        init_from="runs/vimi/runs/i2v,runs/vimi/runs/aligner_images",
    )


def tiny_stage2() -> c.TrainConfig:
    """Instruction tuning of the miniature: subjects, first frames and documents.

    Command:  python launch/train.py --config configs/vimi.py:tiny/stage2
              --workdir runs/vimi/runs/stage2
    Hardware: any; two CPU cores.
    Time:     17 minutes on one core, and 5 for features of 1,536 clips.
    Expect:   the scores of docs/vimi.md; from shipped parts, on 1,536 clips, held-out loss 0.125 ->
              0.122, with documents 0.152 -> 0.117.
    """
    config = tiny_stage1()
    return dataclasses.replace(
        config,
        system=dataclasses.replace(config.system, stage="instruct"),
        steps=1200,
        init_from="runs/vimi/runs/stage1",
    )


def paper() -> c.TrainConfig:
    """The first stage at full size: LLaVA-1.5-7B and CogVideoX-5B, 480x720 and 49 frames.

    The paper's generator is another one, and its learning rate, batch and steps are UNSTATED.

    Command:  mimir-jax index FOLDER --out memory
              python launch/train.py --config configs/vimi.py:paper
              --config.init_from=CogVideoX-5b/transformer --config.system.vae_path=CogVideoX-5b/vae
              --config.system.multimodal.path=llava-1.5-7b-hf --config.system.memory_path=memory
              --config.data.folder.path=FOLDER
    Hardware: as compiled, 37 GB per chip for 8 TPU v5p chips with batch_size=8, and 21 GB for 64
              chips with its 64 clips.
    Time:     not run.
    Expect:   not run.
    """
    return c.TrainConfig(
        system=c.VimiSystemConfig(
            model=c.VimiConfig(
                aligner=c.AlignerConfig(dtype="bfloat16", remat="full"),
                dit=c.DiTConfig(**c.COGVIDEOX["5b"], dtype="bfloat16", remat="full"),
            ),
            vae=c.VAEConfig(dtype="bfloat16"),
            sampler=c.SamplerConfig(name="dpm", steps=50, guidance_scale=6.0),
            prompts_per_clip=1,
        ),
        data=c.DataConfig(
            source="folder",
            folder=c.FolderConfig(path="data/videos"),
            frames=49,
            height=480,
            width=720,
        ),
        optimizer=c.OptimizerConfig(
            learning_rate=1e-5,
            lr_scale=(("^(aligner|direct|beside)/", 10.0),),
            warmup_steps=100,
            ema_decay=0.9999,
            clip_norm=1.0,
        ),
        mesh=c.MeshConfig(data=1, fsdp=-1, shard_frozen=True),
        steps=10_000,
        batch_size=64,
        eval_every=500,
        sample_every=1000,
        checkpoint_every=500,
    )


def paper_stage2() -> c.TrainConfig:
    """Instruction tuning at full size: subject-driven, video prediction and text-to-video.

    Command:  mimir-jax cutouts FOLDER cutouts
              as `paper`, with --config configs/vimi.py:paper/stage2, the run of `paper` as
              --config.init_from, and --config.system.subjects_path=cutouts
    Hardware: as `paper`.
    Time:     not run.
    Expect:   not run.
    """
    config = paper()
    return dataclasses.replace(
        config,
        system=dataclasses.replace(config.system, stage="instruct", subjects_path="cutouts"),
        optimizer=dataclasses.replace(config.optimizer, learning_rate=1e-6),
    )


PRESETS = {
    "tiny/llava": tiny_llava,
    "tiny/aligner": tiny_aligner,
    "tiny/aligner_images": tiny_aligner_images,
    "tiny/stage1": tiny_stage1,
    "tiny/stage2": tiny_stage2,
    "paper": paper,
    "paper/stage2": paper_stage2,
}


def get_config(
    preset: str = "tiny/stage1", presets: c.Presets = PRESETS
) -> ml_collections.ConfigDict:
    """Returns the run `preset` of `presets`."""
    return c.pick_preset(presets, preset)
