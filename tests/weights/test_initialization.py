# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.models import functional
from mimir_jax.models.mimir import model as model_lib
from mimir_jax.weights import initialization

DIT = dataclasses.replace(c.TINY_DIT, num_layers=1, num_heads=2)
PART = dict(t5_width=128, llm_width=160)


def network(**dit):
    config = c.MimirConfig(
        dit=dataclasses.replace(DIT, **dit),
        fuser=c.FuserConfig(**PART),
        stabilizer=c.StabilizerConfig(**PART),
    )
    return functional.build(model_lib.Mimir, config)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A Mimir of our own, and its transformer as others publish it."""
    root = tmp_path_factory.mktemp("weights")
    model = network()
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f"), model.abstract_params)
    weights.save(root / "mimir", "mimir", model.config, params)
    weights.convert(root / "mimir", root / "published", to="diffusers")
    return root, params


def test_mimir_starts_from_a_mimir_or_a_published_transformer(folders):
    root, params = folders
    whole = initialization.read_init(str(root / "mimir"), network(dtype="bfloat16"))
    jax.tree.map(np.testing.assert_array_equal, whole, params)
    base = initialization.read_init(str(root / "published" / "transformer"), network(remat="full"))
    assert set(base) == {"dit"}
    jax.tree.map(np.testing.assert_array_equal, base["dit"], params["dit"])


def test_a_transformer_that_computes_something_else_is_refused(folders):
    root, _ = folders
    path = str(root / "published" / "transformer")
    with pytest.raises(ValueError, match="has position 'rope' not 'sincos', norm_eps 1e-05 not"):
        initialization.read_init(path, network(position="sincos", norm_eps=1e-6))
    with pytest.raises(ValueError, match="must hold a part of the network, it holds a t5"):
        initialization.read_init("package:tiny/t5", network())
