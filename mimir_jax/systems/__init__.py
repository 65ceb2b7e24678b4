# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Systems: models with their training, one folder each.

A folder `systems/<name>/` holds `config.py` (the section `system` of a run's config, free of JAX),
`system.py` (`make_system`) and `encoder.py` (`make_encoder` and `make_evaluators`). The class of
`config.system` names the folder, so a new system is a new folder and nothing else.

This file imports no JAX: `config` scans the folders before JAX starts.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

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


def _module(config: Any, name: str) -> ModuleType:
    """Imports module `name` of the folder that the class of `config.system` comes from."""
    folder = type(config.system).__module__.rpartition(".")[0]
    return importlib.import_module(f"{folder}.{name}")
