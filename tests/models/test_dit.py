# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import COGVIDEOX, DiTConfig
from mimir_jax.models import condition as conditioning
from mimir_jax.models import dit, functional, layers, rope
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel import context, mesh, rules
from tests.helpers import params_of, relative_error
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
        return jnp.asarray(float(kind == "scale") + std * rng.normal(size=leaf.shape), "float32")

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
    ("variant", "sizes", "ofs"),
    [
        ("2b", NATIVE, None),
        pytest.param("2b", (1, 10, 14), None, marks=pytest.mark.slow),
        pytest.param("5b", NATIVE, None, marks=pytest.mark.slow),
        pytest.param("5b", (1, 8, 22), None, marks=pytest.mark.slow),
        ("5b", (5, 16, 10), None),
        ("5b-i2v", NATIVE, None),
        pytest.param("1.5-5b", (2, 20, 6), None, marks=pytest.mark.slow),
        pytest.param("1.5-5b-i2v", (2, 10, 4), None, marks=pytest.mark.slow),
        ("1.5-5b-i2v", (4, 6, 14), (0.5, 3.0)),
    ],
    ids=str,
)
def test_dit_matches_diffusers(variant, sizes, ofs, strict_dtypes):
    cfg = tiny(variant)
    reference = dit_reference.make_reference(cfg)
    model = functional.build(dit.DiT, cfg)
    params = params_of("dit", reference, cfg)
    shapes = jax.tree.map(lambda x: x.shape, model.abstract_params)
    assert jax.tree.map(lambda x: x.shape, params) == shapes
    arguments = inputs(cfg, sizes)
    given = None if cfg.ofs_width is None else np.float32(ofs or (dit.OFS, dit.OFS))
    expected = dit_reference.run_reference(reference, cfg, *arguments, ofs=given)
    ofs = None if ofs is None else jnp.array(ofs)
    ours = jax.jit(model.apply)(params, *arguments, ofs=ofs)
    assert relative_error(ours, expected) < 1e-5


@pytest.mark.torch
def test_narrow_heads_and_odd_sizes_match_diffusers():
    cfg = tiny("2b", num_layers=1, num_heads=2, head_dim=8, sample_width=9)
    reference, arguments = dit_reference.make_reference(cfg), inputs(cfg, (2, 4, 6))
    expected = dit_reference.run_reference(reference, cfg, *arguments)
    model, params = functional.build(dit.DiT, cfg), params_of("dit", reference, cfg)
    assert relative_error(jax.jit(model.apply)(params, *arguments), expected) < 1e-5
    with pytest.raises(ValueError, match="head_dim must be a multiple of 16 .* got 8"):
        tiny("5b", num_heads=2, head_dim=8)
    with pytest.raises(ValueError, match="num_heads heads of head_dim must make a multiple of 16"):
        tiny("2b", num_heads=3, head_dim=8)


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


def test_fresh_blocks_are_the_identity_and_the_output_is_zero():
    cfg = tiny("5b")
    rngs = Rngs(params=0)
    head, norm = dit.Head(cfg, 16, rngs=rngs), dit.AdaptiveNorm(cfg, rngs=rngs)
    x, emb = jnp.ones((1, 3, cfg.width)), jnp.ones((1, cfg.time_width))
    np.testing.assert_array_equal(head(x, emb), 0.0)
    np.testing.assert_array_equal(norm(x, emb, jnp.arange(3) < 1)[1], 0.0)  # the gate


def test_learned_table_begins_as_sincos():
    table = dit.DiT(tiny("5b-i2v", num_layers=1), rngs=Rngs(params=0)).positions[...]
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


@pytest.mark.parametrize("sequence", ["ulysses", "ring"])
def test_sharded_output_is_that_of_one_device(small, sequence):
    model, params, arguments, expected = small  # 3 heads and 169 tokens
    mesh_, table = mesh.make_mesh((1, 2, 2, 2)), rules.table("fsdp", sequence)
    params = jax.device_put(
        params, rules.param_shardings(model.abstract_params, model.axes, table, mesh_)
    )
    with context.use_mesh(mesh_, table):
        ours = jax.jit(lambda *x: model.apply(*x))(params, *arguments)
    assert relative_error(ours, expected) < 1e-5


def test_time_sinusoid_has_the_known_values():
    table = layers.sinusoid(jnp.array([999]), 3072)[0]
    channels = np.array([0, 1, 100, 1535, 1536, 1537, 3071])
    expected = [0.999650, 0.959839, -0.254167, 0.994954, -0.026461, 0.280553, 0.100332]
    np.testing.assert_allclose(table[channels], expected, atol=1e-4)  # float32 angles up to 999


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


@pytest.mark.parametrize("variant", ["2b", "5b"])
def test_reference_images_are_frames_before_the_clip(variant, strict_dtypes):
    cfg = tiny(variant, num_layers=1)
    model = functional.build(dit.DiT, cfg)
    params, (xt, text, time) = randomized(model), inputs(cfg, (2, 4, 6))
    references = jax.random.normal(jax.random.key(3), (2, 2, 4, 6, 4))
    run = jax.jit(model.denoise)
    plain = run(params, xt, time, conditioning.Condition(tokens=text))
    shown = jnp.array([[True, False], [False, False]])
    given = conditioning.Condition(tokens=text, reference_latents=references, reference_mask=shown)
    out = run(params, xt, time, given)
    assert relative_error(out[1], plain[1]) < 1e-5 and relative_error(out[0], plain[0]) > 1e-3
    hidden = references.at[:, 1].set(5.0)  # not attended to in any row
    changed = run(params, xt, time, dataclasses.replace(given, reference_latents=hidden))
    assert relative_error(changed, out) < 1e-5
    masked = dataclasses.replace(given, mask=jnp.ones(text.shape[:2], bool))
    assert relative_error(run(params, xt, time, masked), out) < 1e-5


def test_denoise_reads_image_latents_and_ofs_from_the_condition():
    model = functional.build(dit.DiT, tiny("1.5-5b-i2v", num_layers=1))
    params, (latents, text, timestep) = randomized(model), inputs(model.config, (2, 4, 6))
    xt, image = jnp.split(latents, 2, axis=-1)
    ofs, mask = jnp.array([0.5, 3.0]), jnp.arange(text.shape[1])[None] < jnp.array([[2], [4]])
    given = conditioning.Condition(tokens=text, mask=mask, image_latents=image, ofs=ofs)
    ours = jax.jit(model.denoise)(params, xt, timestep, given)
    expected = jax.jit(model.apply)(params, latents, text, timestep, text_mask=mask, ofs=ofs)
    np.testing.assert_array_equal(ours, expected)


def test_ofs_is_refused_by_models_without_it(small):
    model, params, arguments, _ = small
    with pytest.raises(ValueError, match="ofs needs a model with dit.ofs_width"):
        model.apply(params, *arguments, ofs=jnp.zeros(2))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"attention": "cudnn"}, "dtype must have 16 bits where attention is cudnn"),
        (
            {"attention": "pallas", "dtype": "float16"},
            "dtype must be bfloat16 or float32 where attention is pallas",
        ),
        ({"ofs_width": 12}, "ofs_width must be None or equal time_width, got 12 and 24"),
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


def test_parts_of_a_split_sequence_are_whole_tiles():
    assert dit.sequence_padding(17780, 1) == 0
    assert (17780 + dit.sequence_padding(17780, 4)) / 4 == 4448
    assert dit.sequence_padding(76, 8) == 4
