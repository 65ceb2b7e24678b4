# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clip tokens to video through Divot's published de-tokenizer (arXiv 2412.04432)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mimir_jax.config import DIVOT_REFERENCE, SamplerConfig
from mimir_jax.diffusion import guidance, samplers
from mimir_jax.errors import require
from mimir_jax.models import functional
from mimir_jax.models.condition import Condition
from mimir_jax.models.functional import Params
from mimir_jax.weights import divot_detokenizer


def decode_tokens(
    model: functional.Model,
    params: Params,
    tokens: Float[Array, "b n d"],
    null_tokens: Float[Array, "1 m e"],
    *,
    key: Key[Array, ""] | Key[Array, " b"],
    frames: int = 16,
    height: int = 256,
    width: int = 256,
    sampler: SamplerConfig = DIVOT_REFERENCE,
) -> Float[Array, "b frames height width c"]:
    """Draws the videos of clip tokens, in [0, 1]; pure, so that it may be compiled.

    Args:
        model: A `PublishedDetokenizer`, as `mimir_jax.load` gives it.
        params: Its parameters.
        tokens: Tokens of clips, of a tokenizer or drawn by an LLM.
        null_tokens: Tokens of a mid-grey clip, frames of zeros, for the unconditional branch of
            guidance.
        key: Draws the noise: one key for all clips, or one for each.
        frames, height, width: Size of the videos; Divot has 16 frames of 256 x 256 at 8 fps.
        sampler: Steps and guidance; Divot's own code by default.

    Raises:
        InputError: for null tokens of another shape, or a size that the VAE does not halve evenly.
    """
    cfg, step = model.config, model.config.vae.spatial_compression
    require(
        null_tokens.shape[1:] == tokens.shape[1:],
        f"null_tokens must have the shape of tokens, {tokens.shape[1:]}, got "
        f"{null_tokens.shape[1:]}; use the tokenizer that made the tokens",
    )
    require(
        height % step == width % step == 0,
        f"height and width must be multiples of {step}, got {height} and {width}; change them",
    )
    require(
        not sampler.shortcuts.any,
        f"sampler.cache must be off and sampler.guidance_every 1 for a U-Net, got {sampler.cache} "
        f"and {sampler.guidance_every}; leave them out",
    )
    schedule = divot_detokenizer.schedule(cfg)
    batch = len(tokens)
    guided = guidance.guides(sampler)
    both = jnp.concatenate([jnp.repeat(null_tokens, batch, axis=0), tokens]) if guided else tokens
    condition = model.condition(params, both)

    def network(xt: Array, time: Array, condition: Condition, aux: None) -> tuple[Array, None]:
        return model.denoise(params, xt, time, condition), aux

    stepper = samplers.make_sampler(sampler, schedule)
    if guided:
        table = jnp.asarray(guidance.scales(sampler, schedule, stepper.times()))
        network = guidance.guided_by(network, table, sampler.guidance_rescale)
    shape = (batch, frames, height // step, width // step, cfg.vae.latent_channels)
    latents = samplers.sample(network, stepper, shape, condition, key=key)
    video = model.decode(params, latents.astype(jnp.float32))
    return jnp.clip(video.astype(jnp.float32) * 0.5 + 0.5, 0.0, 1.0)
