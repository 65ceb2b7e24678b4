# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Presets of Divot's LLM (arXiv 2412.04432): the miniature's stages, and the paper's.

`PRESET/ROW` changes the head or the queries, as the paper's Tables 7 and 8 do, and
`PRESET/clips-N` the number of clips of a video.
"""

import dataclasses
import re
from typing import Any

import ml_collections

from mimir_jax import config as c
from mimir_jax.errors import InputError

ROWS: dict[str, dict[str, Any]] = {
    "regression": {"head": "regression"},
    "noise": {"head": "noise"},
    "velocity": {"head": "velocity"},
    "causal": {"queries": "causal"},
    "autoregressive": {"queries": "autoregressive"},
    "components-1": {"num_components": 1},
}
"""What a row changes of the model."""

_CLIPS = re.compile(r"clips-([1-9]\d*)")

_MINIATURE = c.AgentConfig(
    llm=dataclasses.replace(c.TINY_LLM, vocab_size=2432 + 6 + 16, query_block=16),
    token_width=32,
    num_components=4,
    denoiser_width=128,
)
_ADAPTERS = c.LoraConfig(
    rank=32,
    alpha=32.0,
    dropout=0.05,
    targets=(r"/attention/(qkv|out)/kernel$", r"/mlp/(gate_up|down)/kernel$"),
    train=(r"norm/", r"/embed/", r"/head/"),
    base_dtype="bfloat16",
)


def tiny_writing() -> c.TrainConfig:
    """The first stage of the shipped miniature: only writing clips. Places come sooner so.

    Command:  python launch/precompute.py --config configs/divot_llm.py --out features
              python launch/train.py --config configs/divot_llm.py:tiny-writing
              --config.data.features=features --workdir runs/divot_llm_writing
    Hardware: two CPU cores.
    Time:     6 minutes on one of two cores, and 2 for the tokens of 16384 clips.
    Expect:   docs/divot_llm.md.
    """
    config = tiny()
    system = dataclasses.replace(config.system, comprehension=0.0)
    return dataclasses.replace(config, system=system, steps=1500)


def tiny() -> c.TrainConfig:
    """The miniature on Toyworld clips: the shipped LLM with 22 more tokens.

    Command:  python launch/precompute.py --config configs/divot_llm.py --out features
              python launch/train.py --config configs/divot_llm.py --config.data.features=features
              (`--config.system.clip_tokenizer_path` names the run of `divot` in both)
    Hardware: two CPU cores.
    Time:     20 minutes on one of two cores, and 2 for the tokens of 16384 clips.
    Expect:   docs/divot_llm.md has its scores, and those of 2000 steps after `tiny-writing`.
    """
    return c.TrainConfig(
        system=c.DivotLLMSystemConfig(
            model=_MINIATURE,
            tokenizer_path="package:tiny/llm",
            clip_tokenizer_path="runs/divot",
            clip_frames=17,
            max_length=72,
            comprehension=1.0,
        ),
        data=c.DataConfig(
            toyworld=c.ToyworldConfig(num_scenes=16384, variety="single"), window="first"
        ),
        optimizer=c.OptimizerConfig(
            learning_rate=2e-3,
            lr_scale=(("^llm/blocks/", 0.5),),  # begin trained
            schedule="cosine",
            warmup_steps=100,
            weight_decay=0.01,
            ema_decay=0.99,
        ),
        steps=5000,
        batch_size=32,
        eval_every=250,
        checkpoint_every=250,
        init_from="package:tiny/llm",
    )


def tiny_instruct() -> c.TrainConfig:
    """The miniature with instructions and questions, from the run of `tiny`.

    Command:  python launch/train.py --config configs/divot_llm.py:tiny-instruct
    Hardware: two CPU cores.
    Time:     not run.
    Expect:   not run.
    """
    config = tiny()
    system = dataclasses.replace(config.system, form="instruct", max_length=96)
    return dataclasses.replace(
        config,
        system=system,
        optimizer=dataclasses.replace(config.optimizer, learning_rate=1e-3),
        steps=800,
        init_from="runs/divot_llm",
    )


def tiny_story() -> c.TrainConfig:
    """The miniature with instructions on stories of three clips, from the run of `tiny`.

    A third of its rows describe a clip or answer a question about it, a third write one, a third
    tell a story.

    Command:  python launch/precompute.py --config configs/divot_llm.py:tiny-story --out stories
              python launch/train.py --config configs/divot_llm.py:tiny-story
              --config.data.features=stories
    Hardware: two CPU cores.
    Time:     5 minutes beside other work.
    Expect:   the scores of `package:tiny/divot` in docs/divot_llm.md.
    """
    config = tiny_instruct()
    toyworld = dataclasses.replace(config.data.toyworld, num_scenes=1024, pages=3)
    return dataclasses.replace(
        config,
        system=dataclasses.replace(config.system, story=1.0, max_length=120),
        data=dataclasses.replace(config.data, toyworld=toyworld, frames=51),
        steps=300,
    )


def paper() -> c.TrainConfig:
    """Pretraining on Mistral-7B for both directions, with adapters and up to 20 clips per video.

    Command:  python launch/train.py --config configs/divot_llm.py:paper
              --config.init_from=Mistral-7B-Instruct-v0.1
              --config.system.tokenizer_path=cvlm_mistral_instruct_tokenizer
              --config.system.clip_tokenizer_path=FOLDER --config.data.folder.path=FOLDER
    Hardware: compiled ahead of time for TPU v5p: 19 GB per chip on 8 chips, 8 GB on 64.
    Time:     not run.
    Expect:   not run.
    """
    return c.TrainConfig(
        system=c.DivotLLMSystemConfig(
            model=c.AgentConfig(
                llm=dataclasses.replace(c.AgentConfig().llm, dtype="bfloat16", remat="full")
            ),
            lora=_ADAPTERS,
            clip_windows="follow",
        ),
        data=c.DataConfig(
            source="folder",
            folder=c.FolderConfig(path="CLIPS"),
            frames=320,
            height=256,
            width=256,
            min_side=100,
            min_aspect=0.3,
        ),
        optimizer=c.OptimizerConfig(
            learning_rate=1e-4,
            schedule="cosine",
            warmup_steps=500,
            b2=0.98,
            eps=1e-6,
            weight_decay=0.05,
            grad_accumulation=4,
        ),
        mesh=c.MeshConfig(data=1, fsdp=-1),
        steps=100_000,
        batch_size=256,
        log_every=50,
        eval_every=2000,
        checkpoint_every=1000,
    )


def paper_comprehension() -> c.TrainConfig:
    """Instruction tuning for comprehension, the head frozen: Divot's second stage.

    Command:  python launch/train.py --config configs/divot_llm.py:paper-comprehension
              --config.init_from=Divot_pretrain, and the other flags of `paper`
    Hardware: as `paper`.
    Time:     not run.
    Expect:   not run.
    """
    return _tuned(
        paper(),
        frozen="^head/",
        clip_windows="fill",
        comprehension=1.0,
        generation=0.0,
        max_length=1650,
    )


def paper_generation() -> c.TrainConfig:
    """Instruction tuning for generation, the projector frozen: Divot's second stage.

    Command:  python launch/train.py --config configs/divot_llm.py:paper-generation
              --config.init_from=Divot_pretrain, and the other flags of `paper`
    Hardware: as `paper`.
    Time:     not run.
    Expect:   not run.
    """
    return _tuned(
        paper(),
        frozen="^projector/",
        frames=16,
        comprehension=0.0,
        generation=1.0,
        max_length=180,
    )


PRESETS = {
    "tiny": tiny,
    "tiny-writing": tiny_writing,
    "tiny-instruct": tiny_instruct,
    "tiny-story": tiny_story,
    "paper": paper,
    "paper-comprehension": paper_comprehension,
    "paper-generation": paper_generation,
}


def get_config(preset: str = "tiny", presets: c.Presets = PRESETS) -> ml_collections.ConfigDict:
    """Returns the run `preset` of `presets`, or `preset/row` for a row of the ablations.

    A row is one of `ROWS`, or `clips-N` for videos of N clips, longer than those of the preset.

    Raises:
        InputError: for another preset or row, listing the valid ones.
    """
    name, _, row = preset.partition("/")
    clips = _CLIPS.fullmatch(row)
    if name not in presets or not (clips or row in ("", *ROWS)):
        raise InputError(
            f"preset must be one of {', '.join(presets)}, alone or with one of "
            f"{', '.join('/' + row for row in (*ROWS, 'clips-N'))}, got {preset!r}"
        )
    config = presets[name]()
    if clips:
        config = _with_clips(config, int(clips[1]))
    elif row:
        model = dataclasses.replace(config.system.model, **ROWS[row])
        system = dataclasses.replace(config.system, model=model)
        config = dataclasses.replace(config, system=system)
    return c.to_config_dict(config)


def _with_clips(config: c.TrainConfig, count: int) -> c.TrainConfig:
    """Returns a run on videos of `count` clips, with rows of as many more tokens."""
    system, frames = config.system, config.data.frames
    more = count - system.num_clips(frames)
    length = system.max_length + more * (system.model.num_queries + 2)
    return dataclasses.replace(
        config,
        system=dataclasses.replace(system, max_length=length),
        data=dataclasses.replace(config.data, frames=count * system.clip_frames),
    )


def _tuned(
    config: c.TrainConfig, *, frozen: str, frames: int = 320, **system: Any
) -> c.TrainConfig:
    return dataclasses.replace(
        config,
        system=dataclasses.replace(config.system, form="instruct", **system),
        data=dataclasses.replace(config.data, frames=frames, min_aspect=0.333),
        optimizer=dataclasses.replace(config.optimizer, freeze=(frozen,)),
    )
