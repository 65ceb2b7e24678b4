# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The train step of a run for a mesh, before anything is allocated: what the loop executes and what
launch/compile.py compiles for hardware that is not there."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mimir_jax.config import DiffusionSystemConfig, TrainConfig
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models.attention import kernels
from mimir_jax.parallel import context
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.parallel import rules as rules_lib
from mimir_jax.training import optimizer as optimizer_lib
from mimir_jax.training import state as state_lib
from mimir_jax.training import step as step_lib


class Program(NamedTuple):
    """A train step and what it is made for.

    Attributes:
        mesh: The devices.
        rules: Logical axes to mesh axes.
        step: Jitted `(state, batch, key) -> (state, metrics)`, which donates the state.
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


def require_runnable(config: TrainConfig, mesh: Mesh) -> None:
    """Raises `ValueError` if the devices of `mesh` cannot run what `config` asks for.

    A micro-batch that its mesh axes do not divide would be worked on whole by every device.
    """
    data, fsdp = mesh.shape["data"], mesh.shape["fsdp"]
    accumulate = config.optimizer.grad_accumulation
    if config.batch_size % (data * fsdp * accumulate):
        raise InputError(
            "batch_size must be a multiple of mesh.data x mesh.fsdp x "
            f"optimizer.grad_accumulation = {data} x {fsdp} x {accumulate}, "
            f"got {config.batch_size}; set any with --config.*"
        )
    if isinstance(config.system, DiffusionSystemConfig):
        platform = mesh.devices.flat[0].platform
        kernels.require_available(config.system.network.dit.attention, platform)


def make(
    config: TrainConfig, model: functional.Model, loss: step_lib.LossFn, mesh: Mesh
) -> Program:
    """Describes the train step of a run on `mesh`.

    Args:
        config: The run.
        model: The network that trains.
        loss: `(params, batch, key) -> (loss, metrics)`.
        mesh: Real devices, or those of a topology.

    Raises:
        ValueError: if moments are to lie in host memory that the devices cannot read.
    """
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
    place = functools.partial(state_lib.shardings, abstract, model.axes, rules, mesh)
    shardings, update = place(), tx
    if optimizer.offload:
        here = mesh.devices.flat[0].default_memory().kind
        update = optimizer_lib.from_host(tx, place(memory_kind=here).opt_state)
        shardings = place(memory_kind=mesh_lib.host_memory(mesh))
    replicated = NamedSharding(mesh, P())
    step = jax.jit(
        functools.partial(
            step_lib.train_step,
            loss_fn=loss,
            trainable=trainable,
            tx=update,
            ema_decay=optimizer.ema_decay,
            accumulate=optimizer.grad_accumulation,
        ),
        donate_argnums=0,
        out_shardings=(shardings, replicated),
    )
    return Program(
        mesh=mesh,
        rules=rules,
        step=step,
        make_state=make_state,
        state=jax.tree.map(with_sharding, abstract, shardings),
        batch=NamedSharding(mesh, P(("data", "fsdp"))),
        replicated=replicated,
    )


def lower(program: Program, batch: Any) -> jax.stages.Lowered:
    """Lowers the step for batches of some shapes and dtypes.

    Compiling it here leaves nothing to compile for the call of `program.step`.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = jax.tree.map(lambda x: with_sharding(x, program.batch), batch)
    with context.use_mesh(program.mesh, program.rules):
        return program.step.lower(program.state, batch, with_sharding(key, program.replicated))


def with_sharding(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of `x` with a sharding."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
