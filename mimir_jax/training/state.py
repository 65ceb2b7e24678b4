# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The train state: one pytree that a checkpoint holds and a step maps to its successor."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int

from mimir_jax.models import functional
from mimir_jax.parallel import rules as rules_lib

Params = functional.Params


class TrainState(NamedTuple):
    """Everything a step reads and writes.

    Attributes:
        step: Completed steps.
        params: Parameters, float32.
        opt_state: State of the optax transformation.
        ema: Parameter average, None without one.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: optax.OptState
    ema: Params | None

    @property
    def eval_params(self) -> Params:
        """The average where there is one, else the parameters."""
        return self.params if self.ema is None else self.ema


def create(params: Params, tx: optax.GradientTransformation, *, ema: bool) -> TrainState:
    """Wraps fresh parameters; pure, to be jitted with `out_shardings`."""
    average = jax.tree.map(jnp.copy, params) if ema else None
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=params, opt_state=tx.init(params), ema=average
    )


def shardings(abstract: TrainState, axes: Any, rules: rules_lib.Rules, mesh: Mesh) -> TrainState:
    """Returns the sharding of every leaf; optimizer moments follow their parameter."""
    params = rules_lib.param_shardings(abstract.params, axes, rules, mesh)
    replicated = NamedSharding(mesh, P())
    by_path = {
        jax.tree_util.keystr(path): (leaf.shape, sharding)
        for (path, leaf), sharding in zip(
            jax.tree_util.tree_leaves_with_path(abstract.params),
            jax.tree.leaves(params),
            strict=True,
        )
    }

    def of_moment(path, leaf):
        name = jax.tree_util.keystr(path)
        for suffix, (shape, sharding) in by_path.items():
            if name.endswith(suffix) and leaf.shape == shape:
                return sharding
        return replicated

    return TrainState(
        step=replicated,
        params=params,
        opt_state=jax.tree_util.tree_map_with_path(of_moment, abstract.opt_state),
        ema=None if abstract.ema is None else params,
    )
