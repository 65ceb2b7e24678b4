# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Plug-ins by name: those of the package, or MODULE:FUNCTION of a user.

    detector of shots    function(ShotsConfig, fps) -> object with push(number, image) -> [cuts];
                         it may have lag, frames until it tells of a cut, and end() -> [cuts]
    optical flow         function() -> flow(frame, next frame) [rows, columns, 2] in pixels of the
                         frame; rows and columns may be fewer than those of the frame
    scorer of frames     class(folder) with score(frames) -> float; it may have limit, its usual
                         bound, and its instances highest, the most that a score can be
    captioner            function(CaptionsConfig, root) -> caption(read, clip) -> (short, long)
    finder of words      function(EntitiesConfig) -> find(caption) -> [(words, kind)]
    detector of boxes    function(DetectorConfig) -> detect(frame, words) -> box with score or None
    segmenter            function(SegmenterConfig) -> segment(frame, box) -> mask [h, w]
    inpainter            function(PlaceConfig) -> fill(frame, mask) -> frame

A library or weights that are missing raise `InputError` where the plug-in is made, which happens
before anything is written.
"""

import importlib
import math
from collections.abc import Callable
from typing import Any

from mimir_jax.errors import InputError

NONE = "none"
_FILTERS = "mimir_jax.preparation.footage.filters"
_CUTOUTS = "mimir_jax.preparation.cutouts"
BUILT_IN: dict[str, dict[str, str]] = {
    "shots.detector": {
        "adaptive": f"{_FILTERS}.shots:adaptive",
        "content": f"{_FILTERS}.shots:content",
        "transnetv2": f"{_FILTERS}.shots:transnetv2",
        NONE: f"{_FILTERS}.shots:no_detector",
    },
    "quality.flow": {"dis": f"{_FILTERS}.motion:dis", NONE: f"{_FILTERS}.motion:no_flow"},
    "aesthetic.scorer": {
        "clip_head": f"{_FILTERS}.clip_head:ClipHead",
        "onnx": f"{_FILTERS}.onnx_scorer:aesthetic",
        NONE: f"{_FILTERS}.frame_scores:no_scorer",
    },
    "watermark.detector": {
        "rapidocr": f"{_FILTERS}.watermark:RapidOcr",
        "onnx": f"{_FILTERS}.onnx_scorer:watermark",
        NONE: f"{_FILTERS}.frame_scores:no_scorer",
    },
    "captions.captioner": {
        "given": f"{_FILTERS}.captions:given",
        "llava": f"{_FILTERS}.llava:llava",
        "divot_llm": f"{_FILTERS}.captions:divot_llm",
    },
    "entities.finder": {"rules": f"{_CUTOUTS}.entities:rules", "llm": f"{_CUTOUTS}.entities:llm"},
    "detect.detector": {"centre": f"{_CUTOUTS}.detect:centre", "onnx": f"{_CUTOUTS}.detect:onnx"},
    "segment.segmenter": {
        "grabcut": f"{_CUTOUTS}.segment:grabcut",
        "onnx": f"{_CUTOUTS}.segment:onnx",
        NONE: f"{_CUTOUTS}.segment:whole_box",
    },
    "place.inpainter": {"telea": f"{_CUTOUTS}.place:telea", NONE: f"{_CUTOUTS}.place:no_inpainter"},
}


def find(field: str, name: str) -> Callable[..., Any]:
    """Returns the function that makes a plug-in.

    Args:
        field: Field that names it, such as `shots.detector`.
        name: Its value.

    Raises:
        InputError: for a name that is unknown, or cannot be imported.
    """
    known = BUILT_IN[field]
    target = known.get(name, name)
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise InputError(
            f"{field} must be one of {', '.join(known)} or MODULE:FUNCTION, got {name!r}; set it "
            f"with --config.{field}"
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if name in known or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise InputError(
            f"{field} must name a module that Python finds, got {module!r}; put its folder on "
            "PYTHONPATH"
        ) from None
    if not callable(found):
        raise InputError(f"{field} must name a function, found no {attribute!r} in {module}")
    return found


def require_folder(section: str, path: str | None, content: str) -> str:
    """Returns the folder that a plug-in reads.

    Args:
        section: Section of the config that names it, such as `captions`.
        path: The folder.
        content: What it has to hold, for the message.

    Raises:
        InputError: if none is named.
    """
    if path is None:
        raise InputError(
            f"{section}.folder must name {content}, got none; set it with --config.{section}.folder"
        )
    return path


def library(module: str, field: str, name: str, *, extra: str = "prepare") -> Any:
    """Imports a library of an extra.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise InputError(
            f"{field}={name} must have {module}, which is not installed; pip install "
            f"'mimir-jax[{extra}]', or set --config.{field}=none"
        ) from None


def number(field: str, name: str, value: Any) -> float:
    """Returns what a plug-in measured.

    Raises:
        InputError: unless it is a finite number.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise InputError(
            f"{field}={name} must return a finite number, got {str(value)[:60]!r}; repair the "
            "plug-in, the same command goes on"
        )
    return found
