# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Systems: models with their training, one folder each.

A folder `systems/<name>/` holds `config.py` (the section `system` of a run's config, free of JAX),
`system.py` (`make_system`) and `encoder.py` (`make_encoder` and `make_evaluators`). The class of
`config.system` names the folder, so a new system is a new folder and nothing else. A system whose
checkpoints are published in a form of their own has a `published.py`; one that describes videos and
writes clips has an `agent.py`; one that diffusers has too, a `pipeline_folder.py`.

This file imports no JAX: `config` scans the folders before JAX starts.
"""

import importlib
import pathlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mimir_jax.config import registry
from mimir_jax.errors import InputError

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from mimir_jax.systems import base


def make_system(config: Any) -> "base.System":
    """Returns the pure half of the system of a run; reads no weights.

    Args:
        config: The `TrainConfig` of the run.
    """
    return _module(config, "system").make_system(config)


def make_encoder(config: Any, system: "base.System", mesh: "Mesh | None" = None) -> "base.Encoder":
    """Returns the host half of the system of a run, its frozen networks loaded.

    Args:
        config: The `TrainConfig` of the run.
        system: What `make_system` returned for it.
        mesh: Devices of this process; frozen networks whose parameters it would split are split
            over all of them, as `mesh.shard_frozen` does in training.

    Raises:
        InputError: for a frozen network that is missing or does not fit the run.
    """
    return _module(config, "encoder").make_encoder(config, system, mesh)


def make_evaluators(
    config: Any, system: "base.System", encoder: "base.Encoder"
) -> list["base.Evaluator"]:
    """Returns the evaluators of the system of a run."""
    return _module(config, "encoder").make_evaluators(config, system, encoder)


def make_writer(config: Any, system: "base.System", params: Any) -> "base.Writer":
    """Returns what writes clips with a run of an agent; see `SystemConfig.is_agent`.

    Args:
        config: The `TrainConfig` of the run.
        system: What `make_system` returned for it.
        params: Parameters of `system.model`.
    """
    return _module(config, "agent").make_writer(config, system, params)


def make_agent(
    config: Any,
    system: "base.System",
    encoder: "base.Encoder",
    params: Any,
    *,
    temperature: float = 0.0,
    text_length: int | None = None,
    reads_as_published: bool = False,
) -> "base.Agent":
    """Returns a run of an agent that is ready to read and write; see `SystemConfig.is_agent`.

    Args:
        config: The `TrainConfig` of the run.
        system: What `make_system` returned for it.
        encoder: What `make_encoder` returned for it.
        params: Parameters of `system.model`.
        temperature: Of the tokens of a text; 0 takes the likeliest ones.
        text_length: Tokens of a text at most; None leaves it to the run.
        reads_as_published: As in `base.Published`.
    """
    return _module(config, "agent").make_agent(
        config,
        system,
        encoder,
        params,
        temperature=temperature,
        text_length=text_length,
        reads_as_published=reads_as_published,
    )


def find_detokenizer(
    config: Any, path: str | None, flag: str, *, generates: bool = True
) -> pathlib.Path:
    """Returns the checkpoint that draws the clips of an agent; reads no weights.

    Args:
        config: The `TrainConfig` of the agent.
        path: The checkpoint; None takes the one whose tokenizer the agent reads.
        flag: What names it, for messages.
        generates: Whether it draws what the agent writes, not tokens of real clips.

    Raises:
        InputError: for a checkpoint that draws no clips, or none.
    """
    return _module(config, "agent").find_detokenizer(config, path, flag, generates=generates)


def check_detokenizer(config: Any, system: "base.System", path: str | None) -> None:
    """Raises `InputError` unless a de-tokenizer draws the tokens that an agent writes.

    Args:
        config: The `TrainConfig` of the agent.
        system: The system of the de-tokenizer.
        path: As for `find_detokenizer`.
    """
    _module(config, "agent").check_detokenizer(config, system, path)


def find_published(place: pathlib.Path) -> ModuleType | None:
    """Returns the module that reads a published checkpoint as a run; None for a run of ours.

    That is `published.py` of a system: `SYSTEM`, the class of its config; `is_published(place)`,
    which looks at names of files alone; and `read(place, *, dtype)`, which returns a
    `base.Published`.

    Args:
        place: A folder or a file.
    """
    for name in registry.folders("published"):
        module = importlib.import_module(f"{__name__}.{name}.published")
        if module.is_published(place):
            return module
    return None


def write_pipeline(
    config: Any, folder: pathlib.Path, target: pathlib.Path, *, dtype: Any = None
) -> None:
    """Writes a run as the folder of a pipeline of diffusers, by `pipeline_folder.py` of its system.

    Args:
        config: The `TrainConfig` of the run.
        folder: Its work directory.
        target: Folder to write; must not exist.
        dtype: Stored dtype of the networks; None keeps each tensor's own.

    Raises:
        InputError: for a system that diffusers does not have, a setting that it has no option for,
            or a `target` that exists or cannot be written.
    """
    known = registry.folders("pipeline_folder")
    if _package(config).rpartition(".")[2] not in known:
        raise InputError(
            f"--to pipeline needs a run of {' or '.join(known)}, got {config.system.kind}; convert "
            "its networks one by one with --to diffusers"
        )
    _module(config, "pipeline_folder").write_pipeline(config, folder, target, dtype=dtype)


def _package(config: Any) -> str:
    """Returns the folder that the class of `config.system` comes from, as a package."""
    return type(config.system).__module__.rpartition(".")[0]


def _module(config: Any, name: str) -> ModuleType:
    """Imports module `name` of the folder of the system of a run."""
    return importlib.import_module(f"{_package(config)}.{name}")
