# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot as published (arXiv 2412.04432), read as runs: tokenizer with de-tokenizer, and the LLM.

    Divot_tokenizer_detokenizer/      Divot_tokenizer.bin, Divot_detokenizer_stage{1,2}.bin
    Divot_pretrain/ Divot_sft_comp/ Divot_sft_gen/      llm/ and agent/ of an LLM
    cvlm_mistral_instruct_tokenizer/  the tokenizer of text

An LLM finds the other two folders inside its own or beside it.
"""

import dataclasses
import pathlib

import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.diffusion import samplers
from mimir_jax.errors import InputError, require
from mimir_jax.models import functional
from mimir_jax.weights import divot, divot_detokenizer, divot_tokenizer

CLIPS = "Divot_tokenizer_detokenizer"
TEXT = "cvlm_mistral_instruct_tokenizer"

_TEXT_FILES = ("tokenizer.json", "tokenizer.model")
_FRAMES = 16


def is_pair(place: pathlib.Path) -> bool:
    """Whether a folder, or the file of a de-tokenizer, has a tokenizer and a de-tokenizer."""
    file = _find(place, generates=False)
    return file is not None and (file.parent / divot_tokenizer.FILE).is_file()


def find_detokenizer(place: pathlib.Path, *, generates: bool) -> pathlib.Path:
    """Returns the file of the de-tokenizer in a folder where `is_pair` holds.

    Args:
        place: The folder, or one of its files.
        generates: Whether it draws what an LLM writes, which stage 2 is for, not tokens of real
            clips, which stage 1 is for. Where one alone is there, it serves both.
    """
    file = _find(place, generates=generates)
    assert file is not None
    return file


def _find(place: pathlib.Path, *, generates: bool) -> pathlib.Path | None:
    if place.name in divot_detokenizer.FILES:
        return place if place.is_file() else None
    names = divot_detokenizer.FILES[::-1] if generates else divot_detokenizer.FILES
    return next((place / name for name in names if (place / name).is_file()), None)


def read(
    file: pathlib.Path, *, dtype: DTypeLike | None = None
) -> tuple[c.TrainConfig, c.PublishedDetokenizerConfig]:
    """Reads tokenizer and de-tokenizer as the config of a Divot run; reads no weights.

    Videos have 16 frames at 8 fps in the size that the tokenizer reads. Sampling is that of the
    published code.

    Args:
        file: The de-tokenizer.
        dtype: Dtype of the networks; None keeps float32.

    Returns:
        The run, and what the file says of the de-tokenizer, its noise levels among it.

    Raises:
        InputError: for files that are damaged or do not fit each other.
    """
    opened = [weights.open_weights(file.parent, kind=divot_tokenizer.KIND)]
    opened.append(weights.open_weights(file))
    configs = [x.config for x in opened]
    if dtype is not None:
        configs = [x.family.with_dtype(x.config, str(np.dtype(dtype))) for x in opened]
    tokenizer, published = configs
    made, read = tokenizer.token_width, published.resampler.in_width
    require(
        made == read,
        f"{file.name} of {file.parent} must read the tokens of {made} numbers that its tokenizer "
        f"makes, it reads {read}; take both from one folder",
    )
    system = c.DivotSystemConfig(
        model=c.DivotConfig(tokenizer=tokenizer, detokenizer=published.network),
        vae=published.vae,
        vae_path=str(file),
        sampler=c.DIVOT_REFERENCE,
    )
    step = system.side_step
    side = max(1, round(tokenizer.frame_size / step)) * step
    data = c.DataConfig(
        source="folder",
        folder=c.FolderConfig(path=str(file.parent)),
        frames=_FRAMES,
        height=side,
        width=side,
    )
    return c.TrainConfig(system=system, data=data), published


def load(
    file: pathlib.Path, *, dtype: DTypeLike | None = None, mesh: Mesh | None = None
) -> functional.Params:
    """Loads the parameters of the network of `read`, without the VAE."""
    options = {"dtype": dtype, "mesh": mesh}
    _, tokenizer = weights.load(file.parent, kind=divot_tokenizer.KIND, **options)
    _, detokenizer = weights.load(file, **options)
    parts = {name: detokenizer[name] for name in ("resampler", "unet")}
    return {"tokenizer": tokenizer, "detokenizer": parts}


def make_sampler(
    published: c.PublishedDetokenizerConfig, sampler: c.SamplerConfig
) -> samplers.Sampler:
    """Returns the sampler; `clean` takes the computed noise levels, not those of the file.

    Raises:
        InputError: for a number of steps that leaves the noise levels.
    """
    if sampler.variant == "clean":
        published = dataclasses.replace(published, schedule="computed")
    made = samplers.make_sampler(sampler, divot_detokenizer.schedule(published))
    made.times()
    return made


def is_agent(folder: pathlib.Path) -> bool:
    """Whether a folder holds a published LLM of Divot."""
    return (folder / divot.LLM / "config.json").is_file() and (folder / divot.AGENT).is_dir()


def read_agent(folder: pathlib.Path) -> c.TrainConfig:
    """Reads a published LLM as the config of a run; reads no weights.

    One that was only pretrained, as its name says, takes captions alone; others have instructions.

    Raises:
        InputError: for files that are damaged, or without the folders of both tokenizers.
    """
    model = weights.open_weights(folder, kind=divot.Agent.kind).config
    clips = _beside(folder, CLIPS, (divot_tokenizer.FILE,))
    text = folder / divot.LLM
    if not any((text / name).is_file() for name in _TEXT_FILES):
        text = _beside(folder, TEXT, _TEXT_FILES)
    size = weights.open_weights(clips, kind=divot_tokenizer.KIND).config.frame_size
    return c.TrainConfig(
        system=c.DivotLLMSystemConfig(
            model=model,
            tokenizer_path=str(text),
            clip_tokenizer_path=str(clips),
            clip_frames=_FRAMES,
            max_length=min(c.ClipSequenceConfig().max_length, model.llm.rope.max_length),
            form="pretrain" if "pretrain" in folder.name.lower() else "instruct",
        ),
        data=c.DataConfig(
            source="folder",
            folder=c.FolderConfig(path=str(folder)),
            frames=_FRAMES,
            height=size,
            width=size,
        ),
    )


def _beside(folder: pathlib.Path, name: str, files: tuple[str, ...]) -> pathlib.Path:
    """Returns the folder `name` inside another or beside it, which holds one of `files`."""
    places = [folder / name, folder.absolute().parent / name]
    for place in places:
        if any((place / file).is_file() for file in files):
            return place
    raise InputError(
        f"checkpoint {folder} must have the folder {name} inside or beside it, with "
        f"{' or '.join(files)}, found none; download it too"
    )
