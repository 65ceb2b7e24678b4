# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The video U-Net against a twin in torch, as a whole and part by part."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import UNetConfig
from mimir_jax.errors import InputError
from mimir_jax.models import functional, params
from mimir_jax.models.unet import unet
from tests.helpers import params_of, relative_error

TINY = dict(head_dim=8, first_heads=3, context_width=12, norm_groups=2)
ONE_LEVEL = UNetConfig(
    width=8, multipliers=(1,), blocks_per_level=1, attention_scales=(1,), text_length=6,
    frame_rows=4, **TINY,
)  # fmt: skip
FOUR_LEVELS = UNetConfig(
    width=8, multipliers=(1, 2, 1, 2), blocks_per_level=1, attention_scales=(1, 4), **TINY
)
BOUND = 2e-5  # of the issue


@functools.cache
def both(cfg):
    """The twin, and our network compiled with its weights."""
    pytest.importorskip("torch")
    from tests.models import unet_reference

    twin = unet_reference.make_reference(cfg)
    model = functional.build(unet.UNet, cfg)
    loaded = params_of("unet", twin, cfg)
    return twin, model, loaded, jax.jit(model.apply)


def inputs(cfg, rows, frames=2, batch=2, side=8):
    rng = np.random.default_rng(rows)
    latents = rng.normal(size=(batch, frames, side, side, cfg.in_channels)).astype("f4")
    context = rng.normal(size=(batch, rows, cfg.context_width)).astype("f4")
    return latents, context, np.array([981, 3][:batch]), np.array([3, 11][:batch])


def twin_output(twin, latents, context, timestep, fs):
    import torch

    with torch.no_grad():
        x = torch.tensor(latents).permute(0, 4, 1, 2, 3)
        y = twin(x, *(torch.tensor(value) for value in (context, timestep, fs)))
    return y.permute(0, 2, 3, 4, 1).numpy()


@pytest.mark.torch
@pytest.mark.parametrize(
    "cfg, rows, frames",
    [
        pytest.param(ONE_LEVEL, 9, 2, id="one-level"),
        pytest.param(FOUR_LEVELS, 125, 3, id="four-levels", marks=pytest.mark.slow),
    ],
)
def test_equals_its_twin(cfg, rows, frames, strict_dtypes):
    twin, _, loaded, apply = both(cfg)
    given = inputs(cfg, rows, frames)
    assert relative_error(apply(loaded, *given), twin_output(twin, *given)) < BOUND


PARTS = {
    "R": (lambda twin: twin.input_blocks[1][0], "down/0/steps/0/residual"),
    "S": (lambda twin: twin.input_blocks[1][1], "down/0/steps/0/pixels"),
    "T": (lambda twin: twin.input_blocks[1][2], "down/0/steps/0/frames"),
    "init_attn": (lambda twin: twin.init_attn[0], "first"),
}


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(
    "part, rows, frames",
    [
        pytest.param("R", 125, 2, id="R"),
        pytest.param("S", 125, 2, id="S-image-rows-of-the-clip"),
        pytest.param("S", 125, 3, id="S-image-rows-of-each-frame"),
        pytest.param("S", 77, 2, id="S-text-alone"),
        pytest.param("S", 60, 2, id="S-less-text"),
        pytest.param("T", 125, 2, id="T"),
        pytest.param("init_attn", 125, 2, id="init_attn"),
    ],
)
def test_part_equals_its_twin(part, rows, frames):
    cfg = dataclasses.replace(ONE_LEVEL, text_length=77, frame_rows=16)
    twin, _, loaded, _ = both(cfg)
    import torch

    find, path = PARTS[part]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, frames, 4, 5, cfg.width)).astype("f4")
    time = rng.normal(size=(2, cfg.time_width)).astype("f4")
    context = rng.normal(size=(2, rows, cfg.context_width)).astype("f4")
    with torch.no_grad():
        frame_rows = twin.rows(torch.tensor(context), frames)
        x_torch = torch.tensor(x).permute(0, 4, 1, 2, 3)
        expected = find(twin)(x_torch, torch.tensor(time), frame_rows)
    run = functional.build(Part, (cfg, path))
    nested = functools.reduce(dict.__getitem__, path.split("/"), loaded)
    result = jax.jit(run.apply)({"part": nested}, x, time, context)
    assert relative_error(result, expected.permute(0, 2, 3, 4, 1)) < 1e-5


