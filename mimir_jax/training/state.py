# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The train state: one pytree that a checkpoint holds and a step maps to its successor."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int

from mimir_jax.models import functional
from mimir_jax.models import params as params_lib
from mimir_jax.parallel import rules as rules_lib

Params = functional.Params


class TrainState(NamedTuple):
    """Everything a step reads and writes.

    Attributes:
        step: Completed steps.
        params: Parameters, float32 where they train.
        opt_state: State of the optax transformation.
        ema: Average of the parameters that train, None without one.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: optax.OptState
    ema: Params | None

    @property
    def eval_params(self) -> Params:
        """The average where there is one, else the parameters."""
        return self.params if self.ema is None else params_lib.replace(self.params, self.ema)


def create(
    params: Params, tx: optax.GradientTransformation, trainable: Any, *, ema: bool
) -> TrainState:
    """Wraps fresh parameters; pure, to be jitted with `out_shardings`.

    Args:
        params: The parameters.
        tx: The optimizer.
        trainable: Tree of bools like the parameters.
        ema: Whether to average those that train.
    """
    average = jax.tree.map(jnp.copy, params_lib.prune(params, trainable)) if ema else None
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=params, opt_state=tx.init(params), ema=average
    )


def shardings(
    abstract: TrainState,
    axes: Any,
    rules: rules_lib.Rules,
    mesh: Mesh,
    *,
    memory_kind: str | None = None,
) -> TrainState:
    """Returns the sharding of every leaf; optimizer moments follow their parameter.

    Args:
        abstract: Shapes of the state.
        axes: Logical axes of every parameter.
        rules: Logical to mesh axes.
        mesh: The devices.
        memory_kind: Memory of the moments; None is that of the device.
    """
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
            if name.endswith(suffix):
                spec = _moment_spec(name, leaf.shape, shape, sharding.spec)
                if spec is not None:
                    return NamedSharding(mesh, spec, memory_kind=memory_kind)
        return replicated

    average = None
    if abstract.ema is not None:
        names, flat = params_lib.flatten(abstract.ema), params_lib.flatten(params)
        average = params_lib.unflatten({name: flat[name] for name in names})
    return TrainState(
        step=replicated,
        params=params,
        opt_state=jax.tree_util.tree_map_with_path(of_moment, abstract.opt_state),
        ema=average,
    )


def _moment_spec(name: str, shape: tuple, whole: tuple, spec: P) -> P | None:
    """Returns the spec of a moment of a parameter of shape `whole`; None for a placeholder.

    A factored moment lacks one axis and keeps the split of the others. Of the two longest axes,
    optax averages over the longest for `v_row` and over the other for `v_col`.
    """
    if shape == whole:
        return spec
    kind = next((kind for kind in ("v_row", "v_col") if f".{kind}[" in name), None)
    if kind is None or len(whole) < 2:
        return None
    lost = int(np.argsort(whole)[-1 if kind == "v_row" else -2])
    if shape != (*whole[:lost], *whole[lost + 1 :]):
        return None
    return P(*(axes for axis, axes in enumerate(spec) if axis != lost))
