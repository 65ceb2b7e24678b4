# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import ViTConfig
from mimir_jax.errors import InputError
from mimir_jax.models import functional, vit
from tests import quick
from tests.helpers import params_of, relative_error

CFG = ViTConfig(image_size=29, patch=7, width=24, num_layers=3, num_heads=3, mlp_dim=40)
WIDE = ViTConfig(
    image_size=12,
    patch=4,
    width=30,
    num_layers=2,
    num_heads=5,
    mlp_dim=44,
    activation="gelu",
    norm_eps=1e-3,
)

OPENCLIP_H = ViTConfig(
    image_size=224, width=1280, num_layers=32, mlp_dim=5120, activation="gelu"
)  # of LAION, read by Divot


def images_of(height, width, seed=0):
    """Two random images."""
    return np.random.default_rng(seed).normal(size=(2, height, width, 3)).astype(np.float32)


def reference(cfg, seed=0):
    """A random torch tower of `cfg`, with every tensor moved away from its initial value."""
    torch = pytest.importorskip("torch")
    import transformers

    torch.manual_seed(seed)
    model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**torch_config(cfg))).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model


def torch_config(cfg):
    """The sizes of `cfg` under the names of transformers."""
    return dict(
        image_size=cfg.image_size,
        patch_size=cfg.patch,
        num_channels=cfg.in_channels,
        hidden_size=cfg.width,
        num_hidden_layers=cfg.num_layers,
        num_attention_heads=cfg.num_heads,
        intermediate_size=cfg.mlp_dim,
        hidden_act=cfg.activation,
        layer_norm_eps=cfg.norm_eps,
    )


def run_reference(model, images, **kwargs):
    """States of all layers of a torch tower, and its pooled output."""
    import torch

    with torch.no_grad():
        pixels = torch.tensor(images).permute(0, 3, 1, 2)
        out = model(pixels, output_hidden_states=True, **kwargs)
    return [x.numpy() for x in out.hidden_states], out.pooler_output.numpy()


@pytest.mark.torch
@pytest.mark.parametrize("cfg", quick.some([CFG, WIDE], 0), ids=["quick-gelu", "gelu"])
def test_states_of_all_layers_equal_transformers(cfg, strict_dtypes):
    torch_model = reference(cfg)
    model, params = functional.build(vit.ViT, cfg), params_of("vit", torch_model, cfg)
    images = images_of(cfg.image_size, cfg.image_size)
    states, pooled = run_reference(torch_model, images)
    assert len(states) == cfg.num_layers + 1
    apply = jax.jit(model.apply, static_argnames="layer")
    for layer, expected in enumerate(states):
        assert relative_error(apply(params, images, layer=layer), expected) < 1e-5
    assert relative_error(apply(params, images, layer=-2), states[-2]) < 1e-5
    ours = apply(params, images)
    assert relative_error(ours, states[-1]) < 1e-5
    assert relative_error(model.pool(params, ours), pooled) < 1e-5


@pytest.mark.torch
@pytest.mark.parametrize("size", [(33, 48), (15, 29), (29, 29)], ids=str)
def test_interpolated_positions_equal_transformers(size, strict_dtypes):
    torch_model = reference(CFG)
    model, params = functional.build(vit.ViT, CFG), params_of("vit", torch_model, CFG)
    states, _ = run_reference(torch_model, images_of(*size), interpolate_pos_encoding=True)
    ours = jax.jit(model.apply, static_argnames="interpolate")(
        params, images_of(*size), interpolate=True
    )
    assert relative_error(ours, states[-1]) < 1e-5


def test_published_sizes():
    assert functional.build(vit.ViT, ViTConfig()).num_params == 303_507_456
    assert functional.build(vit.ViT, OPENCLIP_H).num_params == 630_766_080


def test_every_leaf_has_axes():
    model = functional.build(vit.ViT, CFG)
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))
    assert model.axes["blocks"]["block"]["mlp"]["down"]["kernel"] == ("layers", "mlp", "embed")
    assert model.axes["positions"] == (None, "embed")


@pytest.fixture(scope="module")
def tower():
    model = functional.build(vit.ViT, CFG)
    return model, jax.jit(model.init)(jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_follows_float32(tower, dtype, strict_dtypes):
    model, params = tower
    half = functional.build(vit.ViT, dataclasses.replace(CFG, dtype=dtype))
    images = images_of(29, 29)
    ours = jax.jit(half.apply)(params, images)
    assert ours.dtype == dtype
    assert relative_error(ours, jax.jit(model.apply)(params, images)) < 0.05


@pytest.mark.slow
def test_later_blocks_get_no_gradient(tower):
    _, params = tower
    model = functional.build(vit.ViT, dataclasses.replace(CFG, remat="full"))

    @jax.jit
    @jax.grad
    def gradient(params):
        return jnp.sum(model.apply(params, images_of(29, 29), layer=-2) ** 2)

    size = jax.tree.map(lambda x: np.abs(x).max(), gradient(params))
    assert np.isfinite(jax.tree.leaves(size)).all() and size["patch"]["kernel"] > 0
    each = np.abs(gradient(params)["blocks"]["block"]["mlp"]["up"]["kernel"]).max((1, 2))
    assert (each[:-1] > 0).all() and each[-1] == 0


@pytest.mark.parametrize(
    "shape, options, message",
    [
        ((1, 28, 29, 3), {}, "images must have 29 x 29 pixels, got 28 x 29"),
        ((1, 6, 40, 3), {"interpolate": True}, "must hold a patch of 7 x 7 pixels, got 6 x 40"),
        ((1, 3, 29, 29), {}, "in_channels=3 channels, got 29; put them last"),
        ((1, 29, 29, 3), {"layer": 4}, "layer must lie between -4 and 3"),
    ],
)
def test_bad_images_are_refused(tower, shape, options, message):
    model, params = tower
    with pytest.raises(InputError, match=message):
        model.apply(params, jnp.zeros(shape), **options)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_heads": 5}, "width must be a multiple of num_heads, got 24 and 5"),
        ({"patch": 30}, "image_size must be at least patch, got 29 and 30"),
    ],
)
def test_bad_sizes_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CFG, **changes)
