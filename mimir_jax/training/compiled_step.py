# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The train step of a run on a mesh, before anything is allocated.

The loop executes it; `planning.aot` compiles it for hardware that is absent.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mimir_jax.config import TrainConfig
from mimir_jax.errors import InputError
from mimir_jax.models import functional, lora
from mimir_jax.models.attention import kernels
from mimir_jax.parallel import context
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.parallel import rules as rules_lib
from mimir_jax.systems import base
from mimir_jax.training import optimizer as optimizer_lib
from mimir_jax.training import state as state_lib
from mimir_jax.training import step as step_lib


class CompiledStep(NamedTuple):
    """A jitted train step with its mesh, shapes and shardings.

    Attributes:
        mesh: The devices.
        rules: Logical axes to mesh axes.
        step: Jitted `(state, batch, key, weight=1.0) -> (state, metrics)`, which donates the state;
            a program for each shape of a batch and its static weight.
        make_state: Wraps fresh parameters as a state; pure.
        state: Shape, dtype and sharding of every leaf of the state.
        batch: Sharding of every array of a batch.
        replicated: Sharding of the key and the metrics.
    """

    mesh: Mesh
    rules: rules_lib.Rules
    step: Callable
    make_state: Callable[[functional.Params], state_lib.TrainState]
    state: state_lib.TrainState
    batch: NamedSharding
    replicated: NamedSharding

    @property
    def shardings(self) -> state_lib.TrainState:
        """Sharding of every leaf of the state."""
        return jax.tree.map(lambda x: x.sharding, self.state)


def require_runnable(config: TrainConfig, system: base.System, mesh: Mesh) -> None:
    """Raises `InputError` if the devices of `mesh` cannot run what `config` asks for.

    Every device would compute a whole micro-batch that its mesh axes do not divide.
    """
    data, fsdp = mesh.shape["data"], mesh.shape["fsdp"]
    accumulation = config.optimizer.grad_accumulation
    for bucket in system.buckets:
        place = f" in bucket {bucket.name}" if len(system.buckets) > 1 else ""
        if bucket.batch % (data * fsdp * accumulation):
            raise InputError(
                "batch_size must be a multiple of mesh.data x mesh.fsdp x "
                f"optimizer.grad_accumulation = {data} x {fsdp} x {accumulation}, got "
                f"{bucket.batch}{place}; set any with --config.*"
            )
    if system.backbone is not None:
        kernels.require_available(system.backbone.attention, mesh.devices.flat[0].platform)


def make(config: TrainConfig, system: base.System, mesh: Mesh) -> CompiledStep:
    """Describes the train step of a run on `mesh`.

    Args:
        config: The run.
        system: Its network and loss.
        mesh: Real devices, or those of a topology.

    Raises:
        InputError: if moments are to be in host memory that the devices cannot read.
    """
    model = system.model
    rules = rules_lib.table(config.mesh.strategy, config.mesh.context_parallel)
    optimizer = config.optimizer
    tx: optax.GradientTransformation = optimizer_lib.make_optimizer(
        optimizer, config.steps, model.axes, model.frozen
    )
    trainable = optimizer_lib.trainable(optimizer, model.axes, model.frozen)
    make_state = functools.partial(
        state_lib.create, tx=tx, trainable=trainable, ema=optimizer.ema_decay > 0
    )
    abstract = jax.eval_shape(make_state, model.abstract_params)
    make_shardings = functools.partial(state_lib.shardings, abstract, model.axes, rules, mesh)
    shardings, update = make_shardings(), tx
    if optimizer.offload:
        device_memory = mesh.devices.flat[0].default_memory().kind
        update = optimizer_lib.from_host(tx, make_shardings(memory_kind=device_memory).opt_state)
        shardings = make_shardings(memory_kind=mesh_lib.host_memory(mesh))
    replicated = NamedSharding(mesh, P())
    step = jax.jit(
        functools.partial(
            step_lib.train_step,
            loss_fn=lora.dropping(system.loss, model),
            trainable=trainable,
            tx=update,
            ema_decay=optimizer.ema_decay,
            accumulate=optimizer.grad_accumulation,
            skip=config.divergence.policy == "skip",
            counts_fn=system.counts,
        ),
        donate_argnums=0,
        static_argnames="weight",
        out_shardings=(shardings, replicated),
    )
    return CompiledStep(
        mesh=mesh,
        rules=rules,
        step=step,
        make_state=make_state,
        state=jax.tree.map(with_sharding, abstract, shardings),
        batch=NamedSharding(mesh, P(("data", "fsdp"))),
        replicated=replicated,
    )


def lower(compiled: CompiledStep, batch: Any, weight: float = 1.0) -> jax.stages.Lowered:
    """Lowers the step for the shapes and dtypes, and the weight, of one bucket.

    Compiling the result leaves nothing to compile for the first call of `compiled.step`.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = jax.tree.map(lambda x: with_sharding(x, compiled.batch), batch)
    with context.use_mesh(compiled.mesh, compiled.rules):
        key = with_sharding(key, compiled.replicated)
        return compiled.step.lower(compiled.state, batch, key, weight=weight)


def with_sharding(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of `x` with a sharding."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
