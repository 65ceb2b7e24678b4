# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.config import DivotTokenizerConfig
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models.divot import tokenizer
from tests.helpers import relative_error
from tests.models.divot.clips import MINIATURE, ODD


def frames_of(height, width, seed=0):
    """Frames of two clips for `ODD`."""
    shape = (2, ODD.frames, height, width, 3)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


def test_has_the_size_of_divot():
    params = functional.build(tokenizer.DivotTokenizer, DivotTokenizerConfig()).abstract_params
    sizes = {name: count(part) for name, part in params.items()}
    assert sizes == {
        "vit": 630_763_520,
        "temporal": 44_303_872,
        "norm": 2048,
        "space_time": 50_384_896 + 30 * 1024 + 2048,
        "resampler": 76_912_384,
    }
    assert count(params["space_time"]["blocks"]) == 50_384_896


def test_every_leaf_has_axes():
    model = functional.build(tokenizer.DivotTokenizer, ODD)
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))


@pytest.fixture(scope="module")
def started():
    model = functional.build(tokenizer.DivotTokenizer, ODD)
    return model, jax.jit(model.init)(jax.random.key(0))


@pytest.mark.slow
def test_starts_from_zero_states_of_patches(started):
    model, params = started
    features = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 25, 30)), jnp.float32)
    assert not model.pooled(params, features).any()
    assert params["temporal"]["into"]["kernel"][:28].diagonal().sum() == 28
    assert params["temporal"]["into"]["kernel"].sum() == 28
    drawn = dataclasses.replace(ODD, temporal=dataclasses.replace(ODD.temporal, start="random"))
    other = functional.build(tokenizer.DivotTokenizer, drawn)
    assert other.pooled(jax.jit(other.init)(jax.random.key(0)), features).any()


def test_positions_start_with_the_deviation_of_the_config(started):
    _, published = started
    parts = {"temporal": ["positions"], "space_time": ["space_positions", "time_positions"]}
    wide = {part: dataclasses.replace(getattr(ODD, part), position_std=2.0) for part in parts}
    model = functional.build(tokenizer.DivotTokenizer, dataclasses.replace(ODD, **wide))
    params = jax.jit(model.init)(jax.random.key(0))
    for part, names in parts.items():
        for name in names:
            assert 1.6 < params[part][name].std() < 2.4
            assert published[part][name].std() < 0.3
    with pytest.raises(ValueError, match="position_std must be at least 0"):
        dataclasses.replace(ODD.temporal, position_std=-1.0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_follows_float32(started, dtype, strict_dtypes):
    model, params = started
    parts = ("vit", "temporal", "space_time", "resampler")
    cast = {name: dataclasses.replace(getattr(ODD, name), dtype=dtype) for name in parts}
    half = functional.build(tokenizer.DivotTokenizer, dataclasses.replace(ODD, **cast))
    ours = jax.jit(half.apply)(params, frames_of(22, 22))
    assert ours.dtype == dtype
    assert relative_error(ours, jax.jit(model.apply)(params, frames_of(22, 22))) < 0.05


@pytest.mark.torch
def test_frames_are_prepared_as_published_with_its_blur():
    """The blur of the public code before its resizing (sigma 1/14 at 256) changes nothing."""
    torch = pytest.importorskip("torch")
    frames = np.random.default_rng(0).uniform(-1, 1, (1, 256, 256, 3)).astype(np.float32)
    x = torch.tensor(frames).permute(0, 3, 1, 2)
    sigma = (256 / 224 - 1) / 2
    side = np.exp(-0.5 / sigma**2)
    taps = torch.tensor([side, 1.0, side], dtype=torch.float32) / (1 + 2 * side)
    kernel = torch.outer(taps, taps).expand(3, 1, 3, 3)
    x = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    x = torch.nn.functional.conv2d(x, kernel, groups=3)
    x = torch.nn.functional.interpolate(x, (224, 224), mode="bicubic", align_corners=True)
    x = ((x + 1) / 2).permute(0, 2, 3, 1)
    expected = (x - torch.tensor(tokenizer.MEAN)) / torch.tensor(tokenizer.STD)
    found = tokenizer.prepare(jnp.asarray(frames), DivotTokenizerConfig().vit)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_miniature_has_sixteen_tokens():
    model = functional.build(tokenizer.DivotTokenizer, MINIATURE)
    frames = jax.ShapeDtypeStruct((3, 5, 64, 64, 3), jnp.float32)
    assert jax.eval_shape(model.apply, model.abstract_params, frames).shape == (3, 16, 32)
    assert {k: round(count(v) / 1e6, 1) for k, v in model.abstract_params.items()} == {
        "vit": 0.8, "temporal": 0.4, "norm": 0.0, "space_time": 0.4, "resampler": 0.4,
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 4, 22, 22, 3), (1, 3, 22, 22, 4), (1, 3, 3, 22, 22)])
def test_other_frames_are_refused(started, shape):
    model, params = started
    with pytest.raises(InputError, match=r"3 frames \(or one\) along axis 1 and 3 channels"):
        model.apply(params, jnp.zeros(shape))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pool": 6}, "pool must be at most the 5 rows of patches of the image tower, got 6"),
        ({"resampler": MINIATURE.resampler}, "must equal resampler.in_width, .* got 18 and 128"),
        ({"temporal": dataclasses.replace(ODD.temporal, dtype="bfloat16")}, "must equal resampler"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
    ],
)
def test_bad_sizes_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(ODD, **changes)


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="width must be a multiple of num_heads, got 28 and 3"):
        dataclasses.replace(ODD.temporal, num_heads=3)


