# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mimir_jax.config import ABLATIONS, DiTConfig, FuserConfig, MimirConfig, StabilizerConfig
from mimir_jax.models import condition as conditioning
from mimir_jax.models import dit, functional, layers
from mimir_jax.models.mimir import fuser, stabilizer
from mimir_jax.models.mimir import model as model_lib
from mimir_jax.parallel import context, mesh, rules

T5, LLM, LENGTH, BATCH = 8, 6, 7, 3
DIT = dict(
    num_layers=1,
    num_heads=2,
    head_dim=16,
    in_channels=4,
    out_channels=4,
    sample_frames=2,
    sample_height=4,
    sample_width=4,
    text_width=T5,
    text_length=LENGTH,
    time_width=12,
    mlp_ratio=2,
    remat="none",
)

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@functools.cache
def make(row="mimir", dtype="float32", *, ss=None, fuser=(), stabilizer=(), **dit_options):
    """A tiny model of one row of Table 3; `ss` overrides whether it has a stabilizer."""
    widths = dict(t5_width=T5, llm_width=LLM, dtype=dtype)
    cfg = MimirConfig(
        dit=DiTConfig(**(DIT | dit_options), dtype=dtype),
        fuser=FuserConfig(**widths, **dict(fuser)),
        stabilizer=StabilizerConfig(**widths, **dict(stabilizer)),
    ).with_ablation(row)
    if ss is not None:
        enabled = dataclasses.replace(cfg.stabilizer, enabled=ss)
        cfg = dataclasses.replace(cfg, stabilizer=enabled)
    return functional.build(model_lib.Mimir, cfg)


@functools.cache
def jitted(model, method):
    return jax.jit(getattr(model, method))


def call(model, params, inputs, drop=None):
    """Conditions, then predicts; all rows share one compiled `denoise`, which uses the DiT only."""
    xt, timestep, features = inputs
    condition = jitted(model, "condition")(params, features, drop)
    denoise = jitted(make("baseline", model.config.dit.dtype), "denoise")
    return denoise({"dit": params["dit"]}, xt, timestep, condition)


def make_features(seed=0):
    rng = np.random.default_rng(seed)
    positions = np.arange(LENGTH)[None]
    features = conditioning.TextFeatures(
        t5=rng.uniform(-0.5, 0.5, (BATCH, LENGTH, T5)).astype(np.float32),
        t5_mask=positions < np.array([[7], [3], [1]]),
        llm=rng.normal(1, 4, (BATCH, LENGTH, LLM)).astype(np.float32),
        llm_mask=positions < np.array([[5], [6], [2]]),
        instructions=rng.normal(1, 4, (BATCH, 4, LLM)).astype(np.float32),
    )
    return jax.tree.map(jnp.asarray, features)


def make_inputs(seed=0, frames=2, channels=4):
    """Latents and timesteps are the same for every seed; the captions differ."""
    xt = np.random.default_rng(9).normal(0, 1, (BATCH, frames, 4, 4, channels))
    return jnp.asarray(xt, jnp.float32), jnp.array([3, 500, 999]), make_features(seed)


def randomise(model, std=0.3, new_parts=True):
    """Noise in every parameter; with `new_parts=False` fuser and stabilizer keep their start."""
    rng = np.random.default_rng(7)
    draw = lambda leaf: jnp.asarray(rng.normal(0, std, leaf.shape), jnp.float32)  # noqa: E731
    params = jax.tree.map(draw, model.abstract_params)
    if not new_parts:
        starts = {
            "fuser": functional.build(fuser.TokenFuser, model.config.fuser),
            "stabilizer": functional.build(stabilizer.SemanticStabilizer, model.config.stabilizer),
        }
        params |= {k: starts[k].init(jax.random.key(0)) for k in params if k != "dit"}
    return params


PARTS = {
    "baseline": {"dit"},
    "decoder_only": {"dit", "fuser"},
    "norm": {"dit", "fuser"},
    "norm_ss": {"dit", "fuser", "stabilizer"},
    "zeroconv": {"dit", "fuser"},
    "zeroconv_ss": {"dit", "fuser", "stabilizer"},
    "mimir": {"dit", "fuser", "stabilizer"},
}


