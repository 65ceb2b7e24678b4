# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Opens the extractor in a folder, of the type that a suite needs."""

import pathlib

from mimir_jax import files, weights
from mimir_jax.encoders import onnx_file
from mimir_jax.errors import InputError, require
from mimir_jax.evaluation.extractors import base, towers


def open_clip_extractor(path: str, flag: str) -> base.ClipExtractor:
    """Opens an extractor of clips; an image network gives the mean over frames.

    Args:
        path: The folder.
        flag: Flag that named it, for messages.

    Raises:
        InputError: for a folder that holds no extractor.
    """
    found = _open(path, flag)
    if isinstance(found, onnx_file.OnnxExtractor) and found.is_video:
        return found
    return base.FrameMean(found)


def open_image_extractor(path: str, flag: str) -> base.ImageExtractor:
    """Opens an extractor of frames.

    Raises:
        InputError: for a folder that holds no extractor, or one of clips.
    """
    found = _open(path, flag)
    require(
        not isinstance(found, onnx_file.OnnxExtractor) or not found.is_video,
        f"{flag} {path} must read images, got a network that reads clips; name another",
    )
    return found


def open_pair_extractor(path: str, flag: str) -> base.PairExtractor:
    """Opens an extractor of frames and texts, a CLIP.

    Raises:
        InputError: for anything else.
    """
    found = _open(path, flag)
    if not isinstance(found, towers.ClipTowers):
        raise InputError(
            f"{flag} {path} must be a CLIPModel of transformers, which reads frames and texts; "
            "name another"
        )
    return found


def open_classifier(path: str, flag: str) -> onnx_file.OnnxExtractor:
    """Opens a classifier of clips, with logits or probabilities.

    Raises:
        InputError: for anything else.
    """
    found = _open(path, flag)
    classifies = isinstance(found, onnx_file.OnnxExtractor) and found.is_video
    if not (classifies and found.contract.values in ("logits", "probabilities")):
        raise InputError(
            f"{flag} {path} must be an ONNX network that reads clips and gives logits or "
            f"probabilities, as {onnx_file.FILE} says; name another"
        )
    return found


def _open(path: str, flag: str) -> onnx_file.OnnxExtractor | towers.ClipTowers | towers.VisionTower:
    folder = weights.resolve(path)
    if (folder / onnx_file.FILE).is_file():
        return onnx_file.OnnxExtractor(folder)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{flag} {path} must be a folder with {onnx_file.FILE} and its network, or with a CLIP "
            "or vision transformer; name another"
        )
    return towers.ClipTowers(folder) if _is_clip(folder) else towers.VisionTower(folder)


def _is_clip(folder: pathlib.Path) -> bool:
    raw = files.read_json(folder / "config.json", "config")
    named = raw.get("model_type") == "clip" or raw.get("kind") == "clip"
    return named or raw.get("architectures") == ["CLIPModel"]
