# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The place of a clip: a frame whose things are painted over with what is around them."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from mimir_jax.errors import InputError
from mimir_jax.image_files import RGBImage
from mimir_jax.preparation import plugins
from mimir_jax.preparation.cutouts.config import PlaceConfig
from mimir_jax.preparation.cutouts.segment import Mask

Inpainter = Callable[[RGBImage, Mask], RGBImage]
"""Maps a frame and the pixels to fill to a frame."""


def read(inpainter: Inpainter, config: PlaceConfig, frame: RGBImage, things: Mask) -> RGBImage:
    """Returns the frame without its things and a rim around them.

    Raises:
        InputError: if the plug-in returns anything but a frame of the same size.
    """
    rim = round(config.dilation * min(frame.shape[:2]))
    wide = ndimage.binary_dilation(things, iterations=rim) if rim else things
    answer = inpainter(frame, wide)
    fine = isinstance(answer, np.ndarray) and answer.shape == frame.shape
    if not fine or answer.dtype != np.uint8:
        raise InputError(
            f"place.inpainter={config.inpainter} must return a uint8 frame of shape {frame.shape}, "
            f"got {getattr(answer, 'shape', type(answer).__name__)}; repair the plug-in, the same "
            "command goes on"
        )
    return answer


def no_inpainter(config: PlaceConfig) -> None:
    """Returns None: clips get no image of their place."""
    del config


def telea(config: PlaceConfig) -> Inpainter:
    """Returns the inpainting of Telea (2004): it continues what is around, and invents nothing.

    Raises:
        InputError: without OpenCV.
    """
    cv2 = plugins.library("cv2", "place.inpainter", config.inpainter)

    def fill(frame: RGBImage, mask: Mask) -> RGBImage:
        return cv2.inpaint(frame, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA)

    return fill