@pytest.mark.parametrize("row", ABLATIONS)
def test_rows_build_and_run(row):
    model, inputs = make(row), make_inputs()
    params = randomise(model)
    assert set(params) == PARTS[row]
    ranks = jax.tree.map(lambda x, axes: x.ndim == len(axes), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))
    condition = jitted(model, "condition")(params, inputs[2])
    assert condition.tokens.shape == (BATCH, LENGTH + 4 * ("stabilizer" in PARTS[row]), T5)
    assert condition.mask is None
    assert jax.eval_shape(model.apply, params, *inputs).shape == inputs[0].shape
    out = call(model, params, inputs)
    assert out.shape == inputs[0].shape and np.isfinite(out).all() and np.std(out) > 1e-3


def test_call_conditions_then_denoises():
    model, drop = make(), jnp.array([False, True, False])
    params = randomise(model)
    whole = jitted(model, "apply")(params, *make_inputs(), drop)
    assert helpers.relative_error(whole, call(model, params, make_inputs(), drop)) < 1e-5


NEW_PARAMS = {  # Z_theta 16,781,312; Z_beta, P and the projection 12,587,008; e_l 16,384; scales 1
    "baseline": (0, 0),
    "decoder_only": (12_587_008, 0),
    "norm": (12_587_009, 0),
    "norm_ss": (12_587_009, 12_603_393),
    "zeroconv": (29_368_320, 0),
    "zeroconv_ss": (29_368_320, 12_603_393),
    "mimir": (29_368_321, 12_603_393),
}


@pytest.mark.parametrize("row", NEW_PARAMS)
def test_new_parameters_at_the_size_of_the_paper(row):
    small = DiTConfig(**(DIT | dict(text_width=4096, text_length=226)))
    model = functional.build(model_lib.Mimir, MimirConfig(dit=small).with_ablation(row))
    count = lambda part: sum(  # noqa: E731
        leaf.size for leaf in jax.tree.leaves(model.abstract_params.get(part, {}))
    )
    assert (count("fuser"), count("stabilizer")) == NEW_PARAMS[row]
    assert count("dit") + sum(NEW_PARAMS[row]) == model.num_params


def test_whole_model_at_the_size_of_the_paper():
    assert functional.build(model_lib.Mimir, MimirConfig()).num_params == 5_570_283_072 + 41_971_714


class OneLinear(nnx.Module):
    """Stands for the transformer where only its start matters."""

    def __init__(self, cfg, *, rngs):
        self.text = layers.Linear(cfg.text_width, 4, axes=("embed", None), rngs=rngs)


def test_rows_start_from_equal_values_where_they_share_a_part(monkeypatch):
    monkeypatch.setattr(model_lib.dit, "DiT", OneLinear)
    build = lambda row: functional.build(model_lib.Mimir, make(row).config)  # noqa: E731
    params = {row: build(row).init(jax.random.key(3)) for row in ABLATIONS}
    kernel = lambda row, *path: functools.reduce(lambda p, k: p[k], path, params[row])  # noqa: E731
    for rows, path in (
        (ABLATIONS, ("dit", "text", "kernel")),
        (("decoder_only", "norm", "norm_ss"), ("fuser", "project", "kernel")),
        (("norm_ss", "zeroconv_ss", "mimir"), ("stabilizer", "learned")),
    ):
        first, *others = (kernel(row, *path) for row in rows)
        assert (np.asarray(first) != 0).all()
        for other in others:
            np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ("baseline", {}),
        ("zeroconv", {}),
        ("mimir", dict(ss=False)),
        ("zeroconv", dict(fuser=(("kernel_size", 3), ("bridge", "linear")))),
    ],
    ids=["baseline", "zeroconv", "mimir-without-ss", "options"],
)
def test_output_starts_as_that_of_the_base_model_bit_for_bit(row, options):
    model = make(row, **options)
    params, inputs = randomise(model, new_parts=False), make_inputs()
    np.testing.assert_array_equal(call(model, params, inputs), base_output(params, inputs))


