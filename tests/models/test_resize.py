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


def test_the_same_size_changes_nothing():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 2)), jnp.bfloat16)
    np.testing.assert_array_equal(resize.bicubic(images, 4, 5), images)
