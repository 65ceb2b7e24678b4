# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What requests a system can follow, checked before any network runs."""

from collections.abc import Sequence

from mimir_jax.config import SamplerConfig
from mimir_jax.diffusion import guidance
from mimir_jax.errors import require
from mimir_jax.sampling import edits, first_frames, long
from mimir_jax.sampling.request import Request, Size
from mimir_jax.systems import base


def check(
    requests: Sequence[Request],
    system: base.DiffusionSystem,
    sampler: SamplerConfig,
    size: Size,
    fps: float,
    *,
    tiled: bool,
) -> None:
    """Raises `InputError` for a request that a system cannot follow or does not read.

    Args:
        requests: The requests.
        system: Makes their videos.
        sampler: Guidance and shortcuts.
        size: Size of a video where a request names none.
        fps: Frames per second.
        tiled: Whether videos are decoded in tiles.
    """
    read, kind = system.request_fields, system.config.kind
    require(
        "images" in read or not any(r.images for r in requests),
        f"images must be left out for this {kind}, whose prompts have no images; use a run "
        "of the second stage of vimi",
    )
    require(
        "document" in read or all(r.document is None for r in requests),
        f"document must be left out for {kind}, which reads none; use a run of vimi",
    )
    first_frames.check(system, [r.first_frame for r in requests])
    clips = [r.clip is not None or r.tokens is not None for r in requests]
    reads = "clip" in read
    require(
        reads or not any(clips),
        f"clip must be left out for {kind}, which reconstructs none; use a run of divot",
    )
    require(
        not reads or all(clips),
        f"clip must be given for {kind}, which reads clips, not prompts; pass one (--reconstruct)",
    )
    require(
        guidance.guides(sampler) or all(r.negative_prompt is None for r in requests),
        "negative_prompt must be left out without guidance, which alone reads it, got a "
        f"guidance scale of {sampler.guidance_scale}; raise --guidance_scale",
    )
    for each in set(map(size.of, requests)):
        system.check_size(*each)
        edits.check(system, [r for r in requests if size.of(r) == each], each)
    for request in filter(long.is_long, requests):
        long.plan(system, request, size.of(request), fps)
        require(
            not tiled and sampler.shortcuts.cache == "off",
            "length must be left out with tiles or a step cache, which know one clip; leave "
            "--tiled and --cache out",
        )
