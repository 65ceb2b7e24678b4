# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Frames as the published code of Divot picks and prepares them."""

import logging

import numpy as np
import pytest
from PIL import Image

from mimir_jax.config import ClipWindowConfig, DataConfig
from mimir_jax.data import covering, transforms, video_io, windows
from mimir_jax.errors import InputError

CFG = ClipWindowConfig()
FILL = ClipWindowConfig(short="fill")


def picked(start, end):
    """The rule for one window."""
    index = np.linspace(start, end, 16, endpoint=False).astype(int)
    return index[[0, 4, 8, 12, 15]]


def test_positions_of_windows():
    assert windows.kept(CFG).tolist() == [0, 4, 8, 12, 15]
    assert windows.kept(ClipWindowConfig(frames=17)).tolist() == [0, 4, 8, 12, 16]
    assert windows.windows(16, 8, CFG).tolist() == [[0, 4, 8, 12, 15]]


@pytest.mark.parametrize(
    "frames, fps, cfg, spans",
    [
        pytest.param(40, 8, CFG, [(0, 16), (16, 32), (32, 40)], id="last-squeezed"),
        pytest.param(10, 8, CFG, [(0, 10)], id="short"),
        pytest.param(1, 8, CFG, [(0, 1)], id="one-frame"),
        pytest.param(100, 24, CFG, [(0, 48), (48, 96), (96, 100)], id="24-fps"),
        pytest.param(50, 4, CFG, [(8 * i, min(8 * i + 8, 50)) for i in range(7)], id="4-fps"),
        pytest.param(330, 8, CFG, [(16 * i, 16 * i + 16) for i in range(20)], id="twenty"),
        pytest.param(
            1000, 24, CFG, [(50 * i, 50 * i + 48) for i in range(20)], id="twenty-at-24-fps"
        ),
        pytest.param(
            1210, 29.97, CFG, [(60 * i, 60 * i + 16 * 29.97 / 8) for i in range(20)], id="29.97-fps"
        ),
        pytest.param(320, 8, CFG, [(16 * i, 16 * i + 16) for i in range(20)], id="just-twenty"),
        pytest.param(
            1209, 30.1, CFG, [(60 * i, 60 * i + 60) for i in range(20)], id="share-too-short"
        ),
        pytest.param(100, 8, FILL, [(5 * i, 5 * i + 5) for i in range(20)], id="filled"),
        pytest.param(19, 8, FILL, [(0, 16), (16, 19)], id="fewer-frames-than-windows"),
    ],
)
def test_windows_follow_the_published_rule(frames, fps, cfg, spans):
    found = windows.windows(frames, fps, cfg)
    assert found.tolist() == [picked(*span).tolist() for span in spans]


@pytest.mark.parametrize("frames", [322, 327, 332])
def test_rounding_makes_no_further_window(frames):
    found = windows.windows(frames, frames / 20.0, ClipWindowConfig(max_windows=10))
    assert len(found) == 10 and found[-1, 0] >= frames * 0.9 - 1


def test_drawn_windows_stay_inside():
    for frames, fps, cfg in ((40, 8, CFG), (1000, 24, CFG), (100, 8, FILL), (3, 30, CFG)):
        rng = np.random.default_rng(0)
        for _ in range(50):
            found = windows.windows(frames, fps, cfg, rng=rng)
            assert found.min() >= 0 and found.max() < frames and (np.diff(found) >= 0).all()
            assert len(found) <= 20 and found.shape[1] == 5
            if frames == 1000:
                assert (found // 50 == np.arange(20)[:, None]).all()


def test_bad_videos_are_refused():
    with pytest.raises(InputError, match="video must have frames, got 0"):
        windows.windows(0, 8, CFG)
    with pytest.raises(InputError, match="positive frame rate, got 0"):
        windows.windows(10, 0, CFG)
    with pytest.raises(video_io.UnreadableClip, match="100 pixels along the shorter side, has 99"):
        windows.LIMITS.check(99, 200)
    with pytest.raises(video_io.UnreadableClip, match="0.3 of the longer one, has 100 x 400"):
        windows.LIMITS.check(400, 100)
    with pytest.raises(InputError, match="min_aspect must be at least 0 and at most 1"):
        DataConfig(min_aspect=2.0)


def test_resampling_is_said():
    assert windows.describe(32, 8, CFG) == ""
    assert windows.describe(32, 30, CFG) == (
        "30 fps read at 8, 1.07 s stretched to a window of 16 frames"
    )
    assert windows.describe(100, 8, FILL) == "12.50 s stretched to 20 windows"


@pytest.mark.parametrize("height, width", [(40, 53), (53, 40), (41, 64), (32, 32), (20, 47)])
def test_frames_are_prepared_as_torchvision_does(height, width):
    """Against Pillow by the rule: the shorter side, then the centre, then -1..1."""
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    scale = 32 / min(height, width)
    size = (32, int(32 * height / width)) if width <= height else (int(32 * width / height), 32)
    assert min(size) == 32 and abs(max(size) - scale * max(height, width)) < 1
    resized = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
    top, left = (int(round((have - 32) / 2.0)) for have in resized.shape[:2])
    expected = (resized[top : top + 32, left : left + 32] / 255 - 0.5) / 0.5
    ours = transforms.to_float(covering.resize_crop(frame, 32))
    assert ours.shape == (32, 32, 3) and np.abs(ours - expected).max() < 1e-5


def test_files_give_their_windows(tmp_path, caplog):
    rng = np.random.default_rng(0)
    pages = [Image.fromarray(rng.integers(0, 256, (12, 15, 3), np.uint8)) for _ in range(30)]
    path = tmp_path / "clip.webp"
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=50, lossless=True)
    limits = video_io.FrameLimits(min_side=10)
    with caplog.at_level(logging.INFO, logger="absl"):
        clips = windows.read(path, CFG, 8, limits=limits)
    assert "20 fps read at 8, 1.50 s stretched to a window of 16 frames" in caplog.text
    index = windows.windows(30, 20, CFG)
    expected = [[covering.resize_crop(np.asarray(pages[i]), 8) for i in row] for row in index]
    assert np.array_equal(clips, expected)
    with pytest.raises(video_io.UnreadableClip, match="has 12"):
        windows.read(path, CFG, 8)
