# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Model FLOPs of a train step, the numerator of utilisation."""

from typing import Any

import jax
from jax.interpreters import partial_eval

from mimir_jax.config import OptimizerConfig
from mimir_jax.models import params as params_lib
from mimir_jax.parallel import context
from mimir_jax.systems import base
from mimir_jax.training import metrics
from mimir_jax.training import optimizer as optimizer_lib


def forward_flops(system: base.System, bucket: base.Bucket, *, attention: bool = True) -> int:
    """Returns the FLOPs of the loss of one batch over all devices.

    Args:
        system: Network and loss.
        bucket: Size of the batch.
        attention: Whether to count attention kernels.
    """
    batch, key = system.batch_spec(bucket), jax.random.key(0)
    params = system.model.abstract_params
    return metrics.count_flops(system.loss, params, batch, key, attention=attention)


def step_flops(system: base.System, bucket: base.Bucket, optimizer: OptimizerConfig) -> int:
    """Returns the FLOPs of a step over all devices without rematerialisation.

    By convention this is three times the forward pass if everything trains. Frozen parameters need
    no products for their own gradient, so a run with adapters takes fewer.
    """
    model = system.model
    trainable = optimizer_lib.trainable(optimizer, model.axes, model.frozen)
    forward = forward_flops(system, bucket)
    if all(jax.tree.leaves(trainable)):
        return 3 * forward
    fused = forward - forward_flops(system, bucket, attention=False)
    return 3 * fused + gradient_flops(system, bucket, trainable)


def gradient_flops(system: base.System, bucket: base.Bucket, trainable: Any) -> int:
    """Returns the FLOPs of loss and gradient without those of attention kernels.

    Args:
        system: Network and loss.
        bucket: Size of the batch.
        trainable: Tree of bools like the parameters.
    """
    system = system.with_backbone(remat="none")
    params, batch = system.model.abstract_params, system.batch_spec(bucket)

    def gradient(trained, params, batch, key):
        return jax.grad(
            lambda trained: system.loss(params_lib.replace(params, trained), batch, key),
            has_aux=True,
        )(trained)[0]

    trained = params_lib.prune(params, trainable)
    with context.no_mesh():
        traced = jax.make_jaxpr(gradient)(trained, params, batch, jax.random.key(0)).jaxpr
    used, _ = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))
    return metrics.jaxpr_flops(used, attention=False)
