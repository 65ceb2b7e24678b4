# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What an ablation of a system consists of; a system states its own in `ablation.py`, as data."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from mimir_jax.config import SystemConfig
from mimir_jax.errors import InputError

START = "start"
"""The cell of what every run starts from, untrained."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A claim about two cells, stated before they run.

    Attributes:
        text: The claim in words.
        cell, other: `cell` is said to pass more often than `other`.
        margin: None claims more; a number claims that they differ by at most as many percentage
            points.
    """

    text: str
    cell: str
    other: str
    margin: float | None = None


@dataclasses.dataclass(frozen=True)
class Ablation:
    """Cells of a table of runs.

    Attributes:
        cells: Name of a cell to dotted overrides of the run's config.
        sets: Names for several cells.
        predictions: Claims about cells.
        published: Values of a paper by name of cell, under `columns`.
        columns: Names of those values.
        measured: What they were measured by.
    """

    cells: Mapping[str, Mapping[str, Any]]
    sets: Mapping[str, tuple[str, ...]]
    predictions: tuple[Prediction, ...] = ()
    published: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] = ()
    measured: str = "VBench in %"

    def select(self, names: list[str]) -> dict[str, Mapping[str, Any]]:
        """Returns the cells that names of cells and sets stand for.

        Raises:
            InputError: for a name of neither.
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
