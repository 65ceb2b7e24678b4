# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Gaussian mixture of a clip token, predicted from the state of its query (arXiv 2412.04432).

    p(y) = sum_j softmax(logits)_j N(y; means_j, diag(var_scale * variances_j))

Clip tokens are continuous, and a regression would answer an ambiguous caption with the average of
its clips. A mixture keeps the clips apart. Divot trains it with var_scale 1 and draws with 0.1.

The order of the outputs and the floor of the variances are those of Divot's public code. The
mixture is float32, whatever the dtype of the LLM.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from mimir_jax import noise as noise_lib
from mimir_jax.config import MixtureConfig
from mimir_jax.models import layers
from mimir_jax.models.rngs import Rngs


class Mixture(NamedTuple):
    """One Gaussian mixture with diagonal covariances per clip token, in float32.

    Attributes:
        logits: Logits of the weights.
        means: Means of the components.
        variances: Variances of the components.
    """

    logits: Float[Array, "*b k"]
    means: Float[Array, "*b k d"]
    variances: Float[Array, "*b k d"]


class MixtureHead(nnx.Module):
    """Two linears with exact GELU between them, from LLM states to mixtures."""

    def __init__(self, cfg: MixtureConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        outputs = cfg.num_outputs
        self.up = layers.Linear(cfg.llm_width, outputs, axes=("embed", "mlp"), **options)
        self.down = layers.Linear(outputs, outputs, axes=("mlp", "embed"), **options)
        self.cfg = cfg

    def __call__(self, states: Float[Array, "*b e"]) -> Mixture:
        """Returns the mixture that each state predicts."""
        x = self.down(jax.nn.gelu(self.up(states), approximate=False)).astype(jnp.float32)
        size = self.cfg.num_components * self.cfg.token_width
        means, raw, logits = jnp.split(x, (size, 2 * size), axis=-1)
        means, raw = (
            rearrange(part, "... (k d) -> ... k d", k=self.cfg.num_components)
            for part in (means, raw)
        )
        return Mixture(logits, means, jnp.maximum(jax.nn.softplus(raw), self.cfg.min_variance))


def log_likelihood(
    mixture: Mixture, tokens: Float[Array, "*b d"], var_scale: float = 1.0
) -> Float[Array, "*b"]:
    """Returns log p of each token under its mixture, with variances times `var_scale`."""
    variances = var_scale * mixture.variances
    offsets = tokens.astype(jnp.float32)[..., None, :] - mixture.means  # (*b, k, d)
    terms = offsets * offsets / variances + jnp.log(variances) + np.log(2 * np.pi)
    return jax.nn.logsumexp(jax.nn.log_softmax(mixture.logits) - 0.5 * terms.sum(-1), axis=-1)


def loss(
    mixture: Mixture, tokens: Float[Array, "*b d"], where: Bool[Array, "*b"] | None = None
) -> Float[Array, ""]:
    """Returns the mean of -log p per number of a token.

    Args:
        mixture: Predictions.
        tokens: What they should have predicted.
        where: Which tokens count; None for all. Without any, the loss is 0.
    """
    values = -log_likelihood(mixture, tokens) / tokens.shape[-1]
    if where is None:
        return values.mean()
    return jnp.where(where, values, 0).sum() / jnp.maximum(where.sum(), 1).astype(values.dtype)


def draw(mixture: Mixture, key: PRNGKeyArray, var_scale: float = 0.1) -> Float[Array, "*b d"]:
    """Draws a component for each token, then the token from it with variances times `var_scale`."""
    which, noise = jax.random.split(key)
    component = jax.random.categorical(which, mixture.logits)[..., None, None]
    mean, variance = (
        jnp.take_along_axis(part, component, axis=-2)[..., 0, :]
        for part in (mixture.means, mixture.variances)
    )
    return mean + jnp.sqrt(var_scale * variance) * noise_lib.normal(noise, mean.shape)


def mean(mixture: Mixture) -> Float[Array, "*b d"]:
    """Returns the mean of each mixture: the means of its components by weight."""
    return (jax.nn.softmax(mixture.logits)[..., None] * mixture.means).sum(-2)
