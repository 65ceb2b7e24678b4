# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Resizing of frames to cover a size; imports no JAX, so that a worker that decodes starts fast."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def cover_box(
    height: int, width: int, target_height: int, target_width: int, pixel_aspect: float = 1.0
) -> tuple[float, float, float, float]:
    """Returns the centred (left, top, right, bottom) of a frame that has the target's shape.

    Args:
        height: Rows of the frame.
        width: Columns of the frame.
        target_height: Rows to fill.
        target_width: Columns to fill.
        pixel_aspect: Width over height of one stored pixel; not 1 in anamorphic video.
    """
    scale = max(target_height / height, target_width / (width * pixel_aspect))
    box_height = min(target_height / scale, height)
    box_width = min(target_width / (scale * pixel_aspect), width)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height


def resize_cover(
    frame: UInt8[np.ndarray, "h w 3"], height: int, width: int, *, pixel_aspect: float = 1.0
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Fills `height` x `width` without distortion: centre crop, then antialiased bicubic."""
    box = cover_box(frame.shape[0], frame.shape[1], height, width, pixel_aspect)
    if box == (0, 0, width, height):
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def resize_contain(
    frame: UInt8[np.ndarray, "h w 3"], height: int, width: int, *, fill: int = 0
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Fits all of a frame into `height` x `width` without distortion, centred between bars.

    The bars are black, or grey or white by `fill` in 0..255. The resizing is antialiased bicubic.
    """
    scale = min(height / frame.shape[0], width / frame.shape[1])
    rows, columns = (max(1, round(size * scale)) for size in frame.shape[:2])
    image = Image.fromarray(np.ascontiguousarray(frame))
    if image.size != (columns, rows):
        image = image.resize((columns, rows), Image.Resampling.BICUBIC)
    whole = np.full((height, width, 3), fill, np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    whole[top : top + rows, left : left + columns] = image
    return whole


def resize_crop(
    frame: UInt8[np.ndarray, "h w 3"], size: int
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Resizes the shorter side to `size`, antialiased bilinear, and cuts the centre out.

    The longer side is cut to a whole number and the offset of the centre rounded to the even one,
    as torchvision does on images of Pillow.
    """
    height, width = frame.shape[:2]
    long = size * max(height, width) // min(height, width)
    height, width = (size, long) if height <= width else (long, size)
    image = Image.fromarray(np.ascontiguousarray(frame))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return np.array(image)[top : top + size, left : left + size]