TIED = dataclasses.replace(ODD, tokens="patches", token_pool=2)


def test_tokens_tied_to_patches_stand_for_places(tmp_path):
    assert (TIED.num_tokens, TIED.token_width) == (3 * 2 * 2, 7)
    part = functional.build(tokenizer.PatchTokens, TIED)
    params = jax.jit(part.init)(jax.random.key(0))
    states = np.random.default_rng(0).normal(size=(1, 3 * 9, 18)).astype(np.float32)
    run = jax.jit(part.apply)
    moved = states.copy()
    moved[0, 9 + 8] += 1.0  # the last of the 3 x 3 patches of the second frame
    changed = np.abs(np.asarray(run(params, moved) - run(params, states))).max(-1)[0] > 1e-6
    assert np.flatnonzero(changed).tolist() == [7]  # the last of its 2 x 2 tokens


@pytest.mark.slow
def test_tokens_tied_to_patches_train_and_are_stored(tmp_path):
    model = functional.build(tokenizer.DivotTokenizer, TIED)
    draw = np.random.default_rng(0).normal
    params = jax.tree.map(
        lambda x: (0.3 * draw(size=x.shape)).astype(np.float32), model.abstract_params
    )
    assert set(params) == {"vit", "temporal", "norm", "space_time", "patches"}
    features = draw(size=(2, 3, 25, 30)).astype(np.float32)
    loss = lambda p: jnp.square(model.encode(p, features)).sum(-1)[:, 5].mean()  # noqa: E731
    value, grad = jax.jit(jax.value_and_grad(loss))(params)
    assert np.isfinite(value)
    for name in ("temporal", "space_time", "patches"):
        assert sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(grad[name])) > 0
    weights.save(tmp_path / "tied", "divot_tokenizer", TIED, params)
    again, loaded = weights.load(tmp_path / "tied")
    assert again.config == TIED
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    with pytest.raises(InputError, match="must come from a resampler in the published layout"):
        weights.convert(tmp_path / "tied", tmp_path / "out", to="divot")
    with pytest.raises(InputError, match="token_pool must be at most .*pool"):
        dataclasses.replace(TIED, token_pool=4)


def test_presets_have_a_row_of_tied_tokens():
    run = c.from_config_dict(c.TrainConfig, c.find_config("divot:tiny/patches"))
    plain = c.from_config_dict(c.TrainConfig, c.find_config("divot:tiny"))
    tied, own = run.system.model.tokenizer, plain.system.model.tokenizer
    assert (tied.num_tokens, own.num_tokens) == (20, 16)
    assert dataclasses.replace(tied, tokens="resampler", token_pool=own.token_pool) == own
    paper = c.from_config_dict(c.TrainConfig, c.find_config("divot:paper/unet/patches"))
    assert paper.system.model.tokenizer.num_tokens == 80
    with pytest.raises(InputError, match="before /patches, got 'tiny/vit/patches'"):
        c.find_config("divot:tiny/vit/patches")
