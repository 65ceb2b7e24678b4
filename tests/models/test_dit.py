# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mimir_jax.config import COGVIDEOX, DiTConfig
from mimir_jax.models import dit, functional, rope
from mimir_jax.parallel import context, mesh, rules
from tests.helpers import relative_error
from tests.models import dit_reference

TINY = dict(
    num_layers=2,
    num_heads=3,
    head_dim=16,
    in_channels=4,
    out_channels=4,
    text_width=20,
    text_length=7,
    time_width=24,
    sample_frames=3,
    sample_height=12,
    sample_width=18,
)
IMAGE = {"in_channels": 8, "out_channels": 4}
NATIVE = (3, 12, 18)


def tiny(variant, **overrides):
    overrides = TINY | overrides
    if "i2v" in variant:
        overrides |= IMAGE
    if variant.startswith("1.5"):
        overrides |= dict(sample_height=40, sample_width=40)
    if variant == "1.5-5b-i2v":
        overrides |= dict(ofs_width=24)
    return DiTConfig(**(COGVIDEOX[variant] | overrides))


def inputs(cfg, sizes=NATIVE, length=7, seed=0):
    keys = jax.random.split(jax.random.key(seed), 2)
    latents = jax.random.normal(keys[0], (2, *sizes, cfg.in_channels))
    return latents, jax.random.normal(keys[1], (2, length, cfg.text_width)), jnp.array([999, 3])


