# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The matrix products of a transformer alone, by JAX and by PyTorch, without what is between them.

No implementation on the same library is faster than its products, so their time bounds what a
benchmark can show.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Product(NamedTuple):
    """Products of `batch` pairs of matrices, (rows, inner) times (inner, columns)."""

    batch: int
    rows: int
    inner: int
    columns: int


def of_layer(
    *,
    batch: int,
    tokens: int,
    width: int,
    heads: int,
    head_dim: int,
    mlp_dim: int,
    kv_heads: int | None = None,
) -> list[Product]:
    """Returns the products of a transformer layer with a gated feed-forward network.

    Args:
        batch: Sequences.
        tokens: Tokens of each.
        width: Width of the tokens.
        heads: Heads of the queries.
        head_dim: Width of a head.
        mlp_dim: Width inside the feed-forward network.
        kv_heads: Heads of keys and values; None for as many as of the queries.
    """
    rows, inner = batch * tokens, heads * head_dim
    keys = (heads if kv_heads is None else kv_heads) * head_dim
    return [
        Product(1, rows, width, inner + 2 * keys),
        Product(batch * heads, tokens, head_dim, tokens),
        Product(batch * heads, tokens, tokens, head_dim),
        Product(1, rows, inner, width),
        Product(1, rows, width, 2 * mlp_dim),
        Product(1, rows, mlp_dim, width),
    ]


class OfJax:
    """Products by JAX in one program.

    Args:
        products: Those of a layer.
        layers: How often, with other weights each time.
        dtype: Of all matrices.
    """

    def __init__(self, products: Sequence[Product], layers: int, dtype: Any):
        import jax
        import jax.numpy as jnp

        self._arrays = [
            tuple(jnp.asarray(x, dtype) for x in pair) for pair in _arrays(products, layers)
        ]
        # All results are returned: XLA computes no product of which nothing is read.
        self._multiply = jax.jit(lambda pairs: [x @ y for x, y in pairs])

    def run(self) -> np.ndarray:
        """Computes all products and returns the last."""
        import jax

        return np.asarray(jax.block_until_ready(self._multiply(self._arrays))[-1], np.float32)


class OfTorch:
    """Products by PyTorch, one after the other; see `OfJax`."""

    def __init__(self, products: Sequence[Product], layers: int, dtype: Any, device: str):
        import torch

        self._arrays = [
            tuple(torch.tensor(x).to(device, dtype) for x in pair)
            for pair in _arrays(products, layers)
        ]

    def run(self) -> np.ndarray:
        """Computes all products and returns the last."""
        found = [x @ y for x, y in self._arrays]
        return found[-1].float().cpu().numpy()


def _arrays(products: Sequence[Product], layers: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape, np.float32)  # noqa: E731
    return [
        (draw(p.batch, p.rows, p.inner), draw(p.batch, p.inner, p.columns))
        for _ in range(layers)
        for p in products
    ]
