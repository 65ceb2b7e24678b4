# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.models import rope
from tests.helpers import relative_error


def token(table, grid, frame, row, column):
    return np.asarray(table).reshape(*grid, -1)[frame, row, column]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ((3, 7, 11), [-0.989992, 0.582754, 1.000000, 0.753902, -0.994225, 0.999999, 0.004426,
                      0.383293, 0.999997]),
        ((12, 29, 44), [0.843854, -0.794179, 0.999993, -0.748058, 0.626114, 0.999981, 0.999843,
                        -0.002639, 0.999955]),
    ],
)  # fmt: skip
def test_rotary_has_the_known_values_of_5b(place, expected):
    grid = (13, 30, 45)
    cos, sin = rope.rotary_3d(grid, 64, crop=(30, 45))
    channels = np.array([0, 2, 14, 16, 18, 38, 40, 42, 62]) // 2
    np.testing.assert_allclose(token(cos, grid, *place)[channels], expected, atol=1e-6)
    np.testing.assert_allclose(cos**2 + sin**2, 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("grid", "start", "stop"),
    [
        ((30, 45), (0, 0), (30, 45)),
        ((16, 24), (0, 0), (30, 45)),
        ((32, 32), (0, 8), (30, 38)),
        ((45, 30), (0, 12), (30, 32)),
        ((30, 53), (2, 0), (27, 45)),
        ((36, 64), (2, 0), (27, 45)),
        ((48, 85), (2, 0), (27, 45)),
    ],
)
def test_crop_follows_the_aspect_ratio(grid, start, stop):
    for positions, count, first, last in zip(
        rope.crop_positions(*grid, (30, 45)), grid, start, stop, strict=True
    ):
        np.testing.assert_allclose(positions[[0, -1]], [first, last * (count - 1) / count])
        np.testing.assert_allclose(np.diff(positions, 2), 0.0, atol=1e-12)


def test_crop_spacing_is_not_that_of_the_extent():
    _, columns = rope.crop_positions(32, 32, (30, 45))
    np.testing.assert_allclose(columns[[0, 1, -1]], [8.0, 8.9294, 36.8125], atol=5e-5)


@pytest.mark.torch
@pytest.mark.parametrize("grid", [(13, 30, 45), (1, 1, 5), (5, 7, 3), (2, 48, 85), (3, 33, 1)])
@pytest.mark.parametrize("crop", [(30, 45), (6, 9), None], ids=str)
def test_rotary_matches_diffusers(grid, crop):
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    cogvideox = pytest.importorskip("diffusers.pipelines.cogvideo.pipeline_cogvideox")
    if crop is None:
        kwargs = {"crops_coords": None, "grid_type": "slice", "max_size": (150, 150)}
    else:
        region = cogvideox.get_resize_crop_region_for_grid(grid[1:], crop[1], crop[0])
        kwargs = {"crops_coords": region}
    expected = embeddings.get_3d_rotary_pos_embed(
        32, grid_size=grid[1:], temporal_size=grid[0], **kwargs
    )
    for ours, table in zip(rope.rotary_3d(grid, 32, crop=crop), expected, strict=True):
        assert relative_error(np.repeat(ours, 2, axis=1), table.numpy()) < 2e-5  # float32 angles


def test_sincos_has_the_known_values_of_2b():
    grid = (13, 30, 45)
    table = token(rope.sincos_3d(grid, 1920), grid, 3, 7, 11)
    channels = [0, 1, 240, 241, 480, 481, 840, 841, 1200, 1201, 1560, 1561]
    expected = [0.141120, 0.251801, -0.989992, -0.967779, -0.404579, -0.535170, 0.914503, 0.844744,
                -0.557807, -0.477175, -0.829971, -0.878808]  # fmt: skip
    np.testing.assert_allclose(table[channels], expected, atol=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("grid", [(1, 3, 4), (5, 7, 2)])
def test_sincos_matches_diffusers(grid):
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    expected = embeddings.get_3d_sincos_pos_embed(48, (grid[2], grid[1]), grid[0], 1.5, 2.0)
    ours = rope.sincos_3d(grid, 48, spatial_scale=1.5, temporal_scale=2.0)
    assert relative_error(ours, expected.flatten(0, 1).numpy()) < 1e-6


def test_frames_before_the_first_leave_the_others_in_place():
    longer, grid, rows = (5, 3, 4), (3, 3, 4), 2 * 3 * 4
    for table, whole in zip(
        [*rope.rotary_3d(grid, 16), rope.sincos_3d(grid, 48)],
        [*rope.rotary_3d(longer, 16, first=-2), rope.sincos_3d(longer, 48, first=-2)],
        strict=True,
    ):
        np.testing.assert_array_equal(whole[rows:], table)
        assert np.abs(whole[: rows // 2] - table[: rows // 2]).max() > 0.1


def test_rotation_leaves_text_alone_and_depends_on_offsets_only():
    grid, lead = (2, 3, 4), 5
    rotary = rope.rotary_3d(grid, 16, around=(lead, 0))
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 2, 16))
    spread = lambda x: jnp.broadcast_to(x, (1, lead + 24, 2, 16))  # noqa: E731
    q, k = rope.rotate(spread(q), rotary), rope.rotate(spread(k), rotary)
    np.testing.assert_array_equal(q[:, :lead], spread(q[:, :1])[:, :lead])
    dots = jnp.einsum("BTNH,BSNH->NTS", q[:, lead:], k[:, lead:]).reshape(2, *grid, *grid)
    np.testing.assert_allclose(dots[:, 0, 0, 1, 1, 1, 3], dots[:, 0, 1, 0, 1, 2, 2], atol=1e-5)
