# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation

from mimir_jax.data import scalers as scalers_lib
from mimir_jax.data import video_stream


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "gray", "rgb24"])
def test_shared_scalers_equal_those_of_single_frames(pixel_format):
    rng = np.random.default_rng(0)
    shared = scalers_lib.Scalers()
    for number, (height, width) in enumerate([(96, 130), (96, 130), (64, 86), (96, 130)]):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        source = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
        frame = video_stream.Frame(number, source, scalers=shared)
        for side, quick in ((24, True), (32, False), (48, False), (None, False)):
            made, size = source, (width, height)
            if side is not None:
                size = tuple(2 * round(x * side / height / 2) for x in size)
                how = Interpolation.POINT if quick else Interpolation.AREA
                made = source.reformat(*size, "yuv420p", interpolation=how)
            want = made.to_ndarray(format="rgb24", width=size[0], height=size[1])
            np.testing.assert_array_equal(frame.image(side, quick=quick), want)
