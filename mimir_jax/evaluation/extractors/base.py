# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Interfaces of feature extractors."""

import functools
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8


@runtime_checkable
class ImageExtractor(Protocol):
    """Frames to features.

    Attributes:
        settings: What results say of it, as JSON values; other weights have other settings.
    """

    settings: dict[str, Any]

    def embed_images(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n d"]:
        """Returns the features of each image."""
        ...


@runtime_checkable
class PairExtractor(ImageExtractor, Protocol):
    """Frames and texts to one space."""

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Returns the features of each text, which is cut where it is too long."""
        ...


@runtime_checkable
class ClipExtractor(Protocol):
    """Clips to features.

    Attributes:
        settings: As of an `ImageExtractor`.
        is_video: Whether the network reads clips; False where frames are averaged.
    """

    settings: dict[str, Any]
    is_video: bool

    def embed_clips(self, clips: UInt8[np.ndarray, "b f h w 3"]) -> Float[np.ndarray, "b d"]:
        """Returns the features of each clip."""
        ...


class FrameMean:
    """Features of clips by a network that reads images: the mean over frames.

    A distance of them sees no motion, so it is no FVD.

    Args:
        images: The network.
    """

    is_video = False

    def __init__(self, images: ImageExtractor):
        self._images = images

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """Those of the network, and that frames are averaged."""
        return {**self._images.settings, "frames": "mean"}

    def embed_clips(self, clips: UInt8[np.ndarray, "b f h w 3"]) -> Float[np.ndarray, "b d"]:
        """Returns the mean features of the frames of each clip."""
        number, frames = clips.shape[:2]
        features = self._images.embed_images(clips.reshape(number * frames, *clips.shape[2:]))
        return features.reshape(number, frames, -1).mean(axis=1)