class Part(unet.nnx.Module):
    """One part of a U-Net."""

    def __init__(self, cfg, *, rngs):
        self.cfg, path = cfg
        whole = unet.UNet(self.cfg, rngs=rngs)
        self.part = whole
        for name in path.split("/"):
            self.part = self.part[name] if name.isdigit() else getattr(self.part, name)

    def __call__(self, x, time, context):
        if isinstance(self.part, unet.blocks.ResBlock):
            return self.part(x, time)
        return self.part(x, unet.split_context(self.cfg, context, x.shape[1]))


@pytest.mark.slow
def test_has_the_size_of_divot():
    model = functional.build(unet.UNet, UNetConfig())
    assert model.num_params == 1_438_843_476
    assert len(jax.tree.leaves(model.abstract_params)) == 1400  # q, k, v are joined


def test_every_leaf_has_axes():
    model = functional.build(unet.UNet, ONE_LEVEL)
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))


@pytest.mark.slow
def test_residual_parts_start_at_zero():
    model = functional.build(unet.UNet, ONE_LEVEL)
    last = r"(stride/down|conv2|temporal/3|pixels/out|frames/out|^first/out|conv_out)/kernel"

    def start(key):
        return {k: x for k, x in params.flatten(model.init(key)).items() if re.search(last, k)}

    leaves = jax.jit(start)(jax.random.key(0))
    assert len(leaves) == 2 + 5 * 2 + 9  # of the parts, 5 are residual and 9 attend
    assert not any(map(jnp.any, leaves.values()))


@pytest.mark.slow
@pytest.mark.torch
def test_a_clip_does_not_depend_on_its_batch():
    _, _, loaded, apply = both(ONE_LEVEL)
    given = inputs(ONE_LEVEL, 9)
    alone = [apply(loaded, *(value[i : i + 1] for value in given)) for i in range(2)]
    np.testing.assert_allclose(apply(loaded, *given), np.concatenate(alone), atol=1e-5)


@pytest.mark.slow
@pytest.mark.torch
def test_remat_does_not_change_gradients():
    _, model, loaded, _ = both(ONE_LEVEL)
    given = inputs(ONE_LEVEL, 9)

    def gradient(network):
        return jax.jit(jax.grad(lambda p: jnp.sum(network.apply(p, *given) ** 2)))(loaded)

    other = functional.build(unet.UNet, dataclasses.replace(ONE_LEVEL, remat="full"))
    pairs = zip(*(jax.tree.leaves(gradient(m)) for m in (model, other)), strict=True)
    assert all(relative_error(a, b) < 1e-5 for a, b in pairs)


@pytest.mark.slow
def test_half_precision_is_kept(strict_dtypes):
    half = functional.build(unet.UNet, dataclasses.replace(ONE_LEVEL, dtype="bfloat16"))
    given = inputs(ONE_LEVEL, 9)
    shape = jax.eval_shape(half.apply, half.abstract_params, *map(jnp.asarray, given))
    assert shape.dtype == "bfloat16" and shape.shape == given[0].shape


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(latents=(1, 2, 8, 9, 4)), "must be multiples of 2, got 8 x 9"),
        (dict(latents=(1, 2, 8, 8, 3)), "must have in_channels=4 channels, got 3"),
        (dict(context=(1, 9, 7)), "rows of context_width=12, got 9 of 7"),
        (dict(context=(1, 0, 12)), "rows of context_width=12, got 0 of 12"),
    ],
)
def test_other_shapes_are_refused(change, message):
    two = dataclasses.replace(ONE_LEVEL, multipliers=(1, 2))
    model = functional.build(unet.UNet, two)
    shapes = dict(latents=(1, 2, 8, 8, 4), context=(1, 9, 12)) | change
    arrays = [jnp.zeros(shape) for shape in shapes.values()]
    with pytest.raises(InputError, match=message):
        model.apply(model.abstract_params, *arrays, jnp.zeros(1, int), jnp.zeros(1, int))


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(width=40), "width must be a multiple of norm_groups, got 40 and 32"),
        (dict(multipliers=(1, 1), width=96), "levels with attention multiples of head_dim, got 96"),
    ],
)
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        UNetConfig(**fields)
