# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's LLM as published (arXiv 2412.04432), read as a run.

    Divot_pretrain/ Divot_sft_comp/ Divot_sft_gen/      llm/ and agent/ of an LLM
    Divot_tokenizer_detokenizer/      Divot_tokenizer.bin and de-tokenizers
    cvlm_mistral_instruct_tokenizer/  the tokenizer of text

An LLM finds the other two folders inside its own or beside it.
"""

import functools
import pathlib
from typing import Any

import numpy as np
from jax.typing import DTypeLike

from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.systems import base
from mimir_jax.weights import divot, divot_pair, divot_tokenizer

SYSTEM = c.DivotLLMSystemConfig
TEXT = "cvlm_mistral_instruct_tokenizer"

_TEXT_FILES = ("tokenizer.json", "tokenizer.model")
_FRAMES = 16


def is_published(folder: pathlib.Path) -> bool:
    """Whether a folder holds a published LLM of Divot."""
    return (folder / divot.LLM / "config.json").is_file() and (folder / divot.AGENT).is_dir()


def read(folder: pathlib.Path, *, dtype: DTypeLike | None = None) -> base.Published:
    """Reads a published LLM as a run; loads no weights.

    One that was only pretrained, as its name says, takes captions alone; others have instructions.

    Args:
        folder: The LLM.
        dtype: Dtype of the network; None keeps that of the files.

    Raises:
        InputError: for files that are damaged, or without the folders of both tokenizers.
    """
    opened = weights.open_weights(folder, kind=divot.Agent.kind)
    model = opened.config
    if dtype is not None:
        model = opened.family.with_dtype(model, str(np.dtype(dtype)))
    clips = _beside(folder, divot_pair.FOLDER, (divot_tokenizer.FILE,))
    text = folder / divot.LLM
    if not any((text / name).is_file() for name in _TEXT_FILES):
        text = _beside(folder, TEXT, _TEXT_FILES)
    size = weights.open_weights(clips, kind=divot_tokenizer.KIND).config.frame_size
    config = c.TrainConfig(
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
    return base.Published(
        path=folder,
        config=config,
        load=functools.partial(_load, folder),
        reads_as_published=True,
    )


def _load(folder: pathlib.Path, **options: Any) -> functional.Params:
    return weights.load(folder, kind=divot.Agent.kind, **options)[1]


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
