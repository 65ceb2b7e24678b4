# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""AdamW, Adafactor or Muon with gradient clipping, learning-rate groups and freezing (M-U20)."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from mimir_jax.config import OptimizerConfig, flag
from mimir_jax.errors import InputError

_MUON_MOMENTUM = 0.95
_RMS = 0.2  # typical root mean square of an AdamW update before the learning rate


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Returns the learning rate by step: linear warm-up, then constant or cosine."""
    warmup = min(config.warmup_steps, steps)
    peak = config.learning_rate
    main = optax.constant_schedule(peak)
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(peak, max(steps - warmup, 1), config.end_fraction)
    if warmup == 0:
        return main
    return optax.join_schedules(
        [optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1)), main], [warmup]
    )


def trainable(config: OptimizerConfig, axes: Any, frozen: tuple[str, ...] = ()) -> Any:
    """Returns a tree of bools like `axes`: False where `config.freeze` or `frozen` match the path.

    Raises:
        InputError: if a pattern of `freeze`, `lr_scale` or `delay` matches no parameter.
    """
    paths = _paths(axes)
    names = jax.tree.leaves(paths)
    pairs = (*config.lr_scale, *config.delay)
    for pattern in (*config.freeze, *(pattern for pattern, _ in pairs)):
        if not any(re.search(pattern, name) for name in names):
            raise InputError(
                f"optimizer pattern {pattern!r} must match a parameter, got none of "
                f"{len(names)} such as {names[0]!r}; set optimizer.freeze, lr_scale "
                "or delay"
            )
    patterns = (*config.freeze, *frozen)
    return jax.tree.map(lambda name: not any(re.search(p, name) for p in patterns), paths)


def make_optimizer(
    config: OptimizerConfig, steps: int, axes: Any, frozen: tuple[str, ...] = ()
) -> optax.GradientTransformation:
    """Builds the transformation for parameters whose logical axes are `axes`.

    Frozen parameters have no moments and receive zero updates. Weight decay touches matrices and
    convolution kernels only, not biases, norms or scales.

    Args:
        config: The optimizer.
        steps: Length of the run, for the schedule.
        axes: Logical axes of every parameter.
        frozen: Patterns of parameters that never train, besides `config.freeze`.

    Raises:
        InputError: if a pattern of `freeze`, `lr_scale` or `delay` matches no parameter, or Muon
            finds no matrix.
    """
    labels = jax.tree.map(lambda t: "train" if t else "freeze", trainable(config, axes, frozen))

    paths = _paths(axes)
    factors = jax.tree.map(lambda name: _first_match(config.lr_scale, name, 1.0), paths)
    delays = jax.tree.map(lambda name: _first_match(config.delay, name, 0), paths)
    decays = jax.tree.map(
        lambda names: len([n for n in names if n != "layers"]) > 1, axes, is_leaf=_is_axes
    )
    parts = [
        optax.clip_by_global_norm(config.clip_norm),
        _scale(config, axes),
        optax.add_decayed_weights(config.weight_decay, mask=lambda tree: _like(tree, decays)),
        optax.scale_by_learning_rate(make_schedule(config, steps)),
    ]
    if config.lr_scale:
        parts.append(
            optax.stateless(lambda u, _: jax.tree.map(lambda x, f: x * f, u, _like(u, factors)))
        )
    if config.delay:
        parts.append(_delay(delays))
    return optax.multi_transform(
        {"train": optax.chain(*parts), "freeze": optax.set_to_zero()}, labels
    )


def from_host(tx: optax.GradientTransformation, shardings: Any) -> optax.GradientTransformation:
    """Returns `tx` for a state in host memory, which `shardings` copy to the device.

    The new state is on the device; the `out_shardings` of the step copy it back.
    """

    def update(updates, state, params=None):
        return tx.update(updates, jax.device_put(state, shardings), params)

    return optax.GradientTransformation(tx.init, update)


def _scale(config: OptimizerConfig, axes: Any) -> optax.GradientTransformation:
    """Returns the preconditioner of the gradients.

    Adafactor (arXiv 1804.04235) is used as in arXiv 2106.04560: the learning rate is that of
    AdamW, the decay of the second moment is bounded, and the first moment may be bfloat16.
    """
    adam = optax.scale_by_adam(config.b1, config.b2, config.eps, mu_dtype=config.momentum_dtype)
    if config.name == "adamw":
        return adam
    if config.name == "muon":
        return _muon(config, axes, adam)

    def decay(step, exponent):
        return jnp.minimum(config.b2, 1.0 - (step + 1.0) ** -exponent)

    parts = [optax.scale_by_factored_rms(decay_rate_fn=decay), optax.clip_by_block_rms(1.0)]
    if config.b1 > 0:
        parts.append(optax.ema(config.b1, accumulator_dtype=config.momentum_dtype))
    return optax.chain(*parts)


def _muon(
    config: OptimizerConfig, axes: Any, others: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Returns Muon for the matrices of stacked blocks, and `others` for all other parameters.

    Updates are scaled to the root mean square of AdamW's, 0.2 (arXiv 2502.16982).
    """
    labels = jax.tree.map(
        lambda names: "muon" if names[:1] == ("layers",) and len(names) == 3 else "others",
        axes,
        is_leaf=_is_axes,
    )
    if "muon" not in jax.tree.leaves(labels):
        raise InputError(
            "optimizer.name=muon needs a network with stacked blocks, got one without matrices in "
            f"any; set {flag('optimizer.name')}=adamw"
        )
    each = optax.contrib.MuonDimensionNumbers(reduction_axis=(1,), output_axis=(2,))
    orthogonalize = optax.contrib.scale_by_muon(
        beta=_MUON_MOMENTUM,
        eps=config.eps,
        mu_dtype=config.momentum_dtype,
        weight_dimension_numbers=lambda tree: jax.tree.map(lambda _: each, tree),
    )
    resize = optax.stateless(
        lambda tree, _: jax.tree.map(lambda x: x * (_RMS * max(x.shape[1:]) ** 0.5), tree)
    )
    return optax.multi_transform(
        {"muon": optax.chain(orthogonalize, resize), "others": others},
        lambda tree: _like(tree, labels),
    )


def _first_match(pairs: tuple[tuple[str, Any], ...], name: str, default: Any) -> Any:
    """Returns the value of the first pair whose pattern `name` matches."""
    return next((value for pattern, value in pairs if re.search(pattern, name)), default)


def _delay(steps: Any) -> optax.GradientTransformation:
    """Returns a transformation that zeroes each update in the first `steps` steps of its leaf."""

    def update(updates, count, params=None):
        del params
        begun = jax.tree.map(
            lambda x, n: jnp.where(count < n, 0.0, x), updates, _like(updates, steps)
        )
        return begun, optax.safe_increment(count)

    return optax.GradientTransformation(lambda params: jnp.zeros([], jnp.int32), update)


def _is_axes(x: Any) -> bool:
    return isinstance(x, tuple)


def _paths(axes: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"),
        axes,
        is_leaf=_is_axes,
    )


def _like(tree: Any, values: Any) -> Any:
    """Returns `values` at the leaves of `tree`; `multi_transform` masks the others."""
    return jax.tree.map(
        lambda x, v: x if isinstance(x, optax.MaskedNode) else v,
        tree,
        values,
        is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )
