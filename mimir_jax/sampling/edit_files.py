# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos and masks to edit or to continue, read from files as a pipeline takes them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from mimir_jax import image_files
from mimir_jax.data import transforms, video_io
from mimir_jax.errors import InputError, require
from mimir_jax.sampling import pipeline as pipeline_lib
from mimir_jax.sampling import reconstruction
from mimir_jax.sampling.request import Request, Size


@dataclasses.dataclass(frozen=True)
class EditFiles:
    """What the flags of `sample` name.

    Attributes:
        video: Video to edit, or `heldout:INDEX`.
        strength: Share of the steps that it is edited by.
        mask: Image whose white pixels are made anew.
        extend: Video to continue, or `heldout:INDEX`.
        overlap: Frames of it that the new one begins with.
    """

    video: str | None = None
    strength: float | None = None
    mask: str | None = None
    extend: str | None = None
    overlap: int = 9

    def __post_init__(self):
        for name in ("strength", "mask"):
            require(
                getattr(self, name) is None or self.video is not None,
                f"--{name} must be left out without a video to edit; pass --video",
            )
        require(
            self.video is None or self.extend is None,
            "one of --video and --extend must be left out, got both; run the command twice",
        )
        for name in ("video", "extend"):
            if getattr(self, name) is not None:
                reconstruction.find([getattr(self, name)], flag=f"--{name}")

    def apply(
        self, requests: Sequence[Request], pipeline: pipeline_lib.Pipeline
    ) -> tuple[list[Request], list[str]]:
        """Returns requests that edit or continue the video, and lines about how it was resampled.

        Raises:
            InputError: for files that cannot be read.
        """
        fields: dict[str, Any] = {}
        notes: list[str] = []
        if self.video is not None:
            (source,) = reconstruction.find([self.video], flag="--video")
            found, note = reconstruction.make_request(source, pipeline, flag="--video")
            fields |= {"video": found.clip, "strength": self.strength}
            notes.append(note)
        if self.mask is not None:
            fields["mask"] = _read_mask(self.mask, pipeline.size)
        if self.extend is not None:
            clip, note = _read_whole(self.extend, pipeline)
            fields |= {"extend": clip, "overlap": self.overlap}
            if "first_frame" in pipeline.system.request_fields and self.overlap <= len(clip):
                fields["first_frame"] = clip[-self.overlap]
            notes.append(note)
        changed = [dataclasses.replace(request, **fields) for request in requests]
        return changed, [note for note in notes if note]


def _read_mask(path: str, size: Size) -> Bool[np.ndarray, "h w"]:
    """Returns where an image is lighter than mid-grey, fitted as videos are."""
    image = transforms.resize_cover(image_files.read(path), size.height, size.width)
    mask = image.mean(axis=-1) > 127.5
    require(
        bool(mask.any()),
        f"--mask {path} must have white pixels, which are made anew, got none; paint some",
    )
    return mask


def _read_whole(name: str, pipeline: pipeline_lib.Pipeline) -> tuple[np.ndarray, str]:
    """Returns all frames of a video at the rate and size of the pipeline."""
    (source,) = reconstruction.find([name], flag="--extend")
    if source.path is None:
        found, note = reconstruction.make_request(source, pipeline, flag="--extend")
        return found.clip, note
    size, fps = pipeline.size, pipeline.fps
    seen = {}

    def pick(timeline: video_io.Timeline) -> np.ndarray:
        count = max(1, int(round(timeline.end * fps)))
        chosen = transforms.window_frames(
            timeline.times, 0, frames=count, fps=fps, tick=timeline.tick
        )
        seen["note"] = f"{len(timeline.times)} frames read as {count} at {fps:g} fps"
        return chosen

    def fit(frame: np.ndarray, pixel_aspect: float) -> np.ndarray:
        return transforms.resize_cover(frame, size.height, size.width, pixel_aspect=pixel_aspect)

    try:
        clip = video_io.read_clip(source.path, pick, fit)
    except video_io.UnreadableClip as error:
        raise InputError(
            f"--extend {source.path} must be a video that can be decoded: {error}; convert it "
            "to an mp4"
        ) from None
    return clip, f"{source.path.name}: {seen['note']}"
