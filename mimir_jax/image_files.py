# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Images from files."""

import os
import pathlib
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from mimir_jax import files
from mimir_jax.errors import InputError

RGBImage = UInt8[np.ndarray, "_ _ 3"]

SUFFIXES = (".jpeg", ".jpg", ".png")
"""Endings of files that count as images."""

MAX_PIXELS = 89_478_485
"""Pixels of an image at most: those from which on Pillow warns."""

_SIXTEEN_BITS = ("PNG", "PPM")  # formats whose widest grey levels these are


def read(path: str | os.PathLike[str]) -> RGBImage:
    """Reads an image as RGB, turned as its camera was held; what is transparent becomes white.

    Raises:
        InputError: if the file cannot be read, is no image, or a huge one.
    """
    path = files.expand_path(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with files.reading(path, "image"), Image.open(path) as image:
                return as_rgb(image)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            most = Image.MAX_IMAGE_PIXELS // 10**6
            raise InputError(
                f"image {path} must have at most {most} million pixels; shrink it"
            ) from None
        except (SyntaxError, ValueError) as error:  # what decoders raise for damaged files
            if isinstance(error, InputError):
                raise
            raise _damaged(path, error) from None


def as_rgb(image: Image.Image) -> RGBImage:
    """Returns an opened image as RGB, upright; what is transparent becomes white.

    Raises:
        ValueError: for grey levels whose white is not known.
    """
    is_16_bit = image.mode.startswith("I;16") or image.format in _SIXTEEN_BITS
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") and is_16_bit:
        grey = np.asarray(image).astype(np.float32) / 257  # Pillow's own conversion cuts at 255
        image = Image.fromarray(grey.round().astype(np.uint8))
    elif image.mode in ("F", "I"):
        raise ValueError(f"its grey levels are of 32 bits (mode {image.mode}), not of 8 or 16")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _damaged(path: pathlib.Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"image {path} must be readable: {reason}; save it again")
