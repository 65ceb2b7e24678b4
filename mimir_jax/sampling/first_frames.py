# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Images as first frames: fitted to the size of the videos, one per prompt."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mimir_jax.data import transforms
from mimir_jax.errors import require
from mimir_jax.image_files import RGBImage
from mimir_jax.sampling.request import Request

_HELDOUT = re.compile(r"heldout:(\d+)")


def fit(image: RGBImage, height: int, width: int, how: str) -> tuple[RGBImage, str]:
    """Returns an image as a frame of `height` x `width`, and how it was changed, "" if it was not.

    Args:
        image: RGB in 0..255, of any size.
        height: Pixel rows of the frame.
        width: Pixel columns of the frame.
        how: What becomes of another shape: `crop` or `pad`; see `FirstFrameConfig.fit`.
    """
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image, ""
    same = rows * width == columns * height
    what = {"crop": "cropped in the middle and resized", "pad": "resized, with black bars"}[how]
    resize = {"crop": transforms.resize_cover, "pad": transforms.resize_contain}[how]
    note = f"{columns}x{rows} pixels {'resized' if same else what} to {width}x{height}"
    return resize(image, height, width), note


def check_reads(system: Any) -> None:
    """Raises `InputError` unless a system reads first frames."""
    require(
        "first_frame" in system.request_fields,
        f"first_frame must be left out for {system.config.kind}, which is not conditioned on "
        "images; use an image-to-video model",
    )


def check(system: Any, images: Sequence[RGBImage | None]) -> None:
    """Raises `InputError` for first frames that a system does not read, or lacks."""
    given = [p is not None for p in images]
    if any(given):
        check_reads(system)
    require(
        "first_frame" not in system.request_fields
        or all(given)
        or system.config.first_frame.dropout > 0,
        "first_frame must be given for a model that was never trained without one "
        "(first_frame.dropout is 0); pass an image (--first_frame)",
    )


def fitted(request: Request, size: Sequence[int], system: Any) -> Request:
    """Returns a request whose first frame, if any, has the size of its video.

    Args:
        request: The request.
        size: Frames, height and width of videos where the request names none.
        system: Pure half of the system.
    """
    if request.first_frame is None:
        return request
    height, width = request.height or size[1], request.width or size[2]
    how = system.config.first_frame.fit
    return dataclasses.replace(request, first_frame=fit(request.first_frame, height, width, how)[0])


def listed(given: Any, prompts: int) -> list[RGBImage | None]:
    """Returns one first frame per prompt; a single image stands for all of them.

    Args:
        given: An image (h, w, 3), a sequence of images or None, or None.
        prompts: Number of prompts.

    Raises:
        InputError: for another number of images than of prompts, or no images at all.
    """
    if given is None or (isinstance(given, np.ndarray) and given.ndim == 3):
        images = [given] * prompts
    else:
        images = list(given)
    require(
        len(images) == prompts,
        f"first_frame must be one image, or one per prompt, got {len(images)} for {prompts}; "
        "pass as many",
    )
    for image in images:
        found = None if image is None else (np.shape(image), str(np.asarray(image).dtype))
        require(
            found is None or (len(found[0]) == 3 and found[0][2] == 3 and found[1] == "uint8"),
            f"first_frame must hold images (h, w, 3) of uint8 in 0..255, got {found}; read them "
            "with mimir_jax.image_files.read",
        )
    return images


def is_heldout(name: str) -> bool:
    """Whether `--first_frame` names a held-out clip, `heldout:INDEX`."""
    return _HELDOUT.fullmatch(name) is not None


def read_heldout(name: str | None, requests: Sequence[Request], pipeline: Any) -> list[Request]:
    """Returns requests with the first frame of the held-out clip `name`, if it names one.

    Args:
        name: What `--first_frame` was given.
        requests: The requests.
        pipeline: That of a run, which has held-out clips.

    Raises:
        InputError: for an index beyond the held-out clips.
    """
    if name is None or not is_heldout(name):
        return list(requests)
    index = int(_HELDOUT.fullmatch(name)[1])
    clips = pipeline.encoder.source("heldout")
    require(
        index < len(clips),
        f"--first_frame {name} must be one of {len(clips)} held-out clips, the last is "
        f"heldout:{len(clips) - 1}; choose another",
    )
    frame = clips[index]["video"][0]
    return [dataclasses.replace(request, first_frame=frame) for request in requests]


def describe(name: str | None, image: RGBImage | None, pipeline: Any) -> str:
    """Returns one line about the first frame of an image-to-video model, "" if there is no need.

    Args:
        name: What `--first_frame` was given.
        image: What was read.
        pipeline: Reads it.
    """
    if image is None and "images" in pipeline.system.request_fields:
        return ""  # a first frame is one of several things that a prompt may have
    if image is None:
        return "no --first_frame: the model makes the first frame up too"
    size = pipeline.size
    how = pipeline.system.config.first_frame.fit
    _, note = fit(image, size.height, size.width, how)
    return f"{name}: {note}" if note else ""
