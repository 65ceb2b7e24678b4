# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The train step: one pure function of state, batch and key."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mimir_jax.models import params as params_lib
from mimir_jax.training import state as state_lib

LossFn = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]


def train_step(
    state: state_lib.TrainState,
    batch: Any,
    key: jax.Array,
    *,
    loss_fn: LossFn,
    trainable: Any,
    tx: optax.GradientTransformation,
    ema_decay: float = 0.0,
    accumulate: int = 1,
    skip: bool = False,
    weight: float = 1.0,
    counts_fn: Callable[[Any], Any] = lambda batch: None,
) -> tuple[state_lib.TrainState, dict[str, jax.Array]]:
    """Takes one optimizer step.

    Args:
        state: Current state; donate it.
        batch: Arrays with a leading batch axis.
        key: Run key; the step folds its own number in, so resuming repeats nothing.
        loss_fn: `(params, batch, key) -> (loss, metrics)`.
        trainable: Tree of bools like the parameters; the rest costs neither backward pass nor
            gradient memory.
        tx: The optimizer.
        ema_decay: Decay of the average, used where the state holds one.
        accumulate: Micro-batches whose gradients are averaged.
        skip: Keep parameters, moments and average as they are where the loss, the gradient norm or
            the update norm is not finite.
        weight: Factor of the gradient, that of the batch's bucket; the loss is reported without it.
        counts_fn: Tokens in each mean of the loss, by batch; see `System.counts`.

    Returns:
        The next state and scalar metrics, `loss`, `grad_norm` and `update_norm` among them.
    """
    key = jax.random.fold_in(key, state.step)

    def trained_loss(trained, batch, key, *factors):
        return loss_fn(params_lib.replace(state.params, trained), batch, key, *factors)

    trained = params_lib.prune(state.params, trainable)
    value_and_grad = jax.value_and_grad(trained_loss, has_aux=True)
    if accumulate == 1:
        (loss, metrics), grads = value_and_grad(trained, batch, key)
    else:
        (loss, metrics), grads = _accumulated(
            functools.partial(value_and_grad, trained), batch, key, accumulate, counts_fn
        )
    if weight != 1.0:
        grads = jax.tree.map(lambda g: g * weight, grads)
    grads = params_lib.replace(jax.tree.map(jnp.zeros_like, state.params), grads)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema is not None:
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))  # warms up from 0.1
        trained = params_lib.prune(params, trainable)
        ema = jax.tree.map(lambda e, p: e + (1 - decay) * (p - e), ema, trained)
    norms = {"grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
    next_state = state_lib.TrainState(
        step=state.step + 1, params=params, opt_state=opt_state, ema=ema
    )
    if skip:
        finite = jnp.isfinite(jnp.stack([loss, *norms.values()])).all()
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), next_state, state)
        next_state = kept._replace(step=next_state.step)
    return next_state, {**metrics, "loss": loss, **norms}


def _accumulated(
    value_and_grad: Callable, batch: Any, key: jax.Array, parts: int, counts_fn: Callable
):
    """Averages loss, metrics and gradients over `parts` micro-batches under a scan."""
    counts = counts_fn(batch)

    def split(x):
        # Micro-batch i takes every parts-th row, so each device keeps its own rows.
        x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:])
        return jnp.moveaxis(x, 1, 0)

    def run(micro, index):
        own_key = jax.random.fold_in(key, index)
        if counts is None:
            return value_and_grad(micro, own_key)
        factors = jax.tree.map(lambda own, whole: own * parts / whole, counts_fn(micro), counts)
        return value_and_grad(micro, own_key, factors)

    def body(total, inputs):
        return jax.tree.map(jnp.add, total, run(*inputs)), None

    micros = jax.tree.map(split, batch)
    first = jax.tree.map(lambda x: x[0], micros)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(run, first, 0))
    total, _ = jax.lax.scan(body, zeros, (micros, jnp.arange(parts)))
    return jax.tree.map(lambda x: x / parts, total)
