# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import ABLATIONS, FuserConfig
from mimir_jax.models import condition as conditioning
from mimir_jax.models import functional
from mimir_jax.models.mimir import fuser

T5, LLM, LENGTH = 8, 6, 7
ROWS = {
    name: {k: v for k, v in flags.items() if k != "stabilizer"} for name, flags in ABLATIONS.items()
}

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@functools.cache
def make(row="mimir", **options):
    cfg = FuserConfig(t5_width=T5, llm_width=LLM, **ROWS[row], **options)
    return functional.build(fuser.TokenFuser, cfg)


def make_features(seed=0, dtype=np.float32):
    """T5 states within [-0.5, 0.5], LLM states well beyond [-1, 1], right-padded differently."""
    rng = np.random.default_rng(seed)
    positions = np.arange(LENGTH)[None]
    return conditioning.TextFeatures(
        t5=jnp.asarray(rng.uniform(-0.5, 0.5, (3, LENGTH, T5)), dtype),
        t5_mask=jnp.asarray(positions < np.array([[7], [3], [1]])),
        llm=jnp.asarray(rng.normal(1, 4, (3, LENGTH, LLM)), dtype),
        llm_mask=jnp.asarray(positions < np.array([[5], [6], [2]])),
    )


def randomise(model, seed=7):
    """Every parameter away from its start, zero convolutions and biases included."""
    rng = np.random.default_rng(seed)
    draw = lambda leaf: jnp.asarray(rng.normal(0, 1, leaf.shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, model.abstract_params)


def convolve(x, params):
    """The convolution along tokens, written out position by position."""
    taps = np.asarray(params["kernel"], np.float64)
    y = np.zeros((*x.shape[:2], taps.shape[-1]))
    for position in range(x.shape[1]):
        for i, tap in enumerate(taps):
            source = position + i - len(taps) // 2
            if 0 <= source < x.shape[1]:
                y[:, position] += x[:, source] @ tap
    return y + np.asarray(params.get("bias", 0), np.float64)


def reference(cfg, params, features, drop):
    """The equations of Mimir, section by section, in float64."""
    t5, llm = np.asarray(features.t5, np.float64), np.asarray(features.llm, np.float64)
    llm_mask = np.asarray(features.llm_mask)
    if cfg.llm_align == "right":
        pads = (~llm_mask).sum(1)
        llm = np.stack([np.roll(x, n, axis=0) for x, n in zip(llm, pads, strict=True)])
        llm_mask = np.stack([np.roll(x, n) for x, n in zip(llm_mask, pads, strict=True)])
        assert llm_mask[:, -1].all()
    t5_keep = np.asarray(features.t5_mask)[..., None] | (cfg.t5_pad == "keep")
    llm_keep = llm_mask[..., None] | (cfg.llm_pad == "keep")
    e = t5 * t5_keep
    if cfg.zero_conv and cfg.zero_conv_t5:
        e = (e + convolve(e, params["z_theta"])) * t5_keep
    if cfg.use_llm:
        x = llm * llm_keep
        if cfg.norm_scale:
            center = x.mean(-1, keepdims=True) if cfg.norm == "layernorm" else 0
            x = (x - center) / np.sqrt(np.mean((x - center) ** 2, -1, keepdims=True) + cfg.norm_eps)
        scale = np.asarray(params["scale"], np.float64) if cfg.norm_scale else 1.0
        x = x * (scale if cfg.scale_place == "before" else 1)
        if "project" in params:
            x = x @ np.asarray(params["project"]["kernel"], np.float64)
            x = x + np.asarray(params["project"].get("bias", 0), np.float64)
        if cfg.zero_conv:
            x = convolve(x, params["z_beta"])
        e = e + x * (scale if cfg.scale_place == "after" else 1) * llm_keep
    return e * ~np.asarray(drop)[:, None, None]


CASES = [(row, {}) for row in ("baseline", "decoder_only", "norm", "zeroconv", "mimir")] + [
    ("mimir", dict(bridge="linear")),
    ("mimir", dict(bridge="linear", kernel_size=3)),
    ("mimir", dict(llm_pad="keep", t5_pad="zero")),
    ("mimir", dict(norm="rmsnorm")),
    ("mimir", dict(scale_shape="channel")),
    ("mimir", dict(scale_shape="channel", scale_place="after")),
    ("mimir", dict(scale_place="after")),
    ("mimir", dict(kernel_size=3)),
    ("mimir", dict(kernel_size=5, llm_pad="keep")),
    ("mimir", dict(kernel_size=9, t5_pad="zero")),
    ("mimir", dict(zero_conv_bias=False, norm_eps=0.1)),
    ("mimir", dict(zero_conv_t5=False)),
    ("mimir", dict(llm_align="right")),
    ("mimir", dict(llm_align="right", kernel_size=3, llm_pad="keep")),
    ("norm", dict(llm_align="right", t5_pad="zero")),
    ("zeroconv", dict(bridge="linear", llm_pad="keep")),
    ("baseline", dict(t5_pad="zero")),
    ("decoder_only", dict(zero_conv_bias=False, llm_pad="keep")),
    ("norm", dict(scale_place="after", scale_shape="channel", norm="rmsnorm")),
]


@pytest.mark.parametrize(
    ("row", "options"), CASES, ids=lambda x: x if isinstance(x, str) else "-".join(map(str, x))
)
def test_fuser_follows_the_equations(row, options):
    model, features = make(row, **options), make_features()
    params, drop = randomise(model), jnp.array([False, False, True])
    out = jax.jit(model.apply)(params, features, drop)
    expected = reference(model.config, params, features, drop)
    assert helpers.relative_error(out.tokens, expected) < 1e-5
    assert out.tokens.dtype == jnp.float32 and out.mask is None


PARAMS = {
    "baseline": {},
    "decoder_only": {"project": (LLM, T5)},
    "norm": {"scale": (), "project": (LLM, T5)},
    "zeroconv": {"z_beta": (1, LLM, T5), "z_theta": (1, T5, T5)},
    "mimir": {"scale": (), "z_beta": (1, LLM, T5), "z_theta": (1, T5, T5)},
}


@pytest.mark.parametrize("row", PARAMS)
def test_rows_have_the_parameters_of_their_parts(row):
    model = make(row)
    shapes = jax.tree.map(lambda leaf: leaf.shape, model.abstract_params)
    expected = {
        name: {"kernel": shape, "bias": shape[-1:]} if shape else shape
        for name, shape in PARAMS[row].items()
    }
    assert shapes == expected


@pytest.mark.parametrize(
    ("options", "path", "shape"),
    [
        (dict(zero_conv_bias=False), "z_beta", {"kernel": (1, LLM, T5)}),
        (dict(kernel_size=3), "z_theta", {"kernel": (3, T5, T5), "bias": (T5,)}),
        (dict(bridge="linear"), "project", {"kernel": (LLM, T5)}),
        (dict(bridge="linear"), "z_beta", {"kernel": (1, T5, T5), "bias": (T5,)}),
        (dict(scale_shape="channel"), "scale", (LLM,)),
        (dict(scale_shape="channel", scale_place="after"), "scale", (T5,)),
        (dict(zero_conv_t5=False), "z_theta", None),
    ],
    ids=str,
)
def test_options_shape_the_parameters(options, path, shape):
    model = make(**options)
    assert jax.tree.map(lambda leaf: leaf.shape, model.abstract_params).get(path) == shape
    ranks = jax.tree.map(
        lambda leaf, axes: leaf.ndim == len(axes), model.abstract_params, model.axes
    )
    assert all(jax.tree.leaves(ranks))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("row", "options"),
    [
        ("baseline", {}),
        ("zeroconv", {}),
        ("mimir", {}),
        ("mimir", dict(kernel_size=3, bridge="linear", scale_place="after", llm_pad="keep")),
    ],
    ids=["baseline", "zeroconv", "mimir", "mimir-options"],
)
def test_fused_tokens_start_as_those_of_t5_bit_for_bit(row, options, dtype):
    model, features = make(row, dtype=dtype, **options), make_features()
    out = jax.jit(model.apply)(model.init(jax.random.key(0)), features)
    np.testing.assert_array_equal(out.tokens, features.t5.astype(dtype))
    assert out.tokens.dtype == dtype


