# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import VAEConfig
from mimir_jax.models import convolution, functional, layers
from mimir_jax.models.vae import autoencoder, tiling
from tests.helpers import params_of, relative_error
from tests.models import vae_reference

SMALL = VAEConfig(block_channels=(8, 16, 12), norm_groups=4, layers_per_block=1, latent_channels=5)
TWO_STAGES = VAEConfig(
    block_channels=(4, 8),
    norm_groups=2,
    layers_per_block=1,
    temporal_compression=2,
    frame_chunk=4,
    sample_height=24,
    sample_width=40,
)


@pytest.fixture(scope="module")
def small():
    model = functional.build(autoencoder.VAE, TWO_STAGES)
    draw = np.random.RandomState(0).standard_normal
    return model, jax.tree.map(lambda s: 0.2 * draw(s.shape).astype("f4"), model.abstract_params)


@functools.cache
def reference(cfg):
    model = functional.build(autoencoder.VAE, cfg)
    torch_model = vae_reference.make_reference(cfg)
    params = params_of("vae", torch_model, cfg)
    params = jax.tree.map(jnp.asarray, params)
    shapes = jax.tree.map(lambda x: x.shape, params)
    assert shapes == jax.tree.map(lambda x: x.shape, model.abstract_params)
    calls = [
        [jax.jit(functools.partial(f, params, tiled=tiled)) for f in (model.encode, model.decode)]
        for tiled in (False, True)
    ]
    return torch_model, calls


def random(*shape):
    return np.random.RandomState(shape[0]).standard_normal(shape).astype("f4")


def video_of(frames, height, width, batch=1):
    return np.random.RandomState(frames).uniform(-1, 1, (batch, frames, height, width, 3))


def check_parity(cfg, video, tiled=False, limit=5e-6):
    """Compares mean, log-variance and the decoded mean with diffusers; returns the frames."""
    torch = pytest.importorskip("torch")
    torch_model, calls = reference(cfg)
    encode, decode = calls[tiled]
    torch_model.use_tiling = tiled
    with torch.no_grad():
        pixels = torch.tensor(video, dtype=torch.float32).permute(0, 4, 1, 2, 3)
        expected = torch_model.encode(pixels).latent_dist
        decoded = torch_model.decode(expected.mean).sample.permute(0, 2, 3, 4, 1)
    mean, logvar = (x.permute(0, 2, 3, 4, 1).numpy() for x in (expected.mean, expected.logvar))
    moments = encode(jnp.float32(video))
    ours = decode(jnp.asarray(mean))
    assert relative_error(moments.mean, mean) < limit
    assert relative_error(moments.logvar, logvar) < limit
    assert relative_error(ours, decoded.numpy()) < limit
    return moments.mean.shape[1], ours.shape[1]


@pytest.mark.torch
@pytest.mark.parametrize(
    "frames, latents, decoded",
    [
        pytest.param(1, 1, 1, marks=pytest.mark.slow),
        (5, 2, 8),
        pytest.param(8, 2, 8, marks=pytest.mark.slow),
        pytest.param(9, 3, 9, marks=pytest.mark.slow),
        pytest.param(12, 3, 9, marks=pytest.mark.slow),
        pytest.param(13, 4, 16, marks=pytest.mark.slow),
        pytest.param(17, 5, 17, marks=pytest.mark.slow),
        pytest.param(25, 7, 25, marks=pytest.mark.slow),
    ],
)
def test_frame_counts_match_diffusers(frames, latents, decoded):
    assert check_parity(SMALL, video_of(frames, 8, 12)) == (latents, decoded)


