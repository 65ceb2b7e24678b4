# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The loss of systems that predict tokens; a label below 0 is ignored."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


def count_labels(labels: Int[Array, "b l"]) -> Int[Array, ""]:
    """Returns the number of labels that are not ignored, at least 1."""
    return jnp.maximum((labels >= 0).sum(), 1)


def cross_entropy(
    logits: Float[Array, "b l v"],
    labels: Int[Array, "b l"],
    where: Bool[Array, "b l"] | None = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Returns the mean cross-entropy and the accuracy at some labels; 0 where there are none.

    Args:
        logits: Logits over the vocabulary at each position.
        labels: The token to predict there.
        where: Positions that count; None takes all whose labels are not ignored.
    """
    where, labels = labels >= 0 if where is None else where, jnp.maximum(labels, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    count = jnp.maximum(where.sum(), 1)
    correct = (logits.argmax(-1) == labels) & where
    total = jnp.where(where, losses, 0).sum()
    return total / count, {"accuracy": correct.sum() / count}
