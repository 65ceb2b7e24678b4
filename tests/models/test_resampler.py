# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The resampler against its formulas in torch, on tensors under the names of Divot."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import ResamplerConfig
from mimir_jax.models import functional, resampler
from mimir_jax.models import params as params_lib
from mimir_jax.weights import resampler as weights
from mimir_jax.weights import rules, tensors
from tests.helpers import relative_error

CFG = ResamplerConfig(
    in_width=10,
    out_width=7,
    num_queries=5,
    width=12,
    num_layers=2,
    num_heads=3,
    head_dim=6,
    mlp_dim=20,
)
STATES = np.random.default_rng(0).normal(size=(2, 9, CFG.in_width)).astype(np.float32)
MASK = np.arange(9)[None] < np.array([[9], [4]])
PREFIX = "image_proj_model.down_sampler."


def shapes_of(cfg):
    """The tensors of a resampler, as Divot stores them."""
    width, inner = cfg.width, cfg.num_heads * cfg.head_dim
    shapes = {"latents": (1, cfg.num_queries, width)}
    shapes |= {"proj_in.weight": (width, cfg.in_width), "proj_in.bias": (width,)}
    shapes |= {"proj_out.weight": (cfg.out_width, width), "proj_out.bias": (cfg.out_width,)}
    shapes |= {f"norm_out.{leaf}": (cfg.out_width,) for leaf in ("weight", "bias")}
    for i in range(cfg.num_layers):
        at = f"layers.{i}"
        norms = (f"{at}.0.norm1", f"{at}.0.norm2", f"{at}.1.0")
        shapes |= {f"{name}.{leaf}": (width,) for name in norms for leaf in ("weight", "bias")}
        shapes |= {
            f"{at}.0.to_q.weight": (inner, width),
            f"{at}.0.to_kv.weight": (2 * inner, width),
        }
        shapes |= {f"{at}.0.to_out.weight": (width, inner)}
        shapes |= {
            f"{at}.1.1.weight": (cfg.mlp_dim, width),
            f"{at}.1.3.weight": (width, cfg.mlp_dim),
        }
    return {PREFIX + name: shape for name, shape in shapes.items()}


def draw(cfg):
    """Random tensors."""
    rng = np.random.default_rng(1)
    return {
        name: (rng.normal(size=shape) * 0.5 + ("norm" in name)).astype(np.float32)
        for name, shape in shapes_of(cfg).items()
    }


def import_params(cfg, state):
    """Our parameters from tensors of Divot."""
    table = weights.table(PREFIX)
    abstract = params_lib.flatten(functional.build(resampler.Resampler, cfg).abstract_params)
    wrapped = {name: tensors.of_array(x) for name, x in state.items()}
    rules.check(table, abstract, wrapped, source="test")
    return table, rules.import_params(table, abstract, wrapped)


def params_of(cfg):
    """Our parameters from random tensors of Divot."""
    loaded = import_params(cfg, draw(cfg))[1]
    return params_lib.unflatten({path: jnp.asarray(x.read()) for path, x in loaded.items()})


def reference(cfg, state, states, mask=None):
    """The formulas, on tensors of Divot."""
    import torch
    from torch.nn import functional as F

    get = {name.removeprefix(PREFIX): torch.as_tensor(x) for name, x in state.items()}

    def norm(x, name):
        affine = get[f"{name}.weight"], get[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], *affine, eps=cfg.norm_eps)

    def heads(x):
        return x.unflatten(-1, (cfg.num_heads, cfg.head_dim)).transpose(1, 2)

    x = torch.tensor(states) @ get["proj_in.weight"].T + get["proj_in.bias"]
    z = get["latents"].expand(len(x), -1, -1)
    own = torch.ones(len(x), cfg.num_queries, dtype=torch.bool)
    allowed = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else torch.tensor(mask)
    hidden = ~torch.cat([allowed, own], 1)[:, None, None]
    for i in range(cfg.num_layers):
        a, b = norm(x, f"layers.{i}.0.norm1"), norm(z, f"layers.{i}.0.norm2")
        q = heads(b @ get[f"layers.{i}.0.to_q.weight"].T)
        both = torch.cat([a, b], 1) @ get[f"layers.{i}.0.to_kv.weight"].T
        k, v = (heads(part) for part in both.chunk(2, -1))
        scores = (q @ k.transpose(-1, -2) * cfg.head_dim**-0.5).masked_fill(hidden, -torch.inf)
        h = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        z = z + h @ get[f"layers.{i}.0.to_out.weight"].T
        up = F.gelu(norm(z, f"layers.{i}.1.0") @ get[f"layers.{i}.1.1.weight"].T)
        z = z + up @ get[f"layers.{i}.1.3.weight"].T
    return norm(z @ get["proj_out.weight"].T + get["proj_out.bias"], "norm_out")


@pytest.mark.torch
@pytest.mark.parametrize("mask", [None, MASK, MASK.astype(np.int32)], ids=["all", "bool", "int"])
def test_equals_its_formulas(mask, strict_dtypes):
    pytest.importorskip("torch")
    model = functional.build(resampler.Resampler, CFG)
    ours = jax.jit(model.apply)(params_of(CFG), STATES, mask)
    allowed = None if mask is None else mask.astype(bool)
    assert relative_error(ours, reference(CFG, draw(CFG), STATES, allowed)) < 1e-5


def test_tensors_come_back_byte_for_byte():
    state = draw(CFG)
    back = dict(rules.export_tensors(*import_params(CFG, state), {}))
    assert back.keys() == state.keys()
    assert all(back[n].tobytes() == x.tobytes() and back[n].shape == x.shape
               for n, x in state.items())  # fmt: skip


@pytest.mark.parametrize(
    "cfg, expected",
    [
        pytest.param(ResamplerConfig(), 76_912_384, id="tokenizer"),
        pytest.param(
            ResamplerConfig(in_width=256, out_width=1024, num_queries=125),
            76_977_152,
            id="de-tokenizer",
        ),
    ],
)
def test_has_the_size_of_divot(cfg, expected):
    assert functional.build(resampler.Resampler, cfg).num_params == expected


def test_every_leaf_has_axes():
    model = functional.build(resampler.Resampler, CFG)
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))
    assert model.axes["blocks"]["block"]["attention"]["q"]["kernel"] == ("layers", "embed", "heads")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_follows_float32(dtype, strict_dtypes):
    model = functional.build(resampler.Resampler, CFG)
    params = jax.jit(model.init)(jax.random.key(0))
    half = functional.build(resampler.Resampler, dataclasses.replace(CFG, dtype=dtype))
    ours = jax.jit(half.apply)(params, STATES)
    assert ours.dtype == dtype
    assert relative_error(ours, jax.jit(model.apply)(params, STATES)) < 0.05


def test_masked_states_do_not_matter():
    model, params = functional.build(resampler.Resampler, CFG), params_of(CFG)
    apply = jax.jit(model.apply)
    other = np.where(MASK[..., None], STATES, 7.0).astype(np.float32)
    np.testing.assert_array_equal(apply(params, STATES, MASK), apply(params, other, MASK))
    assert jnp.isfinite(apply(params, STATES, np.zeros_like(MASK))).all()
