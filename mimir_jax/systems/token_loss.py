# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The loss of systems that predict tokens."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


def cross_entropy(
    logits: Float[Array, "b l v"], labels: Int[Array, "b l"], where: Bool[Array, "b l"]
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Returns the mean cross-entropy and the accuracy at some labels; 0 where there are none.

    Args:
        logits: Logits over the vocabulary at each position.
        labels: The token to predict there.
        where: Positions that count.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    count = jnp.maximum(where.sum(), 1)
    correct = (logits.argmax(-1) == labels) & where
    return (losses * where).sum() / count, {"accuracy": correct.sum() / count}
