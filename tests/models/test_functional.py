# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mimir_jax.models import functional, layers


class Config(NamedTuple):
    width: int
    num_layers: int
    remat: str


class Tower(nnx.Module):
    def __init__(self, config, *, rngs):
        make = lambda *, rngs: layers.Mlp(config.width, 8, rngs=rngs)  # noqa: E731
        self.blocks = functional.Stack(make, config.num_layers, config.remat, rngs=rngs)

    def __call__(self, x):
        return self.blocks(lambda block, x, _: (x + block(x), None), x)[0]


def tower(remat="none"):
    return functional.build(Tower, Config(width=6, num_layers=3, remat=remat))


def test_stack_scans_the_blocks_in_order():
    model = tower()
    params = model.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 6))
    expected = x
    for i in range(3):
        p = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"]["block"])
        h = jax.nn.gelu(expected @ p["up"]["kernel"] + p["up"]["bias"][None])
        expected = expected + h @ p["down"]["kernel"] + p["down"]["bias"][None]
    np.testing.assert_allclose(model.apply(params, x), expected, rtol=1e-5, atol=1e-5)


def test_axes_match_shapes_and_gain_layers():
    model = tower()
    assert model.axes["blocks"]["block"]["up"]["kernel"] == ("layers", "embed", "mlp")
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))


def test_products_policy_runs_no_linear_map_again():
    params, x = tower().init(jax.random.key(0)), jnp.ones((2, 6))

    def count(remat):
        grad = jax.grad(lambda p: tower(remat).apply(p, x).sum())
        return str(jax.make_jaxpr(grad)(params)).count("dot_general[")

    assert count("dots") == count("none") < count("attention")


@pytest.mark.parametrize("remat", ["dots", "attention", "full"])
def test_remat_keeps_gradients(remat):
    params = tower().init(jax.random.key(0))
    x = jnp.ones((2, 6))
    grads = [jax.grad(lambda p, m=m: m.apply(p, x).sum())(params) for m in (tower(), tower(remat))]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *grads)


def test_unknown_method_is_named():
    with pytest.raises(AttributeError, match="Tower has no public method 'encode'"):
        tower().encode({})
