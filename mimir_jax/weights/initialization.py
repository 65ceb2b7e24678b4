# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Parameters at the start of a run: drawn, or read from `init_from`, published or our own."""

import dataclasses
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from mimir_jax import weights
from mimir_jax.config import (
    AgentConfig,
    DiTConfig,
    LLMConfig,
    MimirConfig,
    TrainConfig,
    bridge,
    flag,
)
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models import params as params_lib
from mimir_jax.models.divot import vocabulary
from mimir_jax.parallel import rules as rules_lib

# Fields of the DiT that change how it runs, not its output at its native size.
_RUNTIME = ("dtype", "remat", "attention", "unroll", "text_length", "sample_frames")


def read_init(path: str, model: functional.Model) -> functional.Params:
    """Reads the parameters to start `model` from, as numpy arrays in float32.

    A bare video transformer starts a Mimir, whose fuser and stabilizer are then drawn afresh; of a
    Mimir, a bare video transformer takes the transformer. A bare LLM starts Divot's, with further
    rows for the tokens of clips.

    Raises:
        ValueError: if the weights cannot be opened, or are of another model.
    """
    opened, params = weights.read(path, dtype="float32")
    theirs, ours = opened.config, model.config
    if isinstance(ours, MimirConfig):
        ours = ours.dit
        if isinstance(theirs, MimirConfig):
            theirs = theirs.dit
        elif isinstance(theirs, DiTConfig):
            params = {"dit": params}
    elif isinstance(ours, DiTConfig) and isinstance(theirs, MimirConfig):
        theirs, params = theirs.dit, params["dit"]
    if isinstance(ours, AgentConfig):
        params = _read_agent(path, ours, theirs, params)
    if isinstance(theirs, DiTConfig) and isinstance(ours, DiTConfig):
        names = [n for n in bridge.differences(theirs, ours) if n not in _RUNTIME]
        if names:
            listed = ", ".join(
                f"{n} {getattr(theirs, n)!r} not {getattr(ours, n)!r}" for n in names
            )
            raise InputError(
                f"init_from {path} must hold the DiT of the config, it has {listed}; "
                "set these fields of the dit"
            )
    weights.overlay(model.abstract_params, params, source=path)
    return params


def _read_agent(
    path: str, ours: AgentConfig, theirs: Any, params: functional.Params
) -> functional.Params:
    """Returns the parameters of Divot's LLM for a config, of another agent or of an LLM alone."""
    if isinstance(theirs, AgentConfig):
        for name in ("token_width", "num_components", "head", "queries"):
            found, asked = getattr(theirs, name), getattr(ours, name)
            if found != asked and (name != "num_components" or ours.head == "mixture"):
                raise InputError(
                    f"init_from {path} must hold an agent with {name}={asked}, it has {found}; set "
                    f"{flag(f'system.model.{name}')}={found}"
                )
    elif isinstance(theirs, LLMConfig):
        params, theirs = {"llm": params}, dataclasses.replace(ours, llm=theirs)
    else:
        return params
    more = ours.llm.vocab_size - theirs.llm.vocab_size
    if more <= 0:
        return params
    grown = vocabulary.grow(params["llm"], more)
    return {**params, "llm": jax.tree.map(np.asarray, grown)}


def start(
    config: TrainConfig,
    model: functional.Model,
    loaded: functional.Params | None,
    shardings: Any = None,
) -> functional.Params:
    """Returns the parameters of step 0: drawn from the seed, those of `loaded` put over them.

    Args:
        config: The run.
        model: Its network.
        loaded: What `read_init` returned, None without `init_from`.
        shardings: Of every parameter; None leaves them on the default device.
    """
    draw, key = model.init, jax.random.key(config.seed)
    if loaded is None:
        return jax.jit(draw, out_shardings=shardings)(key)
    merged, fresh = weights.overlay(model.abstract_params, loaded, source=config.init_from)
    logging.info("%s lacks %d parameters, drawn afresh", config.init_from, len(fresh))
    missing = jax.tree.map(lambda x: isinstance(x, jax.ShapeDtypeStruct), merged)
    placed = None if shardings is None else params_lib.prune(shardings, missing)
    drawn = jax.jit(lambda key: params_lib.prune(draw(key), missing), out_shardings=placed)(key)
    params = jax.tree.map(
        lambda x, spec: x.astype(spec.dtype, copy=False),
        params_lib.replace(merged, drawn),
        model.abstract_params,
    )
    return jax.device_put(params) if shardings is None else jax.tree.map(_place, params, shardings)


def _place(value: jax.Array | np.ndarray, sharding: Any) -> jax.Array:
    """Cuts a whole array of this process into shards; what was drawn has its place."""
    if isinstance(value, jax.Array):
        return value
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def start_of(
    config: TrainConfig, model: functional.Model, mesh: Mesh | None = None
) -> functional.Params:
    """Returns the parameters that a run of `config` begins with.

    Args:
        config: The run.
        model: Its network.
        mesh: What they are split over, as `weights.load` splits them.

    Raises:
        ValueError: if it continued another run, or its `init_from` cannot be opened.
    """
    if config.resume_from is not None:
        raise InputError(
            f"the start of a run must be its own, this one went on from {config.resume_from}; "
            "evaluate that run"
        )
    loaded = None if config.init_from is None else read_init(config.init_from, model)
    shardings = None
    if mesh is not None:
        table = rules_lib.table("fsdp")
        shardings = rules_lib.param_shardings(model.abstract_params, model.axes, table, mesh)
    return start(config, model, loaded, shardings)
