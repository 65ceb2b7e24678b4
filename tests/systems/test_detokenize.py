# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clip tokens to video."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import (
    DIVOT_REFERENCE,
    ImageVAEConfig,
    PublishedDetokenizerConfig,
    ResamplerConfig,
    UNetConfig,
)
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models.divot import detokenizer
from mimir_jax.systems.divot import detokenize

CFG = PublishedDetokenizerConfig(
    resampler=ResamplerConfig(
        in_width=3, out_width=5, num_queries=6, width=8, num_layers=1, num_heads=1, head_dim=8,
        mlp_dim=8,
    ),
    unet=UNetConfig(
        width=4, multipliers=(1,), blocks_per_level=1, attention_scales=(), head_dim=4,
        first_heads=1, context_width=5, text_length=4, norm_groups=2,
    ),
    vae=ImageVAEConfig(block_channels=(2, 2), norm_groups=1, layers_per_block=1),
)  # fmt: skip
MODEL = functional.build(detokenizer.PublishedDetokenizer, CFG)
SAMPLER = dataclasses.replace(DIVOT_REFERENCE, steps=2)


@pytest.mark.slow
def test_videos_follow_their_tokens():
    draw = np.random.RandomState(0).standard_normal
    params = jax.tree.map(lambda s: 0.3 * draw(s.shape).astype("f4"), MODEL.abstract_params)
    tokens, null = draw((2, 4, 3)).astype("f4"), np.zeros((1, 4, 3), "f4")

    @jax.jit
    def run(params, tokens, keys):
        return detokenize.decode_tokens(
            MODEL, params, tokens, jnp.asarray(null), key=keys, frames=2, height=4, width=6,
            sampler=SAMPLER,
        )  # fmt: skip

    keys = jax.random.split(jax.random.key(0), 2)
    video = run(params, tokens, keys)
    assert video.shape == (2, 2, 4, 6, 3)
    assert 0.0 <= video.min() < video.max() <= 1.0
    other = run(params, np.stack([tokens[0], tokens[0]]), keys)
    np.testing.assert_allclose(video[0], other[0], atol=1e-5)
    assert np.abs(video[1] - other[1]).max() > 1e-4


@pytest.mark.parametrize(
    "null, height, message",
    [((1, 5, 3), 4, "must have the shape of tokens"), ((1, 4, 3), 5, "multiples of 2, got 5")],
)
def test_other_shapes_are_refused(null, height, message):
    with pytest.raises(InputError, match=message):
        detokenize.decode_tokens(
            MODEL, MODEL.abstract_params, jnp.zeros((2, 4, 3)), jnp.zeros(null),
            key=jax.random.key(0), height=height, width=4,
        )  # fmt: skip
