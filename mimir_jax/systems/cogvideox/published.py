# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Published CogVideoX pipelines (arXiv 2408.06072) in the layout of diffusers, as runs.

Image-to-video pipelines read the latents of the first frame in the scale that the VAE's config
tells by `invert_scale_latents`: times its scaling factor (1.0), or divided by it (1.5).
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import numpy as np
from jax.typing import DTypeLike

from mimir_jax import config as c
from mimir_jax import files, weights
from mimir_jax.diffusion import samplers, scheduler_config
from mimir_jax.errors import InputError, require
from mimir_jax.models import functional
from mimir_jax.systems import base
from mimir_jax.weights import loading, opening

INDEX = "model_index.json"
CLASSES = {
    "CogVideoXPipeline": False,
    "CogVideoXImageToVideoPipeline": True,
    "CogVideoXVideoToVideoPipeline": False,  # the networks of the first
}
"""The pipelines of diffusers that open, and whether they read a first frame."""

SYSTEM = c.CogVideoXSystemConfig
_NETWORKS = {"text_encoder": "t5", "transformer": "dit", "vae": "vae"}
_FOLDERS = ("tokenizer", "scheduler", *_NETWORKS)


def is_published(folder: pathlib.Path) -> bool:
    """Whether `folder` holds a pipeline of diffusers."""
    return (folder / INDEX).is_file()


def read(folder: pathlib.Path, *, dtype: DTypeLike | None = None) -> base.Published:
    """Reads a pipeline as a CogVideoX run with its own sampler; loads no weights.

    The size is that of the transformer; sampling takes 50 steps at guidance 6, as in diffusers.

    Args:
        folder: Holds `model_index.json` of one of `CLASSES`, and the folders `tokenizer`,
            `text_encoder`, `transformer`, `vae` and `scheduler`.
        dtype: Dtype of the networks; None keeps the stored one.

    Raises:
        InputError: for another pipeline, a missing folder, one that does not hold its part, or
            parts that do not fit each other.
    """
    reads_image = CLASSES[check_index(folder)]
    sampler = scheduler_config.load_scheduler(folder / "scheduler")
    configs = {name: _read_config(folder / name, kind, dtype) for name, kind in _NETWORKS.items()}
    cfg, vae = configs["transformer"], configs["vae"]
    _check_fit(folder, cfg, vae, configs["text_encoder"], reads_image)
    first_frame = c.FirstFrameConfig()
    if reads_image and _inverts(folder / "vae"):
        first_frame = c.FirstFrameConfig(latent_scale="inverse")
    system = c.CogVideoXSystemConfig(
        dit=cfg,
        vae=vae,
        vae_path=str(folder / "vae"),
        text=c.TextConfig(
            t5_path=str(folder / "text_encoder"),
            dtype=None if dtype is None else str(np.dtype(dtype)),
            length=cfg.text_length,
            null="empty",
        ),
        first_frame=first_frame,
        diffusion=sampler.schedule.config,
        sampler=c.SamplerConfig(
            name=_name(sampler), steps=50, guidance_scale=6.0, dynamic_guidance="off"
        ),
    )
    data = c.DataConfig(
        source="folder",
        folder=c.FolderConfig(path=str(folder)),
        frames=vae.nearest_frames((cfg.sample_frames - 1) * vae.temporal_compression + 1),
        height=cfg.sample_height * vae.spatial_compression,
        width=cfg.sample_width * vae.spatial_compression,
        fps=8.0 if cfg.temporal_patch is None else 16.0,
    )

    return base.Published(
        path=folder,
        config=c.TrainConfig(system=system, data=data),
        load=functools.partial(_load, folder),
        make_sampler=functools.partial(_with_settings, sampler),
    )


def _load(folder: pathlib.Path, **options: Any) -> functional.Params:
    return weights.load(folder / "transformer", kind="dit", **options)[1]


def _with_settings(
    sampler: samplers.DDIM | samplers.DPM, cfg: c.SamplerConfig
) -> samplers.DDIM | samplers.DPM:
    """Returns a published sampler with name, steps and eta of `cfg`."""
    if cfg.name != _name(sampler):
        sampler = samplers.with_name(sampler, cfg.name)
    options = {"eta": cfg.eta} if cfg.name == "ddim" else {}
    sampler = dataclasses.replace(sampler, num_steps=cfg.steps, **options)
    sampler.coefficients()  # raises for a number of steps that its other options forbid
    return sampler


def _name(sampler: samplers.DDIM | samplers.DPM) -> str:
    return {kind: name for name, kind in samplers.SAMPLERS.items()}[type(sampler)]


def _read_config(folder: pathlib.Path, kind: str, dtype: DTypeLike | None) -> Any:
    opened = weights.open_weights(folder)
    loading.check_kind(opened, kind)
    if dtype is None:
        return opened.config
    return opening.FAMILIES[kind].with_dtype(opened.config, str(np.dtype(dtype)))


def _check_fit(
    folder: pathlib.Path, cfg: c.DiTConfig, vae: c.VAEConfig, t5: c.T5Config, reads_image: bool
) -> None:
    channels = vae.latent_channels
    for name, rule, fit in (
        ("in_channels", "twice the channels of the VAE", 2 * channels)
        if reads_image
        else ("in_channels", "the channels of the VAE", channels),
        ("out_channels", "the channels of the VAE", channels),
        ("text_width", "the width of T5", t5.width),
    ):
        value = getattr(cfg, name)
        require(
            value == fit,
            f"transformer {name} of {folder} must be {fit}, {rule}, in this pipeline, got {value}; "
            "take both from one pipeline",
        )


def check_index(folder: pathlib.Path) -> str:
    """Returns the class of the pipeline in `folder`.

    Raises:
        InputError: unless it holds a whole pipeline of one of `CLASSES`.
    """
    path = folder / INDEX
    try:
        index: Any = json.loads(path.read_bytes())
        name = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"pipeline {folder} must hold the {INDEX} of diffusers, got none: {reason}; name the "
            "folder that a pipeline was saved to"
        ) from None
    require(
        isinstance(name, str) and name in CLASSES,
        f"pipeline {folder} must be a {' or a '.join(CLASSES)}, got {name}; use one of those "
        "models",
    )
    missing = [part for part in _FOLDERS if not (folder / part).is_dir()]
    require(
        not missing,
        f"pipeline {folder} must hold the folders {', '.join(_FOLDERS)}, got no "
        f"{', '.join(missing)}; download it whole",
    )
    return name


def _inverts(vae: pathlib.Path) -> bool:
    return bool(files.read_json(vae / "config.json", "config").get("invert_scale_latents"))
