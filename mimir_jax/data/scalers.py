# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Sizes and pixel formats of decoded frames, by scalers that frames share."""

import collections
from collections.abc import Hashable

import av
from av.video.reformatter import Interpolation, VideoReformatter


class Scalers:
    """Scalers of FFmpeg that the frames of videos share; for one thread.

    PyAV gives every frame a scaler of its own, and that takes longer to set up, with a thread for
    each core, than to make a small image.
    """

    def __init__(self):
        self._scalers = collections.defaultdict(VideoReformatter)

    def convert(
        self,
        frame: av.VideoFrame,
        key: Hashable,
        width: int,
        height: int,
        pixel_format: str,
        how: Interpolation = Interpolation.BILINEAR,
    ) -> av.VideoFrame:
        """Returns a frame in another size or pixel format.

        Args:
            frame: The frame.
            key: Names the scaler, which is set up again where its arguments change.
            width: Columns of the result.
            height: Its rows.
            pixel_format: Its format, as FFmpeg names it.
            how: How it is scaled.
        """
        scaler = self._scalers[key]
        return scaler.reformat(frame, width, height, pixel_format, interpolation=how, threads=1)