@pytest.mark.parametrize("options", [{}, dict(kernel_size=3), dict(bridge="linear", kernel_size=3)])
def test_llm_pads_never_contribute(options):
    model, features = make(**options), make_features()
    params, pads = randomise(model), ~features.llm_mask
    branch = jax.jit(model.llm_branch)
    out = branch(params, features)
    assert (np.asarray(out)[np.asarray(pads)] == 0).all()
    assert (np.asarray(out)[~np.asarray(pads)] != 0).all()
    poisoned = jnp.where(pads[..., None], jnp.float32(jnp.nan), features.llm)
    again = branch(params, dataclasses.replace(features, llm=poisoned))
    np.testing.assert_array_equal(out, again)


def test_absent_llm_mask_means_no_pads():
    features = make_features()
    full = dataclasses.replace(features, llm_mask=jnp.ones_like(features.llm_mask))
    none = dataclasses.replace(features, llm_mask=None)
    for options in ({}, dict(attend_pads=False)):
        model = make(**options)
        params = randomise(model)
        ours, expected = model.apply(params, none), model.apply(params, full)
        np.testing.assert_array_equal(ours.tokens, expected.tokens)
        assert ours.mask is None and (expected.mask is None or expected.mask.all())


@pytest.mark.parametrize(
    ("row", "options"),
    [("mimir", {}), ("mimir", dict(scale_shape="channel", scale_place="after")), ("norm", {})],
    ids=["before", "after", "norm"],
)
def test_gradients_of_the_first_two_steps(row, options):
    model, features = make(row, **options), make_features()
    params = model.init(jax.random.key(0))
    weights = jnp.asarray(np.random.default_rng(1).normal(0, 1, (3, LENGTH, T5)), jnp.float32)
    grad = jax.jit(jax.grad(lambda p: jnp.vdot(model.apply(p, features).tokens, weights)))
    first = grad(params)
    if row == "norm":  # nothing starts at zero
        assert all((np.asarray(g) != 0).any() for g in jax.tree.leaves(first))
        return
    for part in ("z_beta", "z_theta"):
        assert (np.asarray(first[part]["kernel"]) != 0).all()
        assert (np.asarray(first[part]["bias"]) != 0).all()
    assert (np.asarray(first["scale"]) == 0).all()
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, first)
    assert (np.asarray(grad(params)["scale"]) != 0).all()


