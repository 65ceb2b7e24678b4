# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Positions of video tokens: 3D rotary tables and the fixed 3D sin-cos table of CogVideoX.

Source: arXiv 2408.06072. Tables depend on the token grid `(frames, rows, columns)` alone. The
small one for each axis is computed in float64 on the host; the full table is their broadcast, so a
compiled program holds no large constants.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Grid = tuple[int, int, int]
Rotary = tuple[Float[Array, "s half"], Float[Array, "s half"]]


def crop_positions(
    rows: int, columns: int, base: tuple[int, int]
) -> tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " columns"]]:
    """Places a token grid on the centred crop of the `base` grid that has its aspect ratio.

    Rounding is half to even. The factor (n - 1) / n scales the stop coordinate, not the extent, so
    where the crop does not start at zero the spacing is slightly below extent / n.
    """
    base_rows, base_columns = base
    if rows / columns > base_rows / base_columns:
        extent = base_rows, round(base_rows / rows * columns)
    else:
        extent = round(base_columns / columns * rows), base_columns

    def axis(count: int, whole: int, size: int) -> np.ndarray:
        start = round((whole - size) / 2)
        return np.linspace(start, (start + size) * (count - 1) / count, count)

    return axis(rows, base_rows, extent[0]), axis(columns, base_columns, extent[1])


def rotary_3d(
    grid: Grid,
    head_dim: int,
    *,
    crop: tuple[int, int] | None = None,
    theta: float = 10000.0,
    around: tuple[int, int] = (0, 0),
    first: int = 0,
) -> Rotary:
    """Returns cosines and sines of the rotary angles, one for each adjacent pair of channels.

    A head splits into 1/4 time, 3/8 row and 3/8 column channels, in that order.

    Args:
        grid: Tokens along frames, rows and columns.
        head_dim: Channels of a head.
        crop: Base grid of `crop_positions`; None counts rows and columns from zero.
        theta: Largest period of each axis.
        around: Identity rows in front and behind, for text tokens and pads of a joint sequence.
        first: Position of the first frame.
    """
    frames, rows, columns = grid
    spots = crop_positions(rows, columns, crop) if crop else (np.arange(rows), np.arange(columns))
    sizes = (head_dim // 4, 3 * head_dim // 8, 3 * head_dim // 8)
    angles = [
        np.outer(positions, theta ** (-np.arange(0, size, 2) / size))
        for positions, size in zip((first + np.arange(frames), *spots), sizes, strict=True)
    ]
    cos = _broadcast_grid([np.cos(a) for a in angles])
    sin = _broadcast_grid([np.sin(a) for a in angles])
    return (
        jnp.pad(cos, (around, (0, 0)), constant_values=1.0),
        jnp.pad(sin, (around, (0, 0))),
    )


def rotate(x: Float[Array, "b s heads head_dim"], rotary: Rotary) -> Float[Array, "..."]:
    """Rotates adjacent channel pairs `(x0, x1)` by the table's angles, in float32.

    The partner of each channel comes by a flip of the pairs, which needs no concatenation.
    """
    cos, sin = (jnp.repeat(table, 2, axis=-1)[None, :, None] for table in rotary)  # (1, s, 1, d)
    sin = sin * jnp.tile(jnp.array([-1.0, 1.0]), sin.shape[-1] // 2)[None, None, None]
    y = x.astype(jnp.float32)
    flipped = jnp.flip(y.reshape(*x.shape[:-1], -1, 2), axis=-1).reshape(x.shape)
    return (y * cos + flipped * sin).astype(x.dtype)


def sincos_3d(
    grid: Grid,
    width: int,
    *,
    spatial_scale: float = 1.875,
    temporal_scale: float = 1.0,
    first: int = 0,
) -> Float[Array, "n {width}"]:
    """Returns the fixed position table of CogVideoX-2B.

    Channels split into 1/4 time, 3/8 column and 3/8 row, in that order: columns come before rows,
    unlike in `rotary_3d`. Each part is sines, then cosines.

    Args:
        grid: Tokens along frames, rows and columns.
        width: Model width.
        spatial_scale: Divides row and column positions.
        temporal_scale: Divides frame positions.
        first: Position of the first frame.
    """
    frames, rows, columns = grid

    def axis(count: int, scale: float, size: int, first: int = 0) -> np.ndarray:
        omega = 10000.0 ** (-np.arange(size // 2) / (size / 2))
        angles = np.outer((first + np.arange(count)) / scale, omega)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    time = axis(frames, temporal_scale, width // 4, first)
    column = axis(columns, spatial_scale, 3 * width // 8)
    row = axis(rows, spatial_scale, 3 * width // 8)
    return _broadcast_grid([time, row, column], order=(0, 2, 1))


def _broadcast_grid(
    tables: list[np.ndarray], order: tuple[int, ...] = (0, 1, 2)
) -> Float[Array, "n d"]:
    """Spreads tables of frames, rows and columns over the grid; joins channels in `order`."""
    grid = tuple(len(table) for table in tables)
    parts = []
    for i in order:
        shape = [1, 1, 1, tables[i].shape[1]]
        shape[i] = grid[i]
        part = jnp.asarray(tables[i], jnp.float32).reshape(shape)
        parts.append(jnp.broadcast_to(part, (*grid, shape[-1])))
    table = jnp.concatenate(parts, axis=-1)  # (frames, rows, columns, d)
    return table.reshape(-1, table.shape[-1])  # (n, d)
