# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiled encoding and decoding, blended as the CogVideoX reference does.

A tile has half of the configured sample size, in whole latents. Each runs the whole chunk loop with
its own caches and norm statistics, so the result differs from the untiled one.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mimir_jax.config import ImageVAEConfig, VAEConfig

_OVERLAPS = (6, 5)  # a tile shares one part in so many: vertically, horizontally

Run = Callable[[Float[Array, "..."]], Float[Array, "..."]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Tiling along one axis.

    Attributes:
        tile: Size of a tile in the input.
        stride: Distance between tiles in the input.
        blend: Overlap in the output over which neighbours are mixed.
        keep: What a tile contributes to the output.
    """

    tile: int
    stride: int
    blend: int
    keep: int

    def scaled(self, into: int, out: int) -> "Plan":
        """Returns a plan for an input `into` and an output `out` times as large as this one's."""
        return Plan(self.tile * into, self.stride * into, self.blend * out, self.keep * out)


def encode(
    run: Run, video: Float[Array, "b f h w c"], cfg: VAEConfig | ImageVAEConfig
) -> Float[Array, "b t h2 w2 z"]:
    """Encodes tile by tile; small frames are a single tile."""
    plans = [plan.scaled(cfg.spatial_compression, 1) for plan in make_plans(cfg)]
    return _tiled(run, video, plans)


def decode(
    run: Run, latents: Float[Array, "b t h w z"], cfg: VAEConfig | ImageVAEConfig
) -> Float[Array, "b f h2 w2 c"]:
    """Decodes tile by tile; small latents are a single tile."""
    plans = [plan.scaled(1, cfg.spatial_compression) for plan in make_plans(cfg)]
    return _tiled(run, latents, plans)


def make_plans(cfg: VAEConfig | ImageVAEConfig) -> list[Plan]:
    """Returns the tiling of rows and columns in latents.

    Tiles and strides are whole latents in pixels too, so that the parts join to the whole.
    """
    plans = []
    for pixels, parts in zip((cfg.sample_height, cfg.sample_width), _OVERLAPS, strict=True):
        tile = max(pixels // 2 // cfg.spatial_compression, 1)
        stride = max(tile * (parts - 1) // parts, 1)
        plans.append(Plan(tile=tile, stride=stride, blend=tile - stride, keep=stride))
    return plans


def _tiled(run: Run, x: Float[Array, "b t h w c"], plans: list[Plan]) -> Float[Array, "..."]:
    rows, cols = plans
    if x.shape[2] <= rows.tile and x.shape[3] <= cols.tile:
        return run(x)
    tops = range(0, x.shape[2], rows.stride)
    lefts = range(0, x.shape[3], cols.stride)
    tiles = _run_tiles(
        run,
        {(i, j): x[:, :, i : i + rows.tile, j : j + cols.tile] for i in tops for j in lefts},
    )
    bands = []
    for i in tops:
        for j in lefts:
            if i > 0:
                tiles[i, j] = _blend(tiles[i - rows.stride, j], tiles[i, j], rows.blend, axis=2)
            if j > 0:
                tiles[i, j] = _blend(tiles[i, j - cols.stride], tiles[i, j], cols.blend, axis=3)
        kept = [tiles[i, j][:, :, : rows.keep, : cols.keep] for j in lefts]
        bands.append(jnp.concatenate(kept, axis=3))
    return jnp.concatenate(bands, axis=2)


def _run_tiles(run: Run, tiles: dict[tuple[int, int], Array]) -> dict[tuple[int, int], Array]:
    """Runs tiles of one shape under a single `lax.map`: compiled once, one in memory at a time."""
    groups = defaultdict(list)
    for where, tile in tiles.items():
        groups[tile.shape].append(where)
    out = {}
    for members in groups.values():
        ys = jax.lax.map(run, jnp.stack([tiles[where] for where in members]))
        out |= dict(zip(members, ys, strict=True))
    return out


def _blend(
    before: Float[Array, "b t h w c"], tile: Float[Array, "b t h2 w2 c"], extent: int, *, axis: int
) -> Float[Array, "b t h2 w2 c"]:
    """Fades linearly from the end of `before` into the start of `tile`."""
    extent = min(before.shape[axis], tile.shape[axis], extent)
    shape = [extent if i == axis else 1 for i in range(tile.ndim)]
    weight = (jnp.arange(extent, dtype=tile.dtype) / extent).reshape(shape)
    end = jax.lax.slice_in_dim(before, before.shape[axis] - extent, None, axis=axis)
    start, rest = jnp.split(tile, [extent], axis=axis)
    return jnp.concatenate([end * (1 - weight) + start * weight, rest], axis=axis)
