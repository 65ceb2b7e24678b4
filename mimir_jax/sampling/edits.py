# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos from videos, without training: editing, inpainting and continuation.

    video   -> latents with the noise of an inner step -> the steps after it (SDEdit, 2108.01073)
    mask    -> latents outside it replaced by those of the video, with noise, at every step
    extend  -> the same with the last frames of a video as the first ones of the new one

Replacement is that of RePaint (arXiv 2201.09865) without resampling; the noise is that of the start
at every step. Kept latents are exact; kept pixels pass through the VAE once.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, UInt8

from mimir_jax.diffusion import samplers
from mimir_jax.errors import require
from mimir_jax.sampling.request import Request
from mimir_jax.systems import base

STRENGTH = 0.8
"""Share of the steps that a video is edited by where none is given, as in diffusers."""


def is_edit(request: Request) -> bool:
    """Whether a video starts from another one."""
    return request.video is not None or request.extend is not None


def check(system: base.DiffusionSystem, requests: Sequence[Request], size: Sequence[int]) -> None:
    """Raises `InputError` for edits that no model can follow.

    Args:
        system: Makes the videos.
        requests: The requests.
        size: Frames, height and width of their videos.
    """
    edits = [is_edit(request) for request in requests]
    strengths = {strength_of([request]) for request in requests}
    require(
        not any(edits) or "prompt" in system.request_fields,
        f"video must be left out for {system.config.kind}, which reads no prompt; use a "
        "text-to-video model",
    )
    require(
        all(edits) or not any(edits),
        "requests made together must all edit a video or none; make them one by one",
    )
    require(
        len(strengths) == 1,
        f"requests made together must have one strength, got {len(strengths)}; make them one by "
        "one",
    )
    for request in requests:
        _check_one(system, request, tuple(size))


def _check_one(system: base.DiffusionSystem, request: Request, size: tuple[int, ...]) -> None:
    video, extend, mask = request.video, request.extend, request.mask
    require(
        video is None or extend is None,
        "one of video and extend must be left out, got both; edit and continue one after the other",
    )
    for name in ("strength", "mask"):
        require(
            getattr(request, name) is None or video is not None,
            f"{name} must be left out without a video to edit; pass video (--video)",
        )
    if video is not None:
        require(
            video.shape[:3] == size,
            f"video must have the size {size} of the result, got {video.shape[:3]}; resize it",
        )
    if mask is not None:
        require(
            mask.shape in (size, size[1:]),
            f"mask must have the size {size[1:]} of a frame, or of all frames, got {mask.shape}; "
            "resize it",
        )
    if extend is not None:
        overlap = request.overlap
        system.codec.check_frames(overlap, "overlap (--extend_frames)")
        require(
            overlap < size[0] and overlap <= len(extend) and extend.shape[1:3] == size[1:],
            f"overlap (--extend_frames) must be below the {size[0]} frames of a video and at most "
            f"those of the one to continue, of one height and width, got {overlap} of "
            f"{extend.shape[:3]} for {size}; lower it, or give a longer video",
        )


def with_skip(sampler: samplers.Sampler, strength: float | None) -> samplers.Sampler:
    """Returns a sampler of the last `strength` of its steps; None takes all of them.

    Raises:
        InputError: for a sampler over noise levels, or a strength that leaves no step.
    """
    if strength is None:
        return sampler
    steps = min(int(sampler.num_steps * strength), sampler.num_steps)
    require(
        0 < strength <= 1 and steps > 0,
        f"strength must be at most 1 and leave a step of {sampler.num_steps}, got {strength}; "
        "raise it, or --steps",
    )
    require(
        "skip" in {field.name for field in dataclasses.fields(sampler)},
        f"strength must be left out with {type(sampler).__name__}, which has no timesteps; use "
        "ddim or dpm",
    )
    return dataclasses.replace(sampler, skip=sampler.num_steps - steps)


def strength_of(requests: Sequence[Request]) -> float | None:
    """Returns the strength of requests that edit a video.

    It is 1 by default with a mask, which protects the rest, and for continuations; else `STRENGTH`.
    """
    request = requests[0]
    if request.video is None or request.strength is not None:
        return request.strength
    return None if request.mask is not None else STRENGTH


def known(
    system: base.DiffusionSystem, encoder: base.DiffusionEncoder, requests: Sequence[Request]
) -> samplers.Known | None:
    """Returns the latents of videos and where they are kept; None for requests without them."""
    if not is_edit(requests[0]):
        return None
    clean, keep = zip(*(_known_one(system, encoder, request) for request in requests), strict=True)
    if all(mask is None for mask in keep):
        return samplers.Known(jnp.concatenate(clean))
    masks = [
        np.zeros((*x.shape[:-1], 1), bool) if mask is None else mask
        for x, mask in zip(clean, keep, strict=True)
    ]
    return samplers.Known(jnp.concatenate(clean), jnp.asarray(np.concatenate(masks)))


def _known_one(
    system: base.DiffusionSystem, encoder: base.DiffusionEncoder, request: Request
) -> tuple[Any, Bool[np.ndarray, "1 t h w 1"] | None]:
    if request.extend is not None:
        clean = encoder.encode_video(request.extend[-request.overlap :][None])
        total = system.codec.latent_shape(request.frames, *request.extend.shape[1:3])[0]
        given = clean.shape[1]
        clean = jnp.pad(clean, ((0, 0), (0, total - given), (0, 0), (0, 0), (0, 0)))
        keep = np.zeros((*clean.shape[:-1], 1), bool)
        keep[:, :given] = True
    else:
        clean, keep = encoder.encode_video(request.video[None]), None
        if request.mask is not None:
            keep = ~latent_mask(request.mask, request.video.shape[:3], clean.shape[1:4])[None]
    extra = system.padded_frames(clean.shape[1]) - clean.shape[1]  # as training pads
    clean = jnp.concatenate([clean[:, :1]] * extra + [clean], axis=1)
    if keep is not None:
        keep = np.concatenate([keep[:, :1]] * extra + [keep], axis=1)
    return clean, keep


def latent_mask(
    mask: Bool[np.ndarray, "..."], size: Sequence[int], latent: Sequence[int]
) -> Bool[np.ndarray, "t h w 1"]:
    """Returns the latents that any pixel of a mask falls into; the first one is of one frame."""
    frames, height, width = size
    whole = np.broadcast_to(mask, (frames, height, width))
    t, h, w = latent
    rows = whole.reshape(frames, h, height // h, w, width // w).any(axis=(2, 4))
    each = (frames - 1) // max(t - 1, 1)
    parts = [rows[:1], *(rows[1 + each * i : 1 + each * (i + 1)] for i in range(t - 1))]
    return np.stack([part.any(axis=0) for part in parts])[..., None]


def spliced(request: Request, made: UInt8[np.ndarray, "f h w 3"]) -> UInt8[np.ndarray, "f2 h w 3"]:
    """Returns a video as it is shown: a continuation behind all frames that it continues."""
    if request.extend is None:
        return made
    return np.concatenate([request.extend, made[request.overlap :]])
