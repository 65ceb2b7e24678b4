# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""AdamW with global-norm clipping, learning-rate groups and frozen parameters by path (M-U20)."""

import re
from typing import Any

import jax
import optax

from mimir_jax.config import OptimizerConfig


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Returns the learning rate by step: linear warm-up, then constant or cosine."""
    warmup = min(config.warmup_steps, steps)
    peak = config.learning_rate
    then = optax.constant_schedule(peak)
    if config.schedule == "cosine":
        then = optax.cosine_decay_schedule(peak, max(steps - warmup, 1), config.end_fraction)
    if warmup == 0:
        return then
    return optax.join_schedules(
        [optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1)), then], [warmup]
    )


def trainable(config: OptimizerConfig, axes: Any) -> Any:
    """Returns a tree of bools like `axes`: False where `config.freeze` matches the path.

    Raises:
        ValueError: if a pattern of `freeze` or `lr_scale` matches no parameter.
    """
    paths = _paths(axes)
    names = jax.tree.leaves(paths)
    for pattern in (*config.freeze, *config.lr_scale):
        if not any(re.search(pattern, name) for name in names):
            raise ValueError(
                f"optimizer pattern {pattern!r} must match a parameter, got none of "
                f"{len(names)} such as {names[0]!r}; set optimizer.freeze or optimizer.lr_scale"
            )
    return jax.tree.map(lambda name: not any(re.search(p, name) for p in config.freeze), paths)


def make_optimizer(config: OptimizerConfig, steps: int, axes: Any) -> optax.GradientTransformation:
    """Builds the transformation for parameters whose logical axes are `axes`.

    Frozen parameters have no moments and receive zero updates. Weight decay touches matrices and
    convolution kernels only, not biases, norms or scales.

    Raises:
        ValueError: if a pattern of `freeze` or `lr_scale` matches no parameter.
    """
    labels = jax.tree.map(lambda t: "train" if t else "freeze", trainable(config, axes))

    def factor(name: str) -> float:
        return next((f for p, f in config.lr_scale.items() if re.search(p, name)), 1.0)

    factors = jax.tree.map(factor, _paths(axes))
    decays = jax.tree.map(
        lambda names: len([n for n in names if n != "layers"]) > 1, axes, is_leaf=_is_axes
    )
    parts = [
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(config.b1, config.b2, config.eps),
        optax.add_decayed_weights(config.weight_decay, mask=lambda tree: _like(tree, decays)),
        optax.scale_by_learning_rate(make_schedule(config, steps)),
    ]
    if config.lr_scale:
        parts.append(
            optax.stateless(lambda u, _: jax.tree.map(lambda x, f: x * f, u, _like(u, factors)))
        )
    return optax.multi_transform(
        {"train": optax.chain(*parts), "freeze": optax.set_to_zero()}, labels
    )


def _is_axes(x: Any) -> bool:
    return isinstance(x, tuple)


def _paths(axes: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"),
        axes,
        is_leaf=_is_axes,
    )


def _like(tree: Any, values: Any) -> Any:
    """Puts `values` where `tree` has leaves; `multi_transform` hides the others."""
    return jax.tree.map(
        lambda x, v: x if isinstance(x, optax.MaskedNode) else v,
        tree,
        values,
        is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )
