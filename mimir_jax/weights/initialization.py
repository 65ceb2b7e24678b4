# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Parameters at the start of a run: drawn, or read from `init_from`, published or our own."""

import dataclasses
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from mimir_jax import noise, weights
from mimir_jax.config import (
    AgentConfig,
    ClipCaptionerConfig,
    ContrastConfig,
    DiTConfig,
    DivotConfig,
    LlavaConfig,
    LLMConfig,
    MimirConfig,
    PublishedDetokenizerConfig,
    TrainConfig,
    UNetDetokenizerConfig,
    VimiConfig,
    bridge,
    flag,
)
from mimir_jax.errors import InputError, require
from mimir_jax.models import functional, lora
from mimir_jax.models import params as params_lib
from mimir_jax.models.divot import vocabulary
from mimir_jax.parallel import rules as rules_lib
from mimir_jax.weights import adapters

# Fields of the DiT that change how it runs, not its output at its native size.
_RUNTIME = ("dtype", "remat", "attention", "unroll", "text_length", "sample_frames")


def read(config: TrainConfig, model: functional.Model) -> functional.Params | None:
    """Reads what a run starts from, parameters and adapters; None if it draws all.

    Raises:
        InputError: as `read_init` and `adapters.read_start`.
    """
    loaded = None if config.init_from is None else read_init(config.init_from, model)
    if isinstance(model, lora.Adapted) and model.lora.init_from is not None:
        own = adapters.read_start(model.lora.init_from, model)
        loaded = params_lib.replace(loaded or {}, own)
    return loaded


def read_init(paths: str, model: functional.Model) -> functional.Params:
    """Reads the parameters to start `model` from, as numpy arrays in float32.

    Weights of another network start the part that both have: a bare video transformer starts that
    of a Mimir or of a Divot, whose other parts are then drawn afresh, and the reverse. A bare LLM
    starts Divot's, with further rows for the tokens of clips. A text-to-video transformer starts an
    image-to-video one: what reads the image begins at zero, so the first prediction is the same.

    Args:
        paths: Folders of weights, separated by commas; the later ones lie over the earlier ones.
        model: The network.

    Raises:
        ValueError: if the weights cannot be opened, or have no part of the model.
    """
    flat: dict[str, np.ndarray] = {}
    for path in paths.split(","):
        params = _read_part(path.strip(), model)
        weights.overlay(model.abstract_params, params, source=path)
        flat |= params_lib.flatten(params)
    return params_lib.unflatten(flat)


def _read_part(path: str, model: functional.Model) -> functional.Params:
    """Reads the part of `model` that the weights at `path` hold."""
    opened, params = weights.read(path, dtype="float32")
    if isinstance(model.config, AgentConfig):
        return _read_agent(path, model.config, opened.config, params)
    if type(opened.config) is type(model.config):
        pairs = [("", "", opened.config, model.config)]
    else:
        theirs, ours = _parts(opened.config), _parts(model.config)
        pairs = [(a, b, theirs[a], ours[b]) for a in theirs for b in ours
                 if type(theirs[a]) is type(ours[b])]  # fmt: skip
    require(
        bool(pairs),
        f"init_from {path} must hold a part of the network, it holds a {opened.family.kind}; name "
        "other weights",
    )
    there, here, source, target = pairs[0]
    for part in filter(None, there.split("/")):
        params = params[part]
    if isinstance(source, UNetDetokenizerConfig):
        params = {name: params[name] for name in ("resampler", "unet")}
    if isinstance(target, LLMConfig):
        params = _with_more_tokens(params, target.vocab_size - source.vocab_size)
    if isinstance(target, DiTConfig) and target.in_channels == 2 * source.in_channels:
        params, source = _with_image_channels(params, source)
    for part in reversed(list(filter(None, here.split("/")))):
        params = {part: params}
    _check_dit(path, source, target)
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
    return {**params, "llm": _with_more_tokens(params["llm"], more)}


def _with_more_tokens(params: functional.Params, more: int) -> functional.Params:
    """Returns the parameters of an LLM with rows for `more` tokens, where that is above 0."""
    if more <= 0:
        return params
    return jax.tree.map(np.asarray, vocabulary.grow(params, more))


def _with_image_channels(
    params: functional.Params, config: DiTConfig
) -> tuple[functional.Params, DiTConfig]:
    """Returns a transformer with twice the input channels, those of the image with zero weights."""
    kernel = params["patch"]["kernel"]  # (channels first among its rows, d)
    kernel = np.concatenate([kernel, np.zeros_like(kernel)])
    patch = {**params["patch"], "kernel": kernel}
    wider = dataclasses.replace(config, in_channels=2 * config.in_channels)
    return {**params, "patch": patch}, wider


def _parts(config: Any) -> dict[str, Any]:
    """Returns the configs of a network and its named parts by the path of their parameters."""
    parts = {"": config}
    if isinstance(config, MimirConfig):
        parts["dit"] = config.dit
    elif isinstance(config, ContrastConfig):
        parts["vit"] = config.vit
    elif isinstance(config, DivotConfig):
        parts["tokenizer"] = config.tokenizer
        parts["tokenizer/vit"] = config.tokenizer.vit
        if isinstance(config.detokenizer, UNetDetokenizerConfig):
            parts["detokenizer"] = config.detokenizer
            parts["detokenizer/unet"] = config.detokenizer.unet
        else:
            parts["detokenizer/dit"] = config.detokenizer.dit
    elif isinstance(config, PublishedDetokenizerConfig):
        parts = {"": config.network}  # the VAE trains in no network
    elif isinstance(config, ClipCaptionerConfig):
        tokenizer = config.tokenizer
        parts |= {"tokenizer": tokenizer, "tokenizer/vit": tokenizer.vit, "llm": config.llm}
    elif isinstance(config, LlavaConfig):
        parts |= {"vit": config.vit, "llm": config.llm}
    elif isinstance(config, VimiConfig):
        parts |= {"dit": config.dit, "aligner": config.aligner}
    return parts


def _check_dit(path: str, theirs: Any, ours: Any) -> None:
    """Raises `InputError` for video transformers of different configs, also inside networks."""
    theirs, ours = (
        next((part for part in _parts(x).values() if isinstance(part, DiTConfig)), None)
        for x in (theirs, ours)
    )
    if theirs is None or ours is None:
        return
    names = [n for n in bridge.differences(theirs, ours) if n not in _RUNTIME]
    listed = ", ".join(f"{n} {getattr(theirs, n)!r} not {getattr(ours, n)!r}" for n in names)
    require(
        not names,
        f"init_from {path} must hold the DiT of the config, it has {listed}; set these fields of "
        "the dit",
    )


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
        loaded: What `read` returned.
        shardings: Of every parameter; None leaves them on the default device.
    """
    draw, key = model.init, noise.make_key(config.seed)
    if loaded is None:
        return jax.jit(draw, out_shardings=shardings)(key)
    merged, fresh = weights.overlay(model.abstract_params, loaded, source="to start from")
    logging.info("%d parameters are drawn afresh", len(fresh))
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
    loaded = read(config, model)
    shardings = None
    if mesh is not None:
        table = rules_lib.table("fsdp")
        shardings = rules_lib.param_shardings(model.abstract_params, model.axes, table, mesh)
    return start(config, model, loaded, shardings)
