# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Masks of things inside their boxes."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool
from PIL import Image
from scipy import ndimage

from mimir_jax import weights
from mimir_jax.encoders import onnx_file
from mimir_jax.errors import InputError, require
from mimir_jax.image_files import RGBImage
from mimir_jax.preparation import plugins
from mimir_jax.preparation.cutouts.config import SegmenterConfig
from mimir_jax.preparation.cutouts.detect import Box

Mask = Bool[np.ndarray, "h w"]
Segmenter = Callable[[RGBImage, Box], Mask]
"""Maps a frame and a box to the pixels of the thing."""

_ROUNDS = 4  # of GrabCut
_SIDE = 320  # longer side of what GrabCut reads: it takes seconds at full size


def read(segmenter: Segmenter, config: SegmenterConfig, frame: RGBImage, box: Box) -> Mask | None:
    """Returns the mask of a thing, without holes; None for one too small or too large.

    Raises:
        InputError: if the plug-in returns anything but a mask of the size of the frame.
    """
    answer = segmenter(frame, box)
    if (
        not isinstance(answer, np.ndarray)
        or answer.dtype != bool
        or answer.shape != frame.shape[:2]
    ):
        shown = getattr(answer, "shape", type(answer).__name__)
        raise InputError(
            f"segment.segmenter={config.segmenter} must return booleans of shape "
            f"{frame.shape[:2]}, got {shown}; repair the plug-in, the same command goes on"
        )
    mask = ndimage.binary_fill_holes(answer & _inside(answer.shape, box))
    area = float(mask.mean())
    return mask if max(config.min_area, 1e-9) <= area <= config.max_area else None


def grabcut(config: SegmenterConfig) -> Segmenter:
    """Returns GrabCut (Rother et al., 2004): colours inside the box that differ from those around.

    The largest connected part is kept.

    Raises:
        InputError: without OpenCV.
    """
    cv2 = plugins.library("cv2", "segment.segmenter", config.segmenter)
    cv2.setNumThreads(1)  # processes share the cores

    def segment(frame: RGBImage, box: Box) -> Mask:
        high, wide = frame.shape[:2]
        scale = min(1.0, _SIDE / max(high, wide))
        size = (max(4, round(wide * scale)), max(4, round(high * scale)))
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        left, top = int(box.left * scale), int(box.top * scale)
        right, bottom = (int(np.ceil(edge * scale)) for edge in (box.right, box.bottom))
        rectangle = (max(left, 1), max(top, 1), min(right, size[0] - 1), min(bottom, size[1] - 1))
        x, y, x_end, y_end = rectangle
        marks = np.zeros(small.shape[:2], np.uint8)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # its k-means begins at random
        try:
            blue_first = np.ascontiguousarray(small[..., ::-1])
            size = (x, y, x_end - x, y_end - y)
            cv2.grabCut(blue_first, marks, size, *models, _ROUNDS, cv2.GC_INIT_WITH_RECT)
        except cv2.error:  # a box without pixels around it, or a frame of one colour
            return np.zeros((high, wide), bool)
        found = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD))
        return resize(_largest_part(found), wide, high)

    return segment


def onnx(config: SegmenterConfig) -> Segmenter:
    """Returns a network that gives the foreground of an image, such as U2-Net.

    It reads the box, stretched to `resize` of `extractor.json`; of its output, (batch, 1, h, w) or
    (batch, h, w), a pixel is the thing from a probability of one half.

    Raises:
        InputError: for a folder of another form.
    """
    what = f"a folder with {onnx_file.FILE} and its network"
    folder = weights.resolve(plugins.require_folder("segment", config.folder, what))
    network = onnx_file.OnnxExtractor(folder, threads=1)
    values = network.contract.values
    require(
        not network.is_video and values in ("probabilities", "logits"),
        f"segment.folder {folder} must hold a network of frames that gives probabilities or "
        f"logits, got {values}; correct {onnx_file.FILE}",
    )
    require(
        not network.contract.pixels.crop,
        f"segment.folder {folder} must hold a network that reads all of a box, got one with crop; "
        f"correct {onnx_file.FILE}",
    )
    least = 0.5 if values == "probabilities" else 0.0

    def segment(frame: RGBImage, box: Box) -> Mask:
        left, top, right, bottom = (round(edge) for edge in box[:4])
        out = np.squeeze(network.outputs(frame[None, top:bottom, left:right])[0])
        require(
            out.ndim == 2,
            f"segment.folder {folder} must give one map per image, got shape {out.shape}; export "
            "the network so",
        )
        mask = np.zeros(frame.shape[:2], bool)
        mask[top:bottom, left:right] = resize(out >= least, right - left, bottom - top)
        return mask

    return segment


def whole_box(config: SegmenterConfig) -> Segmenter:
    """Returns the segmenter that takes all of the box."""
    del config
    return lambda frame, box: _inside(frame.shape[:2], box)


def _inside(shape: tuple[int, ...], box: Box) -> Mask:
    mask = np.zeros(shape[:2], bool)
    left, top, right, bottom = (round(edge) for edge in box[:4])
    mask[top:bottom, left:right] = True
    return mask


def _largest_part(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    return labels == 1 + sizes.argmax()


def resize(mask: Bool[np.ndarray, "_ _"], wide: int, high: int) -> Bool[np.ndarray, "_ _"]:
    """Returns a mask of another size."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize((wide, high), Image.Resampling.BILINEAR)) >= 128
