# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import T5Config
from mimir_jax.models import functional, t5
from tests.helpers import params_of, relative_error

CFG = T5Config(
    vocab_size=50, width=24, num_layers=3, num_heads=3, head_dim=10, mlp_dim=40, remat="none"
)
IDS = np.random.default_rng(0).integers(2, 50, (2, 19))
LENGTHS = np.array([[19], [11]])
MASK = np.arange(19)[None] < LENGTHS


def reference(cfg, seed=0):
    """A random torch encoder of `cfg`, with every tensor moved away from its initial value."""
    torch = pytest.importorskip("torch")
    import transformers

    torch.manual_seed(seed)
    config = transformers.T5Config(
        vocab_size=cfg.vocab_size,
        d_model=cfg.width,
        d_kv=cfg.head_dim,
        d_ff=cfg.mlp_dim,
        num_layers=cfg.num_layers,
        num_heads=cfg.num_heads,
        relative_attention_num_buckets=cfg.num_buckets,
        relative_attention_max_distance=cfg.max_distance,
        layer_norm_epsilon=cfg.norm_eps,
        feed_forward_proj=cfg.activation,
    )
    model = transformers.T5EncoderModel(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(torch.randn_like(p) * (0.5 if "relative" in name else 0.05))
    return model


@pytest.mark.torch
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="gated"),
        pytest.param({"activation": "relu", "num_layers": 2}, id="relu", marks=pytest.mark.slow),
        pytest.param({"num_buckets": 8, "max_distance": 10, "norm_eps": 1e-3}, id="buckets"),
    ],
)
def test_encoder_equals_transformers(changes, strict_dtypes):
    import torch

    cfg = dataclasses.replace(CFG, **changes)
    torch_model = reference(cfg)
    model, params = functional.build(t5.T5Encoder, cfg), params_of("t5", torch_model, cfg)
    apply = jax.jit(model.apply)
    with torch.no_grad():
        ids = torch.tensor(IDS)
        whole = torch_model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        masked = torch_model(ids, attention_mask=torch.tensor(MASK)).last_hidden_state
    ours = apply(params, jnp.asarray(IDS))
    assert relative_error(ours, whole) < 1e-5
    for mask in (jnp.asarray(MASK), jnp.asarray(MASK, jnp.int32)):
        ours = np.asarray(apply(params, jnp.asarray(IDS), mask))
        assert relative_error(ours[MASK], masked[MASK]) < 1e-5


@pytest.mark.torch
@pytest.mark.parametrize("num_buckets, max_distance", [(32, 128), (32, 100), (8, 20), (64, 256)])
def test_buckets_equal_transformers(num_buckets, max_distance):
    torch = pytest.importorskip("torch")
    from transformers.models.t5 import modeling_t5

    distance = np.arange(-1500, 1500)
    expected = modeling_t5.T5Attention._relative_position_bucket(  # noqa: SLF001
        torch.tensor(distance), num_buckets=num_buckets, max_distance=max_distance
    )
    ours = t5.relative_buckets(distance, num_buckets, max_distance)
    np.testing.assert_array_equal(ours, expected)


def test_xxl_has_the_published_size():
    assert functional.build(t5.T5Encoder, T5Config()).num_params == 4_762_310_656


def test_every_leaf_has_axes():
    model = functional.build(t5.T5Encoder, CFG)
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))
    assert model.axes["blocks"]["block"]["mlp"]["down"]["kernel"] == ("layers", "mlp", "embed")
    assert model.axes["relative_bias"] == (None, "heads")


@pytest.fixture(scope="module")
def encoder():
    model = functional.build(t5.T5Encoder, CFG)
    return model, jax.jit(model.init)(jax.random.key(0)), jax.jit(model.apply)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_follows_float32(encoder, dtype, strict_dtypes):
    _, params, apply = encoder
    half = functional.build(t5.T5Encoder, dataclasses.replace(CFG, dtype=dtype))
    ours, expected = jax.jit(half.apply)(params, jnp.asarray(IDS)), apply(params, jnp.asarray(IDS))
    assert ours.dtype == dtype
    assert relative_error(ours, expected) < 0.05


def test_float16_survives_outputs_beyond_its_range(encoder):
    _, params, apply = encoder
    half = functional.build(t5.T5Encoder, dataclasses.replace(CFG, dtype="float16"))
    params = jax.tree.map(lambda x: x, params)
    params["blocks"]["block"]["mlp"]["down"]["kernel"] *= 1e5
    ours, expected = jax.jit(half.apply)(params, jnp.asarray(IDS)), apply(params, jnp.asarray(IDS))
    assert relative_error(ours, expected) < 0.05


def test_masked_rows_stay_finite(encoder):
    _, params, apply = encoder
    mask = jnp.asarray(MASK).at[1].set(False)
    assert jnp.isfinite(apply(params, jnp.asarray(IDS), mask)).all()
