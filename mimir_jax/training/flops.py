# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Model FLOPs of a train step, what utilisation is counted from."""

import dataclasses
from typing import Any

import jax
from jax.interpreters import partial_eval

from mimir_jax.config import DiffusionSystemConfig, TrainConfig
from mimir_jax.models import params as params_lib
from mimir_jax.parallel import context
from mimir_jax.training import metrics, tasks
from mimir_jax.training import optimizer as optimizer_lib


def forward_flops(config: TrainConfig, *, attention: bool = True) -> int:
    """Returns the FLOPs of the loss of one batch over all devices.

    Args:
        config: The run.
        attention: Count what attention kernels do.
    """
    model, loss, batch = tasks.sketch(config)
    key = jax.random.key(0)
    return metrics.count_flops(loss, model.abstract_params, batch, key, attention=attention)


def step_flops(config: TrainConfig) -> int:
    """Returns the FLOPs of a step over all devices, recomputation left out.

    Three times the forward pass where everything trains, by convention. Parameters that do not
    train take no products for their own gradient, so that a run with adapters does less.
    """
    model, _, _ = tasks.sketch(config)
    trainable = optimizer_lib.trainable(config.optimizer, model.axes, model.frozen)
    forward = forward_flops(config)
    if all(jax.tree.leaves(trainable)):
        return 3 * forward
    fused = forward - forward_flops(config, attention=False)
    return 3 * fused + _gradient_flops(config, trainable)


def _gradient_flops(config: TrainConfig, trainable: Any) -> int:
    """Returns the FLOPs of loss and gradient, those of attention kernels left out."""
    if isinstance(config.system, DiffusionSystemConfig):
        config = dataclasses.replace(config, system=config.system.with_dit(remat="none"))
    model, loss, batch = tasks.sketch(config)
    params = model.abstract_params

    def gradient(trained, params, batch, key):
        return jax.grad(
            lambda trained: loss(params_lib.replace(params, trained), batch, key), has_aux=True
        )(trained)[0]

    trained = params_lib.prune(params, trainable)
    with context.no_mesh():
        made = jax.make_jaxpr(gradient)(trained, params, batch, jax.random.key(0)).jaxpr
    used, _ = partial_eval.dce_jaxpr(made, [True] * len(made.outvars))
    return metrics.jaxpr_flops(used, attention=False)
