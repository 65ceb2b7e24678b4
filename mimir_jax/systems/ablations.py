# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Interface of an ablation; a system defines its own as data in `ablation.py`."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from mimir_jax.config import SystemConfig, registry
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
        styles: Wordings or conditions that the claim is about; all without any.
        category: Category that the claim is about; None takes the mean.
    """

    text: str
    cell: str
    other: str
    margin: float | None = None
    styles: tuple[str, ...] = ()
    category: str | None = None


@dataclasses.dataclass(frozen=True)
class Ablation:
    """The cells of an ablation; a cell is one variant of a config.

    Attributes:
        cells: Name of a cell to dotted overrides of the run's config.
        sets: Names of groups of cells, the first of which is the default.
        predictions: Claims about cells.
        published: Values of a paper by name of cell, under `columns`.
        columns: Names of those values.
        measured: The measure behind those values.
        demos: Demonstrations of the grounding suite that judge a run; without any, captions in
            three wordings do.
    """

    cells: Mapping[str, Mapping[str, Any]]
    sets: Mapping[str, tuple[str, ...]]
    predictions: tuple[Prediction, ...] = ()
    published: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] = ()
    measured: str = "VBench in %"
    demos: tuple[str, ...] = ()

    def select(self, names: list[str] | None) -> dict[str, Mapping[str, Any]]:
        """Returns the cells of the given names of cells and sets; of the first set for None.

        Raises:
            InputError: for an unknown name.
        """
        chosen: dict[str, Mapping[str, Any]] = {}
        for name in names or [next(iter(self.sets))]:
            if name not in self.sets and name not in self.cells:
                known = ", ".join([*self.sets, *self.cells])
                raise InputError(f"--cells must be of {known}, got {name!r}")
            for cell in self.sets.get(name, (name,)):
                chosen[cell] = self.cells[cell]
        return chosen


def find_ablation(config: SystemConfig) -> Ablation:
    """Returns the ablation of a run, by `find` of `ablation.py` in the folder of its system.

    Raises:
        InputError: for a system without one.
    """
    package = type(config).__module__.rpartition(".")[0]
    try:
        module = importlib.import_module(f"{package}.ablation")
    except ModuleNotFoundError as error:
        if error.name != f"{package}.ablation":
            raise
        known = ", ".join(registry.folders("ablation"))
        raise InputError(
            f"system must have an ablation to run, got {config.kind}, which has none; use one of "
            f"{known}"
        ) from None
    return module.find(config)