def base_output(params, inputs):
    """What the bare transformer makes of the T5 states."""
    xt, timestep, features = inputs
    return base_model()(params["dit"], xt, features.t5, timestep)


@functools.cache
def base_model():
    return jax.jit(functional.build(dit.DiT, DiTConfig(**DIT)).apply)


def test_stabilizer_tokens_change_the_start_a_little():
    model, inputs = make(), make_inputs()
    params = randomise(model, new_parts=False)
    base, ours = base_output(params, inputs), call(model, params, inputs)
    change = float(jnp.linalg.norm(ours - base) / jnp.linalg.norm(base))
    assert 1e-4 < change < 0.3, change
    condition = jitted(model, "condition")(params, inputs[2])  # unattended, they change nothing
    mask = jnp.broadcast_to(jnp.arange(LENGTH + 4)[None] < LENGTH, (BATCH, LENGTH + 4))
    hidden = conditioning.Condition(tokens=condition.tokens, mask=mask)
    out = jitted(make("baseline"), "denoise")({"dit": params["dit"]}, *inputs[:2], hidden)
    assert helpers.relative_error(out, base) < 1e-5


def test_stabilizer_tokens_stand_on_the_chosen_side():
    after, before = make(), make(stabilizer=(("place", "before"),))
    params, features = randomise(after), make_features()
    last, first = (jitted(m, "condition")(params, features).tokens for m in (after, before))
    np.testing.assert_array_equal(last[:, :LENGTH], first[:, 4:])
    np.testing.assert_array_equal(last[:, LENGTH:], first[:, :4])


@pytest.mark.parametrize("row", ["baseline", "norm_ss", "mimir"])
def test_null_branch_does_not_depend_on_the_caption(row):
    model = make(row)
    params, drop = randomise(model), jnp.array([True, False, True])
    out, other = (call(model, params, make_inputs(seed), drop) for seed in (0, 1))
    kept = call(model, params, make_inputs(), jnp.zeros(BATCH, bool))
    np.testing.assert_array_equal(out[::2], other[::2])
    np.testing.assert_array_equal(out[1], kept[1])
    assert (np.asarray(out[1]) != np.asarray(other[1])).any()
    assert (np.asarray(out[::2]) != np.asarray(kept[::2])).any()


def test_null_condition_is_zeros_and_the_learned_tokens():
    model = make()
    params, features = randomise(model), make_features()
    condition = jitted(model, "condition")(params, features, jnp.array([True, False, False]))
    np.testing.assert_array_equal(condition.tokens[0, :LENGTH], np.zeros((LENGTH, T5)))
    np.testing.assert_array_equal(condition.tokens[0, LENGTH:], params["stabilizer"]["learned"])


def test_dropping_no_row_is_the_same_as_no_drop():
    model = make()
    params, features = randomise(model), make_features()
    jax.tree.map(
        np.testing.assert_array_equal,
        jitted(model, "condition")(params, features),
        jitted(model, "condition")(params, features, jnp.zeros(BATCH, bool)),
    )


@pytest.mark.parametrize("attend_pads", [True, False])
def test_pads_reach_the_video_only_when_attended(attend_pads):
    model = make(fuser=(("attend_pads", attend_pads),))
    params, inputs = randomise(model), make_inputs()
    features = inputs[2]
    pads = ~(features.t5_mask | features.llm_mask)
    changed = dataclasses.replace(features, t5=features.t5 + pads[..., None].astype(jnp.float32))
    out, other = (call(model, params, (*inputs[:2], f)) for f in (features, changed))
    assert (np.asarray(pads).any(1) == [False, True, True]).all()
    same = (np.asarray(out) == np.asarray(other)).reshape(BATCH, -1).all(1)
    np.testing.assert_array_equal(same, [True, not attend_pads, not attend_pads])