def test_plain_sum_is_dominated_by_the_llm_and_norm_restores_balance():
    features = make_features()
    t5_rms = fuser.rms(features.t5, features.t5_mask)
    ratios = {}
    for row in ("decoder_only", "norm"):
        cfg = dataclasses.replace(make(row).config, llm_width=256, t5_width=128)
        cfg = dataclasses.replace(cfg, scale_init=float(t5_rms))
        model = functional.build(fuser.TokenFuser, cfg)
        llm = jax.random.normal(jax.random.key(1), (3, LENGTH, 256)) * 4
        wide = dataclasses.replace(features, llm=llm)
        addend = model.llm_branch(model.init(jax.random.key(0)), wide)
        ratios[row] = float(fuser.rms(addend, features.llm_mask) / t5_rms)
    assert ratios["decoder_only"] > 10
    assert 0.8 < ratios["norm"] < 1.25


def test_rms_keeps_real_tokens_only():
    features = make_features()
    expected = np.sqrt(np.mean(np.asarray(features.t5)[np.asarray(features.t5_mask)] ** 2))
    np.testing.assert_allclose(fuser.rms(features.t5, features.t5_mask), expected, rtol=1e-6)
    everything = np.sqrt(np.mean(np.asarray(features.t5) ** 2))
    np.testing.assert_allclose(fuser.rms(features.t5), everything, rtol=1e-6)


@pytest.mark.parametrize("row", ["baseline", "decoder_only", "mimir"])
@pytest.mark.parametrize("attend_pads", [True, False])
def test_null_rows_are_zero_and_blind_to_the_caption(row, attend_pads):
    model = make(row, attend_pads=attend_pads)
    params, drop = randomise(model), jnp.array([True, False, True])
    apply = jax.jit(model.apply)
    out, other = (apply(params, make_features(seed), drop) for seed in (0, 1))
    assert (np.asarray(out.tokens)[[0, 2]] == 0).all()
    assert (np.asarray(out.tokens)[1] != 0).any()
    kept = apply(params, make_features(0))
    np.testing.assert_array_equal(out.tokens[1], kept.tokens[1])
    assert (np.asarray(out.tokens)[1] != np.asarray(other.tokens)[1]).any()
    if attend_pads:
        assert out.mask is None
    else:
        assert np.asarray(out.mask)[[0, 2]].all()
        np.testing.assert_array_equal(out.mask[1], kept.mask[1])


def test_pads_can_be_hidden_from_attention():
    features = make_features()
    masks = {row: make(row, attend_pads=False) for row in ("baseline", "mimir")}
    masks = {row: m.apply(randomise(m), features).mask for row, m in masks.items()}
    np.testing.assert_array_equal(masks["baseline"], features.t5_mask)
    np.testing.assert_array_equal(masks["mimir"], features.t5_mask | features.llm_mask)
    assert not masks["mimir"].all()


@pytest.mark.parametrize("row", ["baseline", "decoder_only", "mimir"])
def test_bfloat16_compute_stays_close(row):
    params = randomise(make(row))
    full = make(row).apply(params, make_features())
    half = make(row, dtype="bfloat16").apply(params, make_features(dtype=jnp.bfloat16))
    assert half.tokens.dtype == jnp.bfloat16
    assert helpers.relative_error(half.tokens.astype(jnp.float32), full.tokens) < 2e-2


def test_norm_statistics_are_float32():
    features = make_features()
    large = dataclasses.replace(features, llm=(features.llm + 300).astype(jnp.bfloat16))
    params = randomise(make())
    half = make(dtype="bfloat16").llm_branch(params, large).astype(jnp.float32)
    assert helpers.relative_error(half, make().llm_branch(params, large)) < 2e-2


def test_missing_llm_features_are_named():
    features = dataclasses.replace(make_features(), llm=None, llm_mask=None)
    with pytest.raises(ValueError, match="features.llm must be given"):
        make().apply(make().init(jax.random.key(0)), features)
    out = make("baseline").apply({}, features)
    np.testing.assert_array_equal(out.tokens, features.t5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(kernel_size=2), "kernel_size must be odd, got 2"),
        (dict(kernel_size=-1), "kernel_size must be at least 1, got -1"),
        (dict(scale_init=0.0), "scale_init must be positive"),
        (dict(use_llm=False), "norm_scale must be False without use_llm"),
    ],
    ids=str,
)
def test_bad_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FuserConfig(**options)
