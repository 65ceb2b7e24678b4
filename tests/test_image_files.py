# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from PIL import Image

from mimir_jax import image_files
from mimir_jax.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def test_images_are_read_as_rgb(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert np.array_equal(image_files.read(tmp_path / "a.png"), PIXELS)
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(image_files.read(tmp_path / "grey.png"), PIXELS[..., :1].repeat(3, -1))


@pytest.mark.parametrize("suffix", ["png", "pgm", "tiff"])
def test_grey_levels_of_16_bits_are_scaled(tmp_path, suffix):
    levels = PIXELS[..., 0]
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / f"grey.{suffix}")
    found = image_files.read(tmp_path / f"grey.{suffix}")
    assert np.array_equal(found, levels[..., None].repeat(3, -1))


def test_grey_levels_without_a_known_white_are_refused(tmp_path):
    Image.fromarray(PIXELS[..., 0].astype(np.float32)).save(tmp_path / "depth.tiff")
    with pytest.raises(InputError, match="image .*depth.tiff must be readable: its grey levels"):
        image_files.read(tmp_path / "depth.tiff")


def test_transparent_pixels_become_white(tmp_path):
    alpha = np.full((4, 6, 1), 255, np.uint8)
    alpha[0] = 0
    Image.fromarray(np.concatenate([PIXELS, alpha], -1)).save(tmp_path / "cut.png")
    expected = PIXELS.copy()
    expected[0] = 255
    assert np.array_equal(image_files.read(tmp_path / "cut.png"), expected)


def test_images_stand_as_the_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    assert image_files.read(tmp_path / "turned.png").shape == (6, 4, 3)


@pytest.mark.parametrize("factor", [1.5, 3])
def test_huge_images_are_refused(tmp_path, monkeypatch, factor):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(24 / factor))
    with pytest.raises(InputError, match="must have at most 0 million pixels; shrink it"):
        image_files.read(tmp_path / "a.png")


def test_files_that_are_no_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="image .*none.png must be readable: No such file"):
        image_files.read(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(InputError, match="image .*text.png must be readable: cannot identify"):
        image_files.read(tmp_path / "text.png")
    Image.fromarray(PIXELS.repeat(30, 0)).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    for end in (40, len(content) // 2):
        (tmp_path / "half.png").write_bytes(content[:end])
        with pytest.raises(InputError, match="image .*half.png must be readable"):
            image_files.read(tmp_path / "half.png")
