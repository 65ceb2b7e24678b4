# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Interface of an ablation; a system defines its own as data in `ablation.py`."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from mimir_jax.config import SystemConfig
from mimir_jax.errors import InputError

START = "start"
"""Name of the cell with the initial parameters of every run."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A claim about two cells, stated before they run.

    Attributes:
        text: The claim in words.
        cell, other: The claim is that `cell` passes more often than `other`.
        margin: If given, the claim is that they differ by at most this many percentage points.
    """

    text: str
    cell: str
    other: str
    margin: float | None = None


@dataclasses.dataclass(frozen=True)
class Ablation:
    """The cells of an ablation; a cell is one variant of a config.

    Attributes:
        cells: Name of a cell to dotted overrides of the run's config.
        sets: Names of groups of cells.
        predictions: Claims about cells.
        published: Values of a paper by name of cell, under `columns`.
        columns: Names of those values.
        measured: The measure behind those values.
    """

    cells: Mapping[str, Mapping[str, Any]]
    sets: Mapping[str, tuple[str, ...]]
    predictions: tuple[Prediction, ...] = ()
    published: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] = ()
    measured: str = "VBench in %"

    def select(self, names: list[str]) -> dict[str, Mapping[str, Any]]:
        """Returns the cells of the given names of cells and sets.

        Raises:
            InputError: for an unknown name.
        """
        chosen: dict[str, Mapping[str, Any]] = {}
        for name in names:
            if name not in self.sets and name not in self.cells:
                known = ", ".join([*self.sets, *self.cells])
                raise InputError(f"--cells must be of {known}, got {name!r}")
            for cell in self.sets.get(name, (name,)):
                chosen[cell] = self.cells[cell]
        return chosen


def find_ablation(config: SystemConfig) -> Ablation:
    """Returns the ablation of a system, `ablation.py` in its folder.

    Raises:
        InputError: for a system without one.
    """
    package = type(config).__module__.rpartition(".")[0]
    try:
        return importlib.import_module(f"{package}.ablation").ABLATION
    except ModuleNotFoundError as error:
        if error.name != f"{package}.ablation":
            raise
        raise InputError(
            f"system must have an ablation to run, got {config.kind}, which has none; use mimir or "
            "divot_llm"
        ) from None
