# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Heads and queries of Divot's LLM (arXiv 2412.04432, Tables 7 and 8) as data.

Every cell writes clips of prompts, which one frozen de-tokenizer draws. The predictions are the
order of the paper by CLIPSIM; they were written before any cell ran.
"""

from typing import Any

from mimir_jax.systems.ablations import START, Ablation, Prediction
from mimir_jax.systems.divot_llm.config import DivotLLMSystemConfig
from mimir_jax.systems.divot_llm.presets import ROWS

_CELLS: dict[str, dict[str, Any]] = {
    name: {f"system.model.{field}": value for field, value in fields.items()}
    for name, fields in ROWS.items()
}
_MORE = ("components-1",)

PAPER: dict[str, dict[str, Any]] = {"mixture": {}} | {
    name: cell for name, cell in _CELLS.items() if name not in _MORE
}
"""The rows of the paper; `mixture` has bidirectional queries, as Divot has."""

MORE: dict[str, dict[str, Any]] = {name: _CELLS[name] for name in _MORE}
"""Cells that the paper leaves out."""

ABLATION = Ablation(
    cells={**PAPER, **MORE},
    sets={
        "paper": tuple(PAPER),
        "heads": ("mixture", "regression", "noise", "velocity"),
        "queries": ("mixture", "causal", "autoregressive"),
        "more": tuple(MORE),
        "all": (*PAPER, *MORE),
    },
    predictions=(
        Prediction("training helps", "mixture", START),
        Prediction("a mixture passes more than a regression", "mixture", "regression"),
        Prediction(
            "a regression passes more than denoising the velocity", "regression", "velocity"
        ),
        Prediction("denoised velocities pass more than denoised noise", "velocity", "noise"),
        Prediction("queries in both directions pass more than causal ones", "mixture", "causal"),
        Prediction("causal queries pass more than one token by one", "causal", "autoregressive"),
        Prediction("16 Gaussians pass more than one", "mixture", "components-1"),
    ),
    published={
        "mixture": (0.3265, 366.60),
        "regression": (0.3168, 438.94),
        "noise": (0.2811, 418.19),
        "velocity": (0.2842, 377.17),
        "causal": (0.3080, 416.60),
        "autoregressive": (0.2386, 447.88),
    },
    columns=("CLIPSIM", "FVD"),
    measured="MSR-VTT",
)


def find(config: DivotLLMSystemConfig) -> Ablation:
    """Returns the ablation, the same for all runs."""
    del config
    return ABLATION
