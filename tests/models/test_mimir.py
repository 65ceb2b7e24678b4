# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mimir_jax.config import ABLATIONS, DiTConfig, FuserConfig, MimirConfig, StabilizerConfig
from mimir_jax.models import condition as conditioning
from mimir_jax.models import dit, functional, mimir
from mimir_jax.parallel import context, mesh, rules

T5, LLM, LENGTH, BATCH = 8, 6, 7, 3
DIT = dict(
    num_layers=2,
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
def make(row="mimir", dtype="float32", fuser=(), stabilizer=(), **dit_options):
    widths = dict(t5_width=T5, llm_width=LLM, dtype=dtype)
    cfg = MimirConfig(
        dit=DiTConfig(**(DIT | dit_options), dtype=dtype),
        fuser=FuserConfig(**widths, **dict(fuser)),
        stabilizer=StabilizerConfig(**widths, **dict(stabilizer)),
    )
    return functional.build(mimir.Mimir, cfg.with_ablation(row))


@functools.cache
def jitted(model, method):
    return jax.jit(getattr(model, method))


def call(model, params, inputs, drop=None):
    """Conditions and predicts through the two public methods, each jitted once per model."""
    xt, timestep, features = inputs
    condition = jitted(model, "condition")(params, features, drop)
    return jitted(model, "denoise")(params, xt, timestep, condition)


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


def randomise(model, std=0.3, parts=("dit", "fuser", "stabilizer")):
    """Start values, with the named parts replaced by noise: nothing in them is zero any more."""
    rng = np.random.default_rng(7)
    draw = lambda leaf: jnp.asarray(rng.normal(0, std, leaf.shape), jnp.float32)  # noqa: E731
    params = model.init(jax.random.key(0))
    return {k: jax.tree.map(draw, v) if k in parts else v for k, v in params.items()}


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
    out = jitted(model, "apply")(params, *inputs)
    assert out.shape == inputs[0].shape and np.isfinite(out).all() and np.std(out) > 1e-3


def test_call_conditions_then_denoises():
    model, drop = make(), jnp.array([False, True, False])
    params = randomise(model)
    whole = model.apply(params, *make_inputs(), drop)
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
    model = functional.build(mimir.Mimir, MimirConfig(dit=small).with_ablation(row))
    count = lambda part: sum(  # noqa: E731
        leaf.size for leaf in jax.tree.leaves(model.abstract_params.get(part, {}))
    )
    assert (count("fuser"), count("stabilizer")) == NEW_PARAMS[row]
    assert count("dit") + sum(NEW_PARAMS[row]) == model.num_params


def test_whole_model_at_the_size_of_the_paper():
    assert functional.build(mimir.Mimir, MimirConfig()).num_params == 5_570_283_072 + 41_971_714


def test_rows_start_from_equal_values_where_they_share_a_part():
    key = jax.random.key(3)
    params = {row: make(row).init(key) for row in ABLATIONS}
    for row in ABLATIONS:
        jax.tree.map(np.testing.assert_array_equal, params[row]["dit"], params["baseline"]["dit"])
    for other in ("norm", "norm_ss"):
        np.testing.assert_array_equal(
            params["decoder_only"]["fuser"]["project"]["kernel"],
            params[other]["fuser"]["project"]["kernel"],
        )
    for other in ("zeroconv_ss", "mimir"):
        np.testing.assert_array_equal(
            params["norm_ss"]["stabilizer"]["learned"], params[other]["stabilizer"]["learned"]
        )


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ("baseline", {}),
        ("zeroconv", {}),
        ("mimir", dict(stabilizer=(("enabled", False),))),
        ("zeroconv", dict(fuser=(("kernel_size", 3), ("bridge", "linear")))),
    ],
    ids=["baseline", "zeroconv", "mimir-without-ss", "options"],
)
def test_output_starts_as_that_of_the_base_model_bit_for_bit(row, options):
    model = make(row, **options)
    if options.get("stabilizer"):
        cfg = dataclasses.replace(
            model.config, stabilizer=dataclasses.replace(model.config.stabilizer, enabled=False)
        )
        model = functional.build(mimir.Mimir, cfg)
    params, inputs = randomise(model, parts=("dit",)), make_inputs()
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
    params = randomise(model, parts=("dit",))
    base, ours = base_output(params, inputs), call(model, params, inputs)
    change = float(jnp.linalg.norm(ours - base) / jnp.linalg.norm(base))
    assert 1e-4 < change < 0.3, change
    condition = model.condition(params, inputs[2])  # unattended, they change nothing
    mask = jnp.broadcast_to(jnp.arange(LENGTH + 4)[None] < LENGTH, (BATCH, LENGTH + 4))
    hidden = conditioning.Condition(tokens=condition.tokens, mask=mask)
    out = jitted(model, "denoise")(params, *inputs[:2], hidden)
    assert helpers.relative_error(out, base) < 1e-5


