# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips of any length, size and rate become clips of the model, and what changed is said."""

import numpy as np
import pytest
from PIL import Image

from mimir_jax.sampling import reconstruction, video
from mimir_jax.sampling.request import Size

SIZE = Size(9, 32, 32)


def write(path, *, frames, height=32, width=32, fps=8.0):
    ramp = np.arange(frames, dtype=np.uint8)[:, None, None, None] * 20
    clip = np.broadcast_to(ramp, (frames, height, width, 3))
    video.write_mp4(path, clip, fps=fps)
    return path


@pytest.mark.parametrize(
    "sizes, note, levels",
    [
        (dict(frames=9), "", range(0, 180, 20)),
        (dict(frames=12), "the first 9 frames at 8 fps taken", range(0, 180, 20)),
        (dict(frames=5), "too short for 9 frames at 8 fps, spread over them", None),
        (dict(frames=9, width=64), "64x32 pixels cropped in the middle and resized to 32x32", None),
    ],
    ids=["as it is", "longer", "shorter", "wider"],
)
def test_clips_are_resampled_and_it_is_said(sizes, note, levels, tmp_path):
    clip, said = reconstruction.read_clip(write(tmp_path / "clip.mp4", **sizes), SIZE, 8.0)
    assert clip.shape == (9, 32, 32, 3) and note in said and bool(said) == bool(note)
    if levels is not None:
        np.testing.assert_allclose(clip.mean((1, 2, 3)), levels, atol=4)
    if sizes["frames"] == 5:
        wanted = np.arange(9) * 5 // 9 * 20
        np.testing.assert_allclose(clip.mean((1, 2, 3)), wanted, atol=4)


@pytest.mark.parametrize("frames", [50, 12], ids=["longer", "shorter"])
def test_published_weights_read_the_first_window_as_published(frames, tmp_path):
    """16 frames at 8 fps by number, the shorter side resized by a bilinear filter, the centre."""
    rng = np.random.default_rng(0)
    pages = [Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)) for _ in range(frames)]
    path = tmp_path / "clip.webp"  # 20 fps
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=50, lossless=True)
    size = Size(16, 16, 16)
    clip, note = reconstruction.read_clip(path, size, 8.0, published=True)
    index = np.linspace(0, min(16 * 20 / 8, frames), 16, endpoint=False).astype(int)
    resized = [pages[i].resize((24, 16), Image.Resampling.BILINEAR) for i in index]
    np.testing.assert_array_equal(clip, [np.asarray(page)[:, 4:20] for page in resized])
    assert ("too short for 16" in note) == (frames == 12) and f"{frames} frames at 20 fps" in note
    assert (reconstruction.read_clip(path, size, 8.0)[0] != clip).any()


def test_what_is_no_clip_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="must be a video, a folder of frames or heldout:INDEX, got 'none.mp4'"
    ):
        reconstruction.find(["heldout:3", "none.mp4"])
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="that can be decoded: Invalid data .*; convert it"):
        reconstruction.read_clip(tmp_path / "text.mp4", SIZE, 8.0)