def randomized(model, seed=1):
    """Parameters without the zeros of a fresh model, and without the cost of drawing one."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        kind = path[-1].key
        std = leaf.shape[-2] ** -0.5 if kind == "kernel" else 0.2
        return (float(kind == "scale") + std * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, model.abstract_params)


@pytest.fixture(scope="module")
def small():
    """A model, parameters, inputs and output shared by the tests that vary one thing."""
    model = functional.build(dit.DiT, tiny("5b", num_layers=1))
    params = randomized(model)
    arguments = inputs(model.config, (2, 4, 6))
    return model, params, arguments, jax.jit(model.apply)(params, *arguments)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("variant", "sizes"),
    [
        ("2b", NATIVE),
        ("2b", (1, 10, 14)),
        ("5b", NATIVE),
        ("5b", (1, 8, 22)),
        ("5b", (5, 16, 10)),
        ("5b-i2v", NATIVE),
        ("1.5-5b", (2, 20, 6)),
        ("1.5-5b-i2v", (4, 6, 14)),
    ],
    ids=str,
)
def test_dit_matches_diffusers(variant, sizes, strict_dtypes):
    cfg = tiny(variant)
    reference = dit_reference.make_reference(cfg)
    model = functional.build(dit.DiT, cfg)
    params = dit_reference.convert(reference.state_dict(), cfg.num_layers)
    shapes = jax.tree.map(lambda x: x.shape, model.abstract_params)
    assert jax.tree.map(lambda x: x.shape, params) == shapes
    arguments = inputs(cfg, sizes)
    ofs = None if cfg.ofs_width is None else jnp.array([2.0, 2.0])
    expected = dit_reference.run_reference(reference, cfg, *arguments, ofs=ofs)
    ours = jax.jit(model.apply)(params, *arguments)
    assert relative_error(ours, expected) < 1e-5


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("2b", 1_693_783_872),
        ("5b", 5_570_283_072),
        ("5b-i2v", 5_570_479_680 + 17_776 * 3072),  # the released count leaves the table out
        ("1.5-5b", 5_570_676_352),
        ("1.5-5b-i2v", 5_571_594_880),
    ],
)
def test_parameter_counts_are_those_of_the_releases(variant, count):
    model = functional.build(dit.DiT, DiTConfig(**COGVIDEOX[variant]))
    assert model.num_params == count
    mesh_ = mesh.make_mesh((2, 2, 1, 2))
    rules.param_shardings(model.abstract_params, model.axes, rules.STRATEGIES["fsdp"], mesh_)


def test_fresh_model_predicts_zero_and_can_learn():
    model = functional.build(dit.DiT, tiny("5b", num_layers=1))
    params = jax.jit(model.init)(jax.random.key(0))
    arguments = inputs(model.config, (1, 4, 4))

    @jax.jit
    def loss(params):
        y = model.apply(params, *arguments)
        return ((y - 1.0) ** 2).mean(), y

    grads, y = jax.grad(loss, has_aux=True)(params)
    np.testing.assert_array_equal(y, 0.0)
    assert jnp.abs(grads["head"]["proj"]["kernel"]).max() > 0


def test_learned_table_begins_as_sincos():
    table = dit._learned_positions(tiny("5b-i2v"), rngs=nnx.Rngs(params=0))[...]
    np.testing.assert_array_equal(table[:7], 0.0)
    np.testing.assert_allclose(table[7:], rope.sincos_3d((3, 6, 9), 48), atol=1e-6)


def test_text_beyond_the_learned_table_gets_zero_rows():
    short = functional.build(dit.DiT, tiny("5b-i2v", num_layers=1))
    long = functional.build(dit.DiT, tiny("5b-i2v", num_layers=1, text_length=9))
    params = randomized(short)
    table = params["positions"]
    padded = params | {"positions": np.insert(table, 7, np.zeros((2, 48)), axis=0)}
    arguments = inputs(short.config, length=9)
    ours, expected = (
        jax.jit(model.apply)(p, *arguments) for model, p in ((short, params), (long, padded))
    )
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_masked_text_has_no_influence(small):
    model, params, (latents, text, timestep), expected = small
    apply = jax.jit(lambda text, mask: model.apply(params, latents, text, timestep, text_mask=mask))
    full = jnp.ones(text.shape[:2], bool)
    assert relative_error(apply(text, full), expected) < 1e-6
    mask = full.at[0, 2].set(False).at[1, 4:].set(False)
    changed = jnp.where(mask[..., None], text, 7.0)
    masked = apply(text, mask)
    np.testing.assert_array_equal(masked, apply(changed, mask))
    assert relative_error(masked, expected) > 1e-4
    dropped = jnp.delete(text[:1], 2, axis=1)
    alone = jax.jit(model.apply)(params, latents[:1], dropped, timestep[:1])
    assert relative_error(masked[:1], alone) < 1e-5


def test_bfloat16_stays_close(small, strict_dtypes):
    model, params, arguments, expected = small
    cfg = dataclasses.replace(model.config, dtype="bfloat16")
    ours = jax.jit(functional.build(dit.DiT, cfg).apply)(params, *arguments)
    assert ours.dtype == jnp.bfloat16
    assert relative_error(ours.astype(jnp.float32), expected) < 5e-2  # 8 bits through one block


def test_remat_policies_share_gradients(small):
    model, params, arguments, _ = small
    grads = []
    for remat in ("none", "attention", "full"):
        cfg = dataclasses.replace(model.config, remat=remat)
        apply = functional.build(dit.DiT, cfg).apply
        grads.append(jax.jit(jax.grad(lambda p, f=apply: (f(p, *arguments) ** 2).mean()))(params))
    for other in grads[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), grads[0], other)


def test_sharded_output_is_that_of_one_device(small):
    model, params, arguments, expected = small
    mesh_, table = mesh.make_mesh((1, 2, 2, 2)), rules.STRATEGIES["fsdp"]
    params = jax.device_put(
        params, rules.param_shardings(model.abstract_params, model.axes, table, mesh_)
    )
    with context.use(mesh_, table):
        ours = jax.jit(lambda *x: model.apply(*x))(params, *arguments)
    assert relative_error(ours, expected) < 1e-5


def test_ofs_defaults_to_the_released_value():
    model = functional.build(dit.DiT, tiny("1.5-5b-i2v", num_layers=1))
    params = randomized(model)
    arguments = inputs(model.config, (2, 4, 4))
    apply = jax.jit(lambda ofs: model.apply(params, *arguments, ofs=ofs))
    np.testing.assert_array_equal(apply(None), apply(jnp.full(2, 2.0)))
    assert relative_error(apply(jnp.zeros(2)), apply(None)) > 1e-3


@pytest.mark.parametrize(
    ("variant", "shape", "message"),
    [
        ("5b", (2, 3, 12, 17, 4), "latent width must be a positive multiple of the patch size 2"),
        ("5b", (2, 3, 12, 18, 8), "latents must have dit.in_channels=4 channels, got 8"),
        ("1.5-5b", (2, 5, 12, 18, 4), "latent frames .* patch size 2, got 5; pad"),
        ("1.5-5b", (2, 4, 42, 18, 4), r"at most \(40, 40\) with integer .*, got \(42, 18\)"),
        ("5b-i2v", (2, 1, 12, 18, 8), r"must have the size \(3, 12, 18\) of the learned"),
    ],
)
def test_sizes_that_do_not_fit_are_named(variant, shape, message):
    with pytest.raises(ValueError, match=message) as error:
        dit.token_grid(tiny(variant), shape)
    assert "\n" not in str(error.value)


def test_ofs_is_refused_by_models_without_it(small):
    model, params, arguments, _ = small
    with pytest.raises(ValueError, match="ofs needs a model with dit.ofs_width"):
        model.apply(params, *arguments, ofs=jnp.zeros(2))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"attention": "cudnn"}, "needs a 16-bit dit.dtype, got float32"),
        ({"ofs_width": 12}, "dit.ofs_width must be None or equal dit.time_width=24, got 12"),
    ],
)
def test_config_refuses_what_cannot_run(overrides, message):
    with pytest.raises(ValueError, match=message):
        tiny("5b", **overrides)


@pytest.mark.parametrize(
    ("variant", "frames", "padded"), [("1.5-5b", 5, 6), ("1.5-5b", 6, 6), ("5b", 5, 5)]
)
def test_padding_prepends_copies_of_the_first_frame(variant, frames, padded):
    cfg = tiny(variant)
    latents = jax.random.normal(jax.random.key(0), (1, frames, 2, 2, 4))
    assert dit.padded_frames(frames, cfg) == padded
    ours = dit.pad_frames(latents, cfg)
    np.testing.assert_array_equal(ours[:, padded - frames :], latents)
    np.testing.assert_array_equal(ours[:, 0], latents[:, 0])
