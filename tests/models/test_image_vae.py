# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The VAE of frames against `AutoencoderKL` of diffusers, which holds it under other names."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mimir_jax
from mimir_jax.config import ImageVAEConfig
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models.vae import image
from mimir_jax.weights import image_vae, tensors
from tests import quick
from tests.helpers import params_of, relative_error

TINY = ImageVAEConfig(
    block_channels=(4, 8, 8), norm_groups=2, layers_per_block=1, latent_channels=3, frame_chunk=3
)


@functools.cache
def diffusers_vae():
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    stages = len(TINY.block_channels)
    model = AutoencoderKL(
        block_out_channels=TINY.block_channels,
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        latent_channels=TINY.latent_channels,
        layers_per_block=TINY.layers_per_block,
        norm_num_groups=TINY.norm_groups,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.torch
def test_equals_diffusers():
    pytest.importorskip("diffusers")
    import torch

    theirs = diffusers_vae()
    model, loaded = functional.build(image.ImageVAE, TINY), params_of("image_vae", theirs, TINY)
    rng = np.random.default_rng(0)
    video = rng.uniform(-1, 1, size=(2, 2, 16, 24, 3)).astype("f4")  # more frames than a chunk
    latents = rng.normal(size=(1, 2, 4, 6, 3)).astype("f4")

    @jax.jit
    def run(params, video, latents):
        moments = model.encode(params, video)
        return moments.mean, moments.logvar, model.decode(params, latents)

    mean, logvar, decoded = run(loaded, video, latents)
    with torch.no_grad():
        expected = theirs.encode(torch.tensor(video).flatten(0, 1).permute(0, 3, 1, 2)).latent_dist
        frames = theirs.decode(torch.tensor(latents)[0].permute(0, 3, 1, 2)).sample
    for ours, other in ((mean, expected.mean), (logvar, expected.logvar)):
        other = other.permute(0, 2, 3, 1).unflatten(0, (2, 2))
        assert relative_error(ours, other) < 1e-5
    assert relative_error(decoded[0], frames.permute(0, 2, 3, 1)) < 1e-5


def test_has_the_size_of_stable_diffusion():
    model = functional.build(image.ImageVAE, ImageVAEConfig())
    assert model.num_params == 83_653_863
    assert len(jax.tree.leaves(model.abstract_params)) == 248
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))


@pytest.mark.slow
def test_tiles_and_precision_are_settings():
    model = functional.build(
        image.ImageVAE,
        dataclasses.replace(TINY, dtype="bfloat16", sample_height=16, sample_width=16),
    )
    video = jax.ShapeDtypeStruct((1, 2, 32, 32, 3), jnp.float32)
    encode = functools.partial(model.encode, tiled=True)
    moments = jax.eval_shape(encode, model.abstract_params, video)
    assert moments.mean.shape == (1, 2, 8, 8, 3) and moments.mean.dtype == jnp.float32
    with pytest.raises(InputError, match="multiples of 4, got 8 and 9"):
        model.encode(model.abstract_params, jnp.zeros((1, 1, 8, 9, 3)))


@pytest.mark.torch
@pytest.mark.parametrize("form", quick.some(["diffusers", "bare", "prefixed"], "diffusers"))
def test_every_form_opens_as_the_same_network(form, tmp_path):
    pytest.importorskip("diffusers")
    theirs = diffusers_vae()
    theirs.save_pretrained(tmp_path / "diffusers")
    if form != "diffusers":
        mimir_jax.weights.convert(tmp_path / "diffusers", tmp_path / "divot", to="divot")
        found = tensors.open_single(tmp_path / "divot" / "vae.bin")[0]
        prefix = "first_stage_model."
        start = prefix if form == "prefixed" else ""
        named = {start + n.removeprefix(prefix): x.read() for n, x in found.items()}
        (tmp_path / form).mkdir()
        tensors.write_torch(tmp_path / form / "model.bin", named)
        (tmp_path / form / "config.json").write_text('{"norm_num_groups": 2}')
    model, loaded = mimir_jax.load(tmp_path / form)
    assert model.config == dataclasses.replace(TINY, frame_chunk=16)
    expected = params_of("image_vae", theirs, TINY)
    jax.tree.map(np.testing.assert_array_equal, loaded, expected)


def test_attention_outside_the_middle_is_refused():
    for name in ("encoder.down.1.attn.0.q.weight", "decoder.up_blocks.0.attentions.0.to_q.weight"):
        found = {image_vae.PREFIX + name: tensors.of_array(np.ones(3, "f4"))}
        with pytest.raises(ValueError, match=f"attention in its middle alone, got .*{name}"):
            image_vae.infer(found, {})
