# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizer and de-tokenizer of Divot as published (arXiv 2412.04432), read as a run.

Divot_tokenizer_detokenizer/      Divot_tokenizer.bin, Divot_detokenizer_stage{1,2}.bin
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import DTypeLike

from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.diffusion import samplers
from mimir_jax.errors import require
from mimir_jax.models import functional
from mimir_jax.systems import base
from mimir_jax.weights import divot_detokenizer, divot_pair, divot_tokenizer

SYSTEM = c.DivotSystemConfig
_FRAMES = 16

is_published = divot_pair.is_published


def read(place: pathlib.Path, *, dtype: DTypeLike | None = None) -> base.Published:
    """Reads tokenizer and de-tokenizer as a run of Divot; loads no weights.

    Videos have 16 frames at 8 fps in the size that the tokenizer reads. Sampling is that of the
    published code.

    Args:
        place: The de-tokenizer, or the folder, of which it takes that of real clips.
        dtype: Dtype of the networks; None keeps float32.

    Raises:
        InputError: for files that are damaged or do not fit each other.
    """
    file = divot_pair.find_detokenizer(place, generates=False)
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
    return base.Published(
        path=file,
        config=c.TrainConfig(system=system, data=data),
        load=functools.partial(_load, file),
        make_sampler=functools.partial(make_sampler, published),
        reads_as_published=True,
    )


def _load(
    file: pathlib.Path, *, lora: Sequence[str] = (), quantize: str = "off", **options: Any
) -> functional.Params:
    """Loads the parameters of the network of `read`, without the VAE; it is not quantised."""
    del quantize
    require(
        not lora,
        f"--lora must be left out for {file}, which has no video transformer for adapters",
    )
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
