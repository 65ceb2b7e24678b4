# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips that are stored as a folder of numbered images, as those of TVQA are.

    00001.jpg 00002.jpg ...    frames; a number may have text before it and start anywhere
    fps.txt                    frames per second, in the folder or in the one above

Other files are ignored.
"""

import itertools
import math
import os
import pathlib
import re
from typing import NamedTuple

from PIL import Image

from mimir_jax import image_files
from mimir_jax.errors import InputError

RATE = "fps.txt"
"""File with the rate of a folder of frames, or of all folders beside it."""

_NUMBER = re.compile(r"(\d+)$")


class FrameFolder(NamedTuple):
    """Frames of a clip.

    Attributes:
        files: The images, in their order.
        fps: Frames per second.
    """

    files: tuple[pathlib.Path, ...]
    fps: float


def list_frames(folder: str | os.PathLike[str]) -> FrameFolder:
    """Lists the frames of a folder; opens no image.

    Raises:
        InputError: for a folder without images, an image without a number, numbers that repeat or
            leave a gap, or a rate that is missing or not positive.
    """
    folder = pathlib.Path(folder)
    images = [p for p in folder.iterdir() if p.suffix.lower() in image_files.SUFFIXES]
    numbered: dict[int, pathlib.Path] = {}
    for image in sorted(p for p in images if not p.name.startswith(".")):
        found = _NUMBER.search(image.stem)
        if found is None:
            raise InputError(f"holds {image.name}, an image without a number")
        other = numbered.setdefault(int(found[1]), image)
        if other != image:
            raise InputError(f"holds frame {int(found[1])} twice, {other.name} and {image.name}")
    if not numbered:
        suffixes = " ".join(image_files.SUFFIXES)
        raise InputError(f"is a folder without numbered images ({suffixes})")
    numbers = sorted(numbered)
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            between = f"{numbered[before].name} and {numbered[after].name}"
            raise InputError(f"lacks frame {before + 1}, between {between}")
    return FrameFolder(tuple(numbered[n] for n in numbers), _read_rate(folder))


def is_clip(folder: pathlib.Path) -> bool:
    """Whether a folder among videos is one of them: it has a rate, and images."""
    if not any(place.is_file() for place in _rate_files(folder)):
        return False
    return any(p.suffix.lower() in image_files.SUFFIXES for p in folder.iterdir())


def check_sizes(files: tuple[pathlib.Path, ...]) -> None:
    """Checks that all images have one size; reads their headers alone.

    Raises:
        InputError: if one has another size than the first.
    """
    first = None
    for file in files:
        with Image.open(file) as image:
            size = "{} x {}".format(*image.size)
        first = first or size
        if size != first:
            raise InputError(
                f"has frames of {first} ({files[0].name}) and of {size} pixels ({file.name})"
            )


def _rate_files(folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
    return folder / RATE, folder.absolute().parent / RATE


def _read_rate(folder: pathlib.Path) -> float:
    file = next((place for place in _rate_files(folder) if place.is_file()), None)
    if file is None:
        raise InputError(
            f"has no frames per second; write them to {RATE} in it or in the folder above"
        )
    text = file.read_text(errors="replace").strip()
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise InputError(f"has no positive frames per second in {RATE}, got {text[:40]!r}")
    return rate
