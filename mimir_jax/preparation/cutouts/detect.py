# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Boxes of things in frames, by the words for them."""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mimir_jax import files, weights
from mimir_jax.encoders import onnx_file
from mimir_jax.errors import InputError, require
from mimir_jax.image_files import RGBImage
from mimir_jax.preparation import plugins
from mimir_jax.preparation.cutouts.config import DetectorConfig

_MARGIN = 0.04  # of the frame, outside the box of `centre`
_LABELS = "labels.txt"


class Box(NamedTuple):
    """A box in pixels; right and bottom are outside, score is from 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float


Detector = Callable[[RGBImage, str], Box | None]
"""Maps a frame and words to the box of what they name, if it is there."""


def read(detector: Detector, config: DetectorConfig, frame: RGBImage, words: str) -> Box | None:
    """Returns the box of a thing inside a frame; None if it is missing or below the least score.

    Raises:
        InputError: if the plug-in returns anything but five numbers or None.
    """
    answer = detector(frame, words)
    if answer is None:
        return None
    try:
        left, top, right, bottom, score = map(float, answer)
        fine = bool(np.isfinite([left, top, right, bottom, score]).all())
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise InputError(
            f"detect.detector={config.detector} must return left, top, right, bottom and score, or "
            f"None, got {str(answer)[:60]!r}; repair the plug-in, the same command goes on"
        )
    high, wide = frame.shape[:2]
    box = Box(max(left, 0.0), max(top, 0.0), min(right, wide), min(bottom, high), score)
    large = box.right - box.left >= 2 and box.bottom - box.top >= 2
    return box if large and score >= config.min_score else None


def centre(config: DetectorConfig) -> Detector:
    """Returns the detector that takes the frame without its rim: clips of one thing need no other.

    Of several things, all but the subject of a clip would get the same box, and are left out.
    """
    del config

    def find(frame: RGBImage, words: str) -> Box:
        del words
        high, wide = frame.shape[:2]
        x, y = _MARGIN * wide, _MARGIN * high
        return Box(x, y, wide - x, high - y, 1.0)

    return find


def onnx(config: DetectorConfig) -> Detector:
    """Returns a detector of the classes in `labels.txt`, one per line.

    The network reads frames stretched to `resize` of `extractor.json`, and gives `places` of boxes
    with centre x, centre y, width and height in pixels of that size, and a score per class, as
    YOLOv8 does. Words name the class whose label they hold.

    Raises:
        InputError: for a folder of another form.
    """
    what = f"a folder with {onnx_file.FILE}, its network and {_LABELS}"
    folder = weights.resolve(plugins.require_folder("detect", config.folder, what))
    network = onnx_file.OnnxExtractor(folder, threads=1)
    lines = files.read_text(folder / _LABELS, "labels of the detector").splitlines()
    labels = [label for line in lines if (label := line.strip().lower())]
    contract = network.contract
    place = f"detect.folder {folder}"
    require(bool(labels), f"{place} must name its classes in {_LABELS}, one per line, found none")
    stretches = len(contract.pixels.resize) == 2 and not contract.pixels.crop
    require(
        not network.is_video and contract.places is not None and stretches,
        f"{place} must hold a network of frames with places, a resize of two sizes and no crop, got"
        f" another; correct {onnx_file.FILE}",
    )
    size_high, size_wide = contract.pixels.resize

    def find(frame: RGBImage, words: str) -> Box | None:
        named = [n for n, label in enumerate(labels) if _says(words, label)]
        if not named:
            return None
        out = network.outputs(frame[None])[0]
        rows = out.T if contract.places == 2 else out  # (boxes, 4 + classes)
        require(
            rows.ndim == 2 and rows.shape[1] == 4 + len(labels),
            f"{place} must give places of 4 numbers and a score for each of {len(labels)} labels, "
            f"got an output of shape {out.shape} for a frame; correct {_LABELS} or places",
        )
        scores = rows[:, [4 + n for n in named]].max(axis=1)
        x, y, w, h = rows[scores.argmax(), :4]
        high, wide = frame.shape[:2]
        scale = np.array([wide / size_wide, high / size_high] * 2)
        corners = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * scale
        return Box(*corners.tolist(), float(scores.max()))

    return find


def _says(words: str, label: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", words.lower()) is not None