def test_stabilizer_tokens_stand_on_the_chosen_side():
    after, before = make(), make(stabilizer=(("place", "before"),))
    params, features = randomise(after), make_features()
    last, first = (m.condition(params, features).tokens for m in (after, before))
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
    condition = model.condition(params, features, jnp.array([True, False, False]))
    np.testing.assert_array_equal(condition.tokens[0, :LENGTH], np.zeros((LENGTH, T5)))
    np.testing.assert_array_equal(condition.tokens[0, LENGTH:], params["stabilizer"]["learned"])


def test_dropping_no_row_is_the_same_as_no_drop():
    model = make()
    params, features = randomise(model), make_features()
    jax.tree.map(
        np.testing.assert_array_equal,
        model.condition(params, features),
        model.condition(params, features, jnp.zeros(BATCH, bool)),
    )


@pytest.mark.parametrize("attend_pads", [True, False])
def test_pads_reach_the_video_only_when_attended(attend_pads):
    model = make(fuser=(("attend_pads", attend_pads),))
    params, inputs = randomise(model), make_inputs()
    features = inputs[2]
    pads = ~(features.t5_mask | features.llm_mask)
    changed = dataclasses.replace(features, t5=features.t5 + pads[..., None])
    out, other = (call(model, params, (*inputs[:2], f)) for f in (features, changed))
    assert (np.asarray(pads).any(1) == [False, True, True]).all()
    same = (np.asarray(out) == np.asarray(other)).reshape(BATCH, -1).all(1)
    np.testing.assert_array_equal(same, [True, not attend_pads, not attend_pads])


def test_gradients_of_the_first_two_steps():
    model, inputs = make(), make_inputs()
    weights = jnp.asarray(np.random.default_rng(1).normal(0, 1, inputs[0].shape), jnp.float32)
    grad = jax.jit(jax.grad(lambda p: jnp.vdot(model.apply(p, *inputs), weights)))
    params = randomise(model, parts=("dit",))
    first = grad(params)
    fuser, stabilizer = first["fuser"], first["stabilizer"]
    for part in (fuser["z_beta"], fuser["z_theta"], stabilizer["project"]):
        assert (np.asarray(part["kernel"]) != 0).all() and (np.asarray(part["bias"]) != 0).all()
    assert (np.asarray(stabilizer["learned"]) != 0).all()
    assert fuser["scale"] == 0 and stabilizer["scale"] == 0
    second = grad(jax.tree.map(lambda p, g: p - 0.1 * g, params, first))
    assert second["fuser"]["scale"] != 0 and second["stabilizer"]["scale"] != 0


def test_bfloat16_compute_stays_close():
    params, inputs = randomise(make(), std=0.1), make_inputs()
    half = call(make(dtype="bfloat16"), params, inputs)
    assert half.dtype == jnp.bfloat16
    assert helpers.relative_error(half.astype(jnp.float32), call(make(), params, inputs)) < 5e-2


def test_ofs_reaches_image_to_video_bases():
    model = make(
        in_channels=8, temporal_patch=2, rope_grid="integer", ofs_width=12, sample_frames=4
    )
    params, (xt, timestep, features) = randomise(model), make_inputs(frames=4, channels=8)
    outs = [
        jitted(model, "apply")(params, xt, timestep, features, ofs=jnp.full(BATCH, value))
        for value in (2.0, 3.0)
    ]
    assert outs[0].shape == (BATCH, 4, 4, 4, 4)
    assert (np.asarray(outs[0]) != np.asarray(outs[1])).any()


def test_condition_is_the_same_on_a_mesh():
    model, grid = make(fuser=(("kernel_size", 3),)), mesh.make_mesh((2, 2, 1, 2))
    features = jax.tree.map(lambda x: jnp.concatenate([x, x[:1]]), make_features())
    params = {k: v for k, v in randomise(model).items() if k != "dit"}
    expected = model.condition(randomise(model), features)
    table = rules.STRATEGIES["fsdp"]
    shardings = rules.param_shardings(model.abstract_params, model.axes, table, grid)
    assert shardings["fuser"]["z_beta"]["kernel"].spec == P(None, "fsdp", "tensor")
    params = jax.device_put(randomise(model), shardings)
    features = jax.device_put(features, NamedSharding(grid, P(("data", "fsdp"))))
    with context.use(grid, table):
        out = jax.jit(model.condition)(params, features)
    assert helpers.relative_error(out.tokens, expected.tokens) < 1e-5
    assert out.tokens.sharding.spec[0] == ("data", "fsdp")


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
