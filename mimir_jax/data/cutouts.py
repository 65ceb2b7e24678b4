# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Images of the things in real clips, as `mimir-jax cutouts` makes them, and their augmentation.

Each line of `subjects.jsonl` is a clip:

    {"file": "cats/a.mp4", "caption": "a cat sleeps on a sofa", "things": [{"words": "cat",
     "kind": "subject", "images": [{"image": "images/1-0-0.png", "digest": "5e...", ...}]}],
     "place": {"image": "images/1-place.png", "digest": "a0...", "words": "sofa"}}

Images of things are transparent outside of them; what is behind stays in their pixels.
"""

import io
import itertools
import json
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageFilter

from mimir_jax import files, hashing
from mimir_jax.errors import InputError
from mimir_jax.image_files import RGBImage

FILE = "subjects.jsonl"

_LEAST_SIDE = 112  # of a thing that is made smaller
_WHITE = (255, 255, 255)


class Thing(NamedTuple):
    """A thing that a caption names.

    Attributes:
        words: Part of the caption; None of a place that it does not name.
        images: Files of its images, in the folder.
    """

    words: str | None
    images: tuple[str, ...]


class Subjects(NamedTuple):
    """What can be shown of a clip.

    Attributes:
        caption: Names the things.
        things: The subject first.
        place: The background; None without an image of it.
    """

    caption: str
    things: tuple[Thing, ...]
    place: Thing | None


class CutoutFolder:
    """A folder of cut-outs.

    Args:
        folder: Made by `mimir-jax cutouts`.

    Attributes:
        digest: Of the lines, which hold digests of the images.

    Raises:
        InputError: for a folder without `subjects.jsonl`, or a line of another form.
    """

    def __init__(self, folder: pathlib.Path):
        path = folder / FILE
        if not path.is_file():
            raise InputError(
                f"cut-outs {folder} must hold {FILE}, found none; make them with mimir-jax cutouts"
            )
        self._folder = folder
        self._clips: dict[str, Subjects] = {}
        digests = []
        for number, line in files.read_lines(path, "cut-outs"):
            try:
                file, subjects = _parse(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise InputError(
                    f"{path} line {number} must hold file, caption and things with words and "
                    f"images, got {line[:60]}; make it again with mimir-jax cutouts"
                ) from None
            digests.append(line)
            if subjects.things:
                self._clips[file] = subjects
        self.digest = hashing.sha256("\n".join(digests))[:16]

    def __len__(self) -> int:
        return len(self._clips)

    def find(self, name: str) -> Subjects | None:
        """Returns what can be shown of a clip, by its path in the folder of clips."""
        return self._clips.get(name)

    def read(self, image: str) -> UInt8[np.ndarray, "h w 4"]:
        """Returns an image with its transparency.

        Raises:
            InputError: if the file cannot be read.
        """
        path = self._folder / image
        with files.reading(path, "cut-out"):
            content = path.read_bytes()
        try:
            with Image.open(io.BytesIO(content)) as opened:
                return np.asarray(opened.convert("RGBA"))
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(
                f"cut-out {path} must be an image: {str(error)[:80]}; make it again with "
                "mimir-jax cutouts"
            ) from None


def find_words(caption: str, words: str) -> tuple[int, int] | None:
    """Returns where words first stand in a caption, in any case; None if they do not.

    They are no part of a longer word: `cat` is not in `catalogue`. Scripts without case, many of
    which have no spaces, are searched letter by letter.
    """
    for match in re.finditer(re.escape(words), caption, re.IGNORECASE):
        start, end = match.span()
        if start < end and not _goes_on(caption, start) and not _goes_on(caption, end):
            return start, end
    return None


def _goes_on(text: str, place: int) -> bool:
    """Whether a word goes on across a place between two characters."""
    return 0 < place < len(text) and all(
        char.isdecimal() or char.lower() != char.upper() for char in text[place - 1 : place + 1]
    )


def replace_words(
    caption: str, things: Sequence[Thing], shown: Sequence[str], mark: str, *, beside: bool = False
) -> tuple[str, list[str]]:
    """Puts marks for images in the place of words.

    Args:
        caption: Holds the words of `things`, no two of which overlap.
        things: Things, in any order.
        shown: Image of each thing.
        mark: Stands for an image.
        beside: Whether the words stay, before the marks.

    Returns:
        The caption, and the images in the order of their marks.
    """
    places = sorted(
        (find_words(caption, thing.words), image)
        for thing, image in zip(things, shown, strict=True)
    )
    text, last, images = "", 0, []
    for (start, end), image in places:
        text += caption[last:start] + (f"{caption[start:end]} {mark}" if beside else mark)
        last = end
        images.append(image)
    return text + caption[last:], images


def augment(
    image: UInt8[np.ndarray, "h w 4"], rng: np.random.Generator, *, keep_background: float = 0.5
) -> RGBImage:
    """Changes the look of a thing a little, so that a network cannot copy its pixels (V-U9).

    As Video Alchemist (arXiv 2501.06187): made smaller, blurred, colours and brightness changed,
    mirrored, sheared, turned, cropped; then in the middle of a white square.

    Args:
        image: The thing, transparent outside of it.
        rng: Draws the changes.
        keep_background: Share of images that keep what is behind the thing.
    """
    high, wide = image.shape[:2]
    longer = max(high, wide)
    mask = image.copy()
    if rng.random() < keep_background:
        mask[..., 3] = 255
    changed = _on_white(mask)
    factor = rng.uniform(min(_LEAST_SIDE / longer, 1.0), 1.0)
    changed = changed.resize((max(1, round(wide * factor)), max(1, round(high * factor))))
    longer = max(changed.size)
    changed = changed.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, longer / 50) / 3))
    changed = ImageEnhance.Color(changed).enhance(rng.uniform(0.95, 1.05))
    changed = ImageEnhance.Brightness(changed).enhance(rng.uniform(0.9, 1.1))
    if rng.random() < 0.5:
        changed = changed.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    changed = _turn(changed, shear=rng.uniform(-0.05, 0.05), degrees=rng.uniform(-20.0, 20.0))
    share = math.sqrt(rng.uniform(0.67, 1.0))
    size = [max(1, round(share * side)) for side in changed.size]
    left, top = (
        int(rng.integers(side - kept + 1)) for side, kept in zip(changed.size, size, strict=True)
    )
    return square(np.asarray(changed.crop((left, top, left + size[0], top + size[1]))))


def square(image: RGBImage) -> RGBImage:
    """Returns an image in the middle of a white square."""
    high, wide = image.shape[:2]
    side = max(high, wide)
    whole = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - high) // 2, (side - wide) // 2
    whole[top : top + high, left : left + wide] = image
    return whole


def plain(image: UInt8[np.ndarray, "h w 4"]) -> RGBImage:
    """Returns a thing in the middle of a white square."""
    return square(np.asarray(_on_white(image)))


def _on_white(image: UInt8[np.ndarray, "h w 4"]) -> Image.Image:
    over = Image.fromarray(image)
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


def _turn(image: Image.Image, *, shear: float, degrees: float) -> Image.Image:
    wide, high = image.size
    sheared = image.transform(
        (wide, high),
        Image.Transform.AFFINE,
        (1.0, shear, -shear * high / 2, 0.0, 1.0, 0.0),
        Image.Resampling.BILINEAR,
        fillcolor=_WHITE,
    )
    return sheared.rotate(degrees, Image.Resampling.BILINEAR, expand=True, fillcolor=_WHITE)


def _parse(raw: dict[str, Any]) -> tuple[str, Subjects]:
    things = tuple(
        Thing(_text(thing["words"]), tuple(_text(image["image"]) for image in thing["images"]))
        for thing in raw["things"]
    )
    caption = _text(raw["caption"]) if things else ""
    if not all(thing.images for thing in things):
        raise ValueError("a thing without image")
    place = None
    if things and (found := raw.get("place")) is not None:
        words = found["words"] and _text(found["words"])
        place = Thing(words, (_text(found["image"]),))
    named = [thing.words for thing in (*things, place) if thing is not None and thing.words]
    spans = [find_words(caption, words) for words in named]
    if None in spans:
        raise ValueError("words that the caption does not hold")
    if any(start < end for (_, end), (start, _) in itertools.pairwise(sorted(spans))):
        raise ValueError("words that overlap")
    return _text(raw["file"]), Subjects(caption, things, place)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not a text")
    return value
