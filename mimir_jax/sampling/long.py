# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos longer than the clips of a network, by overlapping windows, with prompts in time.

Every window has the positions of a clip of its own, 0 to its length, and reads the prompt of the
scene at its middle. The window at the start alone reads the first frame. The latents of the whole
video are on the device, windows and chunks of frames one at a time.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from mimir_jax.diffusion import windows
from mimir_jax.errors import require
from mimir_jax.sampling import edits, scenes
from mimir_jax.sampling.request import Request


class Plan(NamedTuple):
    """How a long video is made.

    Attributes:
        shape: Shape of its latents (t, h, w, c), without padding.
        windows: The windows over its padded latents.
        requests: What each condition of a window is made from.
    """

    shape: tuple[int, ...]
    windows: windows.Windows
    requests: tuple[Request, ...]


def is_long(request: Request) -> bool:
    """Whether a video is made by windows."""
    return request.length is not None


def are_long(requests: Sequence[Request]) -> bool:
    """Whether videos that are made together are made by windows.

    Raises:
        InputError: for several lengths.
    """
    lengths = {request.length for request in requests}
    require(
        len(lengths) == 1,
        f"requests made together must have one length, got {len(lengths)}; make them one by one",
    )
    return lengths != {None}


def plan(system: Any, request: Request, size: Sequence[int], fps: float) -> Plan:
    """Returns how a long video is made.

    Args:
        system: Pure half of a system with a causal VAE.
        request: A request with a `length`.
        size: Frames, height and width of a window.
        fps: Frames per second.

    Raises:
        InputError: for a length that the VAE does not return whole or no window fits, or a request
            that also edits a video.
    """
    codec, length = system.codec, request.length
    require(
        not edits.is_edit(request),
        "length must be left out for a video to edit or continue; leave --length or the times of "
        "the prompts out",
    )
    codec.check_frames(length, "length (--length)")
    require(
        length >= size[0],
        f"length (--length) must be at least the {size[0]} frames of a window, got {length}; raise "
        "it, or lower --frames",
    )
    shape = codec.latent_shape(length, *size[1:])
    window = system.padded_frames(codec.latent_shape(*size)[0])
    total = system.padded_frames(shape[0])
    starts = windows.spread(total, window, int(request.window_overlap * window))
    each = (length - 1) / max(shape[0] - 1, 1) / fps  # seconds of a latent frame
    extra = total - shape[0]
    keys = []
    for start in starts:
        middle = max(0.0, (start - extra + (window - 1) / 2) * each)
        reads_frame = start == 0 and request.first_frame is not None
        keys.append((scenes.at(request.scenes, middle), reads_frame))
    unique = list(dict.fromkeys(keys))
    return Plan(
        shape,
        windows.Windows(window, starts, tuple(map(unique.index, keys))),
        tuple(_one(request, *key) for key in unique),
    )


def _one(request: Request, scene: int, first: bool) -> Request:
    prompt = request.scenes[scene].prompt if request.scenes else request.prompt
    frame = request.first_frame if first else None
    return dataclasses.replace(request, prompt=prompt, first_frame=frame)


def parts(request: Request) -> list[Request]:
    """Returns one request per scene, or the request itself where it has none."""
    return [dataclasses.replace(request, prompt=x.prompt) for x in request.scenes] or [request]


def with_length(request: Request, pipeline: Any, length: int | None) -> Request:
    """Returns a request of a length: that given, else that of the times of its scenes, if any.

    Raises:
        InputError: for a length beside scenes that end elsewhere.
    """
    if not request.scenes:
        return dataclasses.replace(request, length=length)
    end = request.scenes[-1].end
    frames = pipeline.system.config.vae.nearest_frames(round(end * pipeline.fps) + 1)
    require(
        length in (None, frames),
        f"--length must be the {frames} frames of {end:g} s at {pipeline.fps:g} fps, got {length}; "
        "leave it out, or change the times of the prompts",
    )
    return dataclasses.replace(request, length=frames)
