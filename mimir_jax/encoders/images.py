# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Images to the inputs of an image tower, by the rules of `CLIPImageProcessor`.

The shorter side is resized with antialiasing, the centre cut out, pixels scaled and normalised.
Resizing rounds to whole grey levels, as the original does. `ViTImageProcessor`, that of DINO,
resizes both sides and cuts nothing.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from mimir_jax import files, image_files
from mimir_jax.config import ImageConfig
from mimir_jax.errors import InputError, require

_FILES = ("preprocessor_config.json", "processor_config.json")
_VIT_KINDS = ("ViTImageProcessor", "ViTFeatureExtractor")
_KINDS = ("CLIPImageProcessor", "CLIPFeatureExtractor", "LlavaImageProcessor", *_VIT_KINDS)
# The defaults of transformers, which files may leave out.
_DEFAULTS = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": ImageConfig.mean,
    "image_std": ImageConfig.std,
    "do_pad": False,
}
_VIT_DEFAULTS = {
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "do_center_crop": False,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}


def find_file(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file of rules in a folder, None if it holds none."""
    return next((folder / name for name in _FILES if (folder / name).is_file()), None)


def read_config(folder: pathlib.Path, image_size: int) -> ImageConfig:
    """Returns the rules in the folder of a network; those of CLIP where it holds none.

    Args:
        folder: Holds `preprocessor_config.json`, or `processor_config.json` as transformers 5
            writes it.
        image_size: Height and width of the inputs of the tower.

    Raises:
        InputError: for rules of another kind, or that make inputs of another size.
    """
    path = find_file(folder)
    if path is None:
        return ImageConfig(resize=(image_size,), crop=(image_size, image_size))
    raw = files.read_json(path, "image processor")
    raw = raw.get("image_processor", raw)
    try:
        cfg = _parse(raw)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"image processor {path}: {error}") from None
    made = cfg.crop or (cfg.resize if len(cfg.resize) == 2 else ())
    require(
        made == (image_size, image_size),
        f"image processor {path} must make the {image_size} x {image_size} pixels of the image "
        f"tower, got {' x '.join(map(str, made)) or 'any size'}; use the one that belongs to it",
    )
    return cfg


def _parse(raw: dict[str, Any]) -> ImageConfig:
    kind = raw.get("image_processor_type", raw.get("feature_extractor_type", _KINDS[0]))
    kind = str(kind).removesuffix("Fast").removesuffix("Pil")
    if kind not in _KINDS:
        raise InputError(f"must be one of {', '.join(_KINDS)}, got {kind!r}")
    both = kind in _VIT_KINDS
    given = {key: value for key, value in raw.items() if value is not None}
    raw = _DEFAULTS | (_VIT_DEFAULTS if both else {}) | given
    normalised = raw["do_normalize"]
    size = _sizes(raw["size"]) if raw["do_resize"] else ()
    return ImageConfig(
        resize=size * 2 if both and len(size) == 1 else size,
        crop=_sizes(raw["crop_size"]) * (1 if isinstance(raw["crop_size"], dict) else 2)
        if raw["do_center_crop"]
        else (),
        fit="pad" if raw["do_pad"] else "crop",
        resample=raw["resample"],
        scale=float(raw["rescale_factor"]) if raw["do_rescale"] else 1.0,
        mean=tuple(map(float, raw["image_mean"])) if normalised else (0.0, 0.0, 0.0),
        std=tuple(map(float, raw["image_std"])) if normalised else (1.0, 1.0, 1.0),
    )


def _sizes(value: int | dict[str, int]) -> tuple[int, ...]:
    if isinstance(value, dict):
        names = ("shortest_edge",) if "shortest_edge" in value else ("height", "width")
        return tuple(int(value[name]) for name in names)
    return (int(value),)


def prepare(image: UInt8[np.ndarray, "h w 3"], cfg: ImageConfig) -> Float32[np.ndarray, "H W 3"]:
    """Returns an image as the tower reads it.

    Raises:
        InputError: for an image so narrow that it would be huge on the way.
    """
    if cfg.fit == "pad":
        image = _pad_to_square(image, cfg)
    if cfg.resize:
        image = _resize(image, cfg)
    if cfg.crop:
        image = _crop(image, *cfg.crop)
    mean, std = np.float32(cfg.mean), np.float32(cfg.std)
    return (image * np.float32(cfg.scale) - mean) / std


def with_fit(cfg: ImageConfig, fit: str | None) -> ImageConfig:
    """Returns the rules with another fit; None keeps theirs."""
    return cfg if fit is None else dataclasses.replace(cfg, fit=fit)


def _pad_to_square(image: np.ndarray, cfg: ImageConfig) -> np.ndarray:
    height, width = image.shape[:2]
    side = max(height, width)
    _require_room(image, side, side)
    colour = [int(255 * part) for part in cfg.mean]
    square = np.broadcast_to(np.uint8(colour), (side, side, 3)).copy()
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def _resize(image: np.ndarray, cfg: ImageConfig) -> np.ndarray:
    height, width = image.shape[:2]
    if len(cfg.resize) == 2:
        height, width = cfg.resize
    else:
        (short,) = cfg.resize
        long = short * max(height, width) // min(height, width)
        height, width = (long, short) if width <= height else (short, long)
    _require_room(image, height, width)
    return np.asarray(Image.fromarray(image).resize((width, height), cfg.resample))


def _require_room(image: np.ndarray, height: int, width: int) -> None:
    """Raises `InputError` if an image would have more pixels than a file may have."""
    high, wide = image.shape[:2]
    most = image_files.MAX_PIXELS
    require(
        height * width <= most,
        f"image must have at most {most // 10**6} million pixels where it is {width} x {height} "
        f"for the image tower, got one of {wide} x {high}; cut its longer side",
    )


def _crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cuts the centre out of an image, with black around it where it is smaller."""
    short = [max(size - have, 0) for size, have in zip((height, width), image.shape, strict=False)]
    before = [-(-size // 2) for size in short]
    around = [(b, s - b) for b, s in zip(before, short, strict=True)]
    image = np.pad(image, (*around, (0, 0)))
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