@pytest.mark.torch
@pytest.mark.parametrize(
    "cfg, frames",
    [
        pytest.param(
            VAEConfig(block_channels=(4, 8, 8, 16), norm_groups=2, layers_per_block=1),
            17,
            id="8x",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            VAEConfig(block_channels=(12, 6), norm_groups=3, temporal_compression=2, norm_eps=1e-3),
            19,
            id="two-stages",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            VAEConfig(
                block_channels=(4, 4, 6), norm_groups=2, temporal_compression=1, layers_per_block=2
            ),
            3,
            id="still-time",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_configs_match_diffusers(cfg, frames):
    side = cfg.spatial_compression
    check_parity(cfg, video_of(frames, side, 2 * side, batch=2))


@pytest.mark.torch
@pytest.mark.parametrize("height, width", [pytest.param(24, 40, marks=pytest.mark.slow), (12, 16)])
def test_tiling_matches_diffusers(height, width):
    cfg = dataclasses.replace(TWO_STAGES, frame_chunk=8)
    check_parity(cfg, video_of(5, height, width), tiled=True)


def test_tile_sizes_of_the_released_model():
    scales = ((8, 1), (1, 8))
    plans = [p.scaled(*s) for p in tiling.make_plans(VAEConfig()) for s in scales]
    assert [(p.tile, p.stride, p.blend, p.keep) for p in plans] == [
        (240, 200, 5, 25),
        (30, 25, 40, 200),
        (360, 288, 9, 36),
        (45, 36, 72, 288),
    ]


def _grow(latents):
    return latents.repeat(8, axis=2).repeat(8, axis=3)


def _shrink(pixels):
    return pixels[:, :, ::8, ::8]


@pytest.mark.parametrize(
    "sample",
    [pytest.param((34, 34), marks=pytest.mark.slow), (64, 64), (100, 250), (320, 512), (576, 1024)],
)
def test_tiles_give_the_size_asked_for(sample):
    cfg = VAEConfig(sample_height=sample[0], sample_width=sample[1])
    for rows, columns in ((1, 1), (2, 3), (8, 9), (31, 47)):
        latents = jax.ShapeDtypeStruct((1, 1, rows, columns, 1), jnp.float32)
        pixels = jax.eval_shape(lambda x: tiling.decode(_grow, x, cfg), latents)
        assert pixels.shape == (1, 1, 8 * rows, 8 * columns, 1)
        again = jax.eval_shape(lambda x: tiling.encode(_shrink, x, cfg), pixels)
        assert again.shape == latents.shape


def test_tiles_join_where_they_were_cut():
    cfg = VAEConfig(sample_height=100, sample_width=64)
    latents = jnp.arange(8.0 * 9).reshape(1, 1, 8, 9, 1)
    pixels = jax.jit(lambda x: tiling.decode(_grow, x, cfg))(latents)
    np.testing.assert_allclose(pixels, _grow(latents), rtol=1e-6)
    again = jax.jit(lambda x: tiling.encode(_shrink, x, cfg))(pixels)
    np.testing.assert_allclose(again, latents, rtol=1e-6)


@pytest.mark.slow
def test_full_size_parameter_count():
    model = functional.build(autoencoder.VAE, VAEConfig())
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    assert model.num_params == 215_583_907
    assert count(model.abstract_params["encoder"]) == 92_215_456
    assert count(model.abstract_params["decoder"]) == 123_368_451
    assert len(jax.tree.leaves(model.abstract_params)) == 436


def test_every_parameter_has_axes(small):
    model, _ = small
    conv = model.axes["encoder"]["down_blocks"]["0"]["resnets"]["0"]["conv1"]
    assert conv == {"kernel": (None, None, None, "conv_in", "conv_out"), "bias": ("conv_out",)}
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))


@pytest.mark.slow
def test_future_chunks_never_change_the_past(small):
    model, params = small
    video = jnp.float32(video_of(9, 4, 4))  # 5 + 4 frames, 3 + 2 latents
    encode, decode = jax.jit(model.encode), jax.jit(model.decode)
    latents = encode(params, video).mode()
    changed = encode(params, video.at[:, 5:].multiply(-1.0)).mode()
    np.testing.assert_array_equal(changed[:, :3], latents[:, :3])
    assert not np.allclose(changed[:, 3:], latents[:, 3:])
    frames = decode(params, latents)
    again = decode(params, latents.at[:, 3:].multiply(-1.0))
    np.testing.assert_array_equal(again[:, :5], frames[:, :5])
    assert not np.allclose(again[:, 5:], frames[:, 5:])


@pytest.mark.slow
def test_gradients_are_finite_and_reach_every_parameter(small):
    model, params = small
    video = jnp.float32(video_of(5, 4, 6))

    def loss(params):
        moments = model.encode(params, video)
        decoded = model.decode(params, moments.sample(jax.random.key(0)))
        return jnp.mean(jnp.square(decoded - video)) + 1e-4 * moments.kl().mean()

    grads = jax.jit(jax.grad(loss))(params)
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_moments_are_clamped_and_sampled(small):
    model, params = small
    conv = params["encoder"]["conv_out"]
    bias = jnp.float32([0.5] * 16 + [99.0, -99.0] + [0.0] * 14)
    conv = {"kernel": jnp.zeros_like(conv["kernel"]), "bias": bias}
    params = params | {"encoder": params["encoder"] | {"conv_out": conv}}
    moments = jax.jit(model.encode)(params, jnp.float32(video_of(1, 4, 4)))
    np.testing.assert_array_equal(moments.logvar[0, 0, 0, 0, :3], [20.0, -30.0, 0.0])
    np.testing.assert_array_equal(moments.mode(), moments.mean)
    sample = moments.sample(jax.random.key(3))
    noise = jax.random.normal(jax.random.key(3), sample.shape)
    np.testing.assert_allclose(
        sample, moments.mean + np.exp(0.5 * moments.logvar) * noise, rtol=1e-6
    )
    assert len(jax.tree.leaves(moments)) == 2


def test_kl_of_the_standard_normal_is_zero():
    zeros = jnp.zeros((2, 1, 2, 2, 3))
    np.testing.assert_array_equal(autoencoder.Moments(zeros, zeros).kl(), [0.0, 0.0])
    np.testing.assert_allclose(autoencoder.Moments(zeros + 1, zeros).kl(), [6.0, 6.0])


def test_scaling_inverts():
    latents = jnp.ones((1, 1, 2, 2, 4))
    scaled = autoencoder.scale_latents(VAEConfig(), latents)
    np.testing.assert_allclose(scaled, 0.7 * latents)
    np.testing.assert_allclose(autoencoder.unscale_latents(VAEConfig(), scaled), latents)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtypes_are_strict(dtype, strict_dtypes):
    cfg = dataclasses.replace(TWO_STAGES, dtype=dtype)
    model = functional.build(autoencoder.VAE, cfg)
    video = jax.ShapeDtypeStruct((1, 17, 4, 4, 3), jnp.float32)
    moments = jax.eval_shape(model.encode, model.abstract_params, video)
    assert moments.mean.dtype == moments.logvar.dtype == jnp.float32
    decoded = jax.eval_shape(model.decode, model.abstract_params, moments.mean)
    assert decoded.dtype == jnp.dtype(dtype)
    assert decoded.shape == (1, 17, 4, 4, 3)


def test_odd_sizes_are_refused(small):
    model, params = small
    with pytest.raises(ValueError, match="multiples of 2, got 8 and 9"):
        model.encode(params, jnp.zeros((1, 1, 8, 9, 3)))


def test_norm_statistics_are_float32():
    x = jnp.asarray(9.0 + random(2, 3, 4, 4, 6))
    y = np.asarray(layers.standardize_groups(x, 3, 1e-6)).reshape(2, -1, 3, 2)
    np.testing.assert_allclose(y.mean((1, 3)), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.std((1, 3)), 1.0, atol=1e-5)


@pytest.mark.parametrize("in_dim, out_dim", [(3, 12), (12, 3), (10, 12)])
def test_cpu_and_direct_convolutions_agree(in_dim, out_dim):
    x = random(2, 6, 5, 7, in_dim)
    kernel = random(3, 3, 3, in_dim, out_dim)
    dy = random(2, 4, 5, 7, out_dim)

    @jax.jit
    def both(x, kernel, dy):
        expected, vjp = jax.vjp(convolution.conv3d_direct, x, kernel)
        ours = (convolution.conv3d_taps(x, kernel), *convolution.conv3d_taps_vjp(x, kernel, dy))
        return ours, (expected, *vjp(dy))

    for ours, theirs in zip(*both(x, kernel, dy), strict=True):
        assert relative_error(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    "stride, padding, size", [(1, (1, 1), (8, 12)), (2, (0, 1), (8, 12)), (2, (0, 1), (7, 5))]
)
def test_frame_convolution_gradient_matches_autodiff(stride, padding, size):
    x = random(2, *size, 4)
    kernel = random(3, 3, 4, 5)
    padding = (padding, padding)

    @jax.jit
    def gradients(x, kernel):
        plain = functools.partial(
            jax.lax.conv_general_dilated,
            window_strides=(stride, stride),
            padding=padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        y, vjp = jax.vjp(plain, x, kernel)
        ours, our_vjp = jax.vjp(lambda x, k: convolution.conv2d(x, k, stride, padding), x, kernel)
        return (ours, *our_vjp(jnp.sin(y))), (y, *vjp(jnp.sin(y)))

    for ours, theirs in zip(*gradients(x, kernel), strict=True):
        assert relative_error(ours, theirs) < 1e-5