def test_gradients_of_the_first_two_steps():
    model, inputs = make(), make_inputs()
    weights = jnp.asarray(np.random.default_rng(1).normal(0, 1, inputs[0].shape), jnp.float32)
    start = randomise(model, new_parts=False)
    frozen = {"dit": start.pop("dit")}
    grad = jax.jit(jax.grad(lambda p: jnp.vdot(model.apply(frozen | p, *inputs), weights)))
    first = grad(start)
    for part in ("fuser.z_beta", "fuser.z_theta", "stabilizer.project"):
        part = functools.reduce(lambda p, k: p[k], part.split("."), first)
        assert (np.asarray(part["kernel"]) != 0).all() and (np.asarray(part["bias"]) != 0).all()
    assert (np.asarray(first["stabilizer"]["learned"]) != 0).all()
    assert first["fuser"]["scale"] == 0 and first["stabilizer"]["scale"] == 0
    second = grad(jax.tree.map(lambda p, g: p - 0.1 * g, start, first))
    assert second["fuser"]["scale"] != 0 and second["stabilizer"]["scale"] != 0


def test_bfloat16_compute_stays_close():
    params, inputs = randomise(make(), std=0.1), make_inputs()
    half = call(make(dtype="bfloat16"), params, inputs)
    assert half.dtype == jnp.bfloat16
    assert helpers.relative_error(half.astype(jnp.float32), call(make(), params, inputs)) < 5e-2


def test_image_latents_and_ofs_reach_image_to_video_bases():
    model = make(
        in_channels=8, temporal_patch=2, rope_grid="integer", ofs_width=12, sample_frames=4
    )
    params, (latents, timestep, features) = randomise(model), make_inputs(frames=4, channels=8)
    xt, image = jnp.split(latents, 2, axis=-1)
    apply = jitted(model, "apply")
    outs = [
        apply(params, xt, timestep, features, image_latents=image, ofs=jnp.full(BATCH, value))
        for value in (2.0, 3.0)
    ]
    whole = apply(params, latents, timestep, features, ofs=jnp.full(BATCH, 2.0))
    np.testing.assert_array_equal(outs[0], whole)  # image latents follow along the channels
    assert outs[0].shape == (BATCH, 4, 4, 4, 4)
    assert (np.asarray(outs[0]) != np.asarray(outs[1])).any()


def test_condition_is_the_same_on_a_mesh():
    model = make(fuser=(("kernel_size", 3),))
    grid = mesh.make_mesh((1, 2, 1, 2), jax.devices()[:4])
    params, table = randomise(model), rules.STRATEGIES["fsdp"]
    features = jax.tree.map(lambda x: jnp.concatenate([x, x[:1]]), make_features())
    expected = jitted(model, "condition")(params, features)
    shardings = rules.param_shardings(model.abstract_params, model.axes, table, grid)
    assert shardings["fuser"]["z_beta"]["kernel"].spec == P(None, "fsdp", "tensor")
    for part in ("fuser", "stabilizer"):
        params[part] = jax.device_put(params[part], shardings[part])
    features = jax.device_put(features, NamedSharding(grid, P("fsdp")))
    with context.use_mesh(grid, table):
        out = jax.jit(model.condition)(params, features)
    assert helpers.relative_error(out.tokens, expected.tokens) < 1e-5
    assert out.tokens.sharding.spec[0] == "fsdp"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (dict(fuser=FuserConfig(t5_width=8)), "fuser.t5_width must equal dit.text_width, got 8"),
        (dict(stabilizer=StabilizerConfig(t5_width=8)), "stabilizer.t5_width must equal"),
        (dict(fuser=FuserConfig(llm_width=8)), "fuser.llm_width must equal stabilizer.llm_width"),
        (dict(fuser=FuserConfig(dtype="bfloat16")), "fuser.dtype must equal stabilizer.dtype"),
    ],
    ids=["fuser-width", "stabilizer-width", "llm-width", "dtype"],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        MimirConfig(**parts)


def test_unknown_ablation_is_refused():
    with pytest.raises(ValueError, match="ablation must be one of baseline, .*got 'full'"):
        MimirConfig().with_ablation("full")
