# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.models import resize
from tests.helpers import relative_error


@pytest.mark.torch
@pytest.mark.parametrize("align_corners", [False, True], ids=["edges", "corners"])
@pytest.mark.parametrize("new", [(5, 9), (17, 11), (7, 6), (1, 4)], ids=str)
def test_bicubic_equals_torch(new, align_corners, strict_dtypes):
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.tensor(images).permute(0, 3, 1, 2), new, mode="bicubic", align_corners=align_corners
    )
    ours = resize.bicubic(jnp.asarray(images), *new, align_corners=align_corners)
    assert relative_error(ours, expected.permute(0, 2, 3, 1)) < 1e-5


@pytest.mark.torch
def test_frames_of_divot_equal_torch():
    """256 to 224 with aligned corners, the resizing inside its tokenizer."""
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).uniform(-1, 1, (1, 256, 256, 1)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.tensor(images).permute(0, 3, 1, 2), (224, 224), mode="bicubic", align_corners=True
    )
    ours = resize.bicubic(jnp.asarray(images), 224, 224, align_corners=True)
    assert relative_error(ours, expected.permute(0, 2, 3, 1)) < 1e-5


@pytest.mark.torch
@pytest.mark.parametrize("size, new", [((16, 16), (5, 5)), ((8, 8), (4, 4)), ((7, 9), (3, 9))])
def test_average_equals_torch(size, new, strict_dtypes):
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    pool = torch.nn.functional.adaptive_avg_pool2d
    expected = pool(torch.tensor(images).permute(0, 3, 1, 2), new).permute(0, 2, 3, 1)
    assert relative_error(resize.average(jnp.asarray(images), *new), expected) < 1e-6


def test_sixteen_to_five_is_a_mean_over_four_with_stride_three():
    image = np.random.default_rng(0).normal(size=(16, 16, 1)).astype(np.float32)
    ours = resize.average(jnp.asarray(image), 5, 5)
    blocks = [[image[3 * y : 3 * y + 4, 3 * x : 3 * x + 4].mean() for x in range(5)]
              for y in range(5)]  # fmt: skip
    np.testing.assert_allclose(ours[..., 0], blocks, atol=1e-6)


def test_the_same_size_changes_nothing():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 2)), jnp.bfloat16)
    np.testing.assert_array_equal(resize.bicubic(images, 4, 5), images)
