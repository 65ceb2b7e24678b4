# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Which videos a CogVideoX model and its VAE can make, and the shape of their latents."""

import functools

from mimir_jax.config import DiTConfig, VAEConfig
from mimir_jax.errors import require
from mimir_jax.models import dit

Shape = tuple[int, ...]
NAMES = ("num_frames", "height", "width")


def latent_shape(
    cfg: DiTConfig,
    vae: VAEConfig,
    rows: int,
    *,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    names: tuple[str, str, str] = NAMES,
) -> Shape:
    """Returns the latent shape (b, t, h, w, c) of videos of a size, without padding.

    Args:
        cfg: The transformer; its sample size is the default.
        vae: The VAE.
        rows: Number of videos.
        num_frames: Frames of each.
        height: Pixel rows.
        width: Pixel columns.
        names: What errors call the three.

    Raises:
        ValueError: for a size that the networks cannot make, naming the nearest one they can.
    """
    scale = vae.spatial_compression
    if num_frames is None:
        num_frames = (cfg.sample_frames - 1) * vae.temporal_compression + 1
    height = cfg.sample_height * scale if height is None else height
    width = cfg.sample_width * scale if width is None else width
    vae.check_frames(num_frames, names[0])
    check = functools.partial(_check_side, step=cfg.patch * scale)
    bounded = cfg.position != "sincos" and cfg.rope_grid == "integer"
    check(names[1], height, most=cfg.sample_height * scale if bounded else None)
    check(names[2], width, most=cfg.sample_width * scale if bounded else None)
    frames = vae.latent_frames(num_frames)
    shape = (rows, frames, height // scale, width // scale, cfg.in_channels)
    dit.token_grid(cfg, (rows, dit.padded_frames(frames, cfg), *shape[2:]))
    return shape


def latent_shape_of(
    cfg: DiTConfig,
    vae: VAEConfig,
    rows: int,
    given: Shape,
    *,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Shape:
    """Returns the latent shape, without padding, of videos that start from noise of shape `given`.

    Padding of 1.5 models is what `num_frames` says; by default what leaves the most frames that the
    VAE returns whole, which is one latent frame in released models.

    Args:
        cfg: The transformer.
        vae: The VAE.
        rows: Number of videos.
        given: Shape of the noise (b, t, h, w, c), padding included.
        num_frames: Frames of each video.
        height: Pixel rows, if they must agree.
        width: Pixel columns, likewise.

    Raises:
        ValueError: for noise that does not fit the networks or the other sizes.
    """
    require(
        len(given) == 5 and given[0] == rows,
        f"latents must have shape (b, t, h, w, c) with {rows} rows, one a video, got {given}; draw "
        "as many",
    )
    dit.token_grid(cfg, given)
    for name, size, latent in (("height", height, given[2]), ("width", width, given[3])):
        implied = latent * vae.spatial_compression
        require(
            size in (None, implied),
            f"{name} must be the {implied} of latents {given}, got {size}; leave it out",
        )
    kept = given[1]
    if num_frames is not None:
        vae.check_frames(num_frames, NAMES[0])
        kept = vae.latent_frames(num_frames)
        padded = dit.padded_frames(kept, cfg)
        require(
            padded == given[1],
            f"latents must have {padded} frames for num_frames={num_frames}, got {given[1]}; "
            "leave num_frames out",
        )
    elif cfg.temporal_patch is not None:
        whole = kept - (kept - 1) % vae.latent_chunk
        kept = whole if dit.padded_frames(whole, cfg) == kept else kept
    return (rows, kept, *given[2:])


def _check_side(name: str, size: int, *, step: int, most: int | None) -> None:
    """Raises `ValueError` unless patches divide `size` and it is at most `most`."""
    nearest = max(1, round(size / step)) * step
    rule = f"a multiple of {step} (VAE compression x patch)"
    if most is not None:
        nearest = min(nearest, most // step * step)
        rule += f" of at most {most} (the rotary grid)"
    require(size == nearest, f"{name} must be {rule}, got {size}; the nearest is {nearest}")
