# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What one video is made from."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mimir_jax import noise
from mimir_jax.encoders import interleaved
from mimir_jax.errors import InputError
from mimir_jax.sampling.scenes import Scene

make_keys = noise.make_keys
"""Random keys of the seeds of requests."""


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """One video to make.

    Attributes:
        prompt: Text that the video shows; of a reconstruction, the name of its clip.
        negative_prompt: Text that guidance leads away from; None takes the null condition that the
            model was trained with.
        images: Images that the prompt refers to, RGB (h, w, 3) in 0..255; few models read them.
        first_frame: First frame of the video, RGB (h, w, 3) in 0..255; image-to-video models read
            it.
        document: Retrieved text with an image, for models that read one before the prompt.
        video: Clip (frames, h, w, 3) in 0..255 to edit, of the size of the result.
        strength: Share of the steps that `video` is edited by, above 0 to 1; None is 0.8, and 1
            with a mask.
        mask: Pixels (h, w) or (frames, h, w) of `video` that are made anew, True; the others stay.
            None edits all of it.
        extend: Frames (n, h, w, 3) in 0..255 to continue; the new video begins with the last ones.
        overlap: How many of them it begins with, 8N+1.
        length: Frames of a video longer than `frames`, made by windows of `frames`; None makes one
            clip.
        scenes: Prompts in time in place of `prompt`, of a video with a `length`.
        window_overlap: Share of a window that the next one covers too, from 0 and below 1.
        clip: Clip (frames, h, w, 3) in 0..255 to reconstruct, of the size of the video; models of
            clip tokens read it.
        tokens: Clip tokens (q, d) to draw, such as those that an LLM writes, in place of `clip`.
        seed: Seed of the noise, 0 to 2**64 - 1.
        frames: Frames of the video; None takes the size that the pipeline was opened with.
        height: Rows of a frame in pixels; None likewise.
        width: Columns of a frame in pixels; None likewise.

    Raises:
        InputError: for a seed outside the range or a size below 1.
    """

    prompt: str
    _: dataclasses.KW_ONLY
    negative_prompt: str | None = None
    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...] = ()
    first_frame: UInt8[np.ndarray, "_ _ 3"] | None = None
    document: interleaved.Document | None = None
    video: UInt8[np.ndarray, "_ _ _ 3"] | None = None
    strength: float | None = None
    mask: Bool[np.ndarray, "..."] | None = None
    extend: UInt8[np.ndarray, "_ _ _ 3"] | None = None
    overlap: int = 9
    length: int | None = None
    scenes: tuple[Scene, ...] = ()
    window_overlap: float = 0.5
    clip: UInt8[np.ndarray, "_ _ _ 3"] | None = None
    tokens: Float[np.ndarray, "_ _"] | None = None
    seed: int = 0
    frames: int | None = None
    height: int | None = None
    width: int | None = None

    def __post_init__(self):
        if not 0 <= self.seed <= noise.MAX_SEED:
            raise InputError(
                f"seed must be within 0..{noise.MAX_SEED}, got {self.seed}; choose another --seed"
            )
        for name in ("frames", "height", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(
                    f"{name} must be at least 1, got {value}; leave it out for the default"
                )


class Size(NamedTuple):
    """Size of a video in frames and pixels."""

    frames: int
    height: int
    width: int

    def of(self, request: Request) -> "Size":
        """Returns the size of the video of a request; what it leaves out is as here."""
        own = self._asdict().items()
        return Size(*(getattr(request, name) or value for name, value in own))
