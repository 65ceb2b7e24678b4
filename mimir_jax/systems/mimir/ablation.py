# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Table 3 of Mimir as data: its rows, further cells, and predictions.

A cell is a set of dotted overrides of one run. The predictions were written before any cell ran.
"""

from typing import Any

from mimir_jax.config import ABLATIONS
from mimir_jax.encoders.config import INSTRUCTIONS
from mimir_jax.systems.ablations import START, Ablation, Prediction
from mimir_jax.systems.mimir.config import MimirSystemConfig

_FUSER, _STABILIZER = "system.model.fuser", "system.model.stabilizer"
_MORE_INSTRUCTIONS = (
    *INSTRUCTIONS,
    "What colour is each object?",
    "How many objects are there?",
    "In what order do things happen?",
    "What does the background look like?",
)


def _tokens(number: int) -> dict[str, Any]:
    return {
        f"{_STABILIZER}.num_tokens": number,
        "system.text.instructions": list(_MORE_INSTRUCTIONS[:number]),
    }


PAPER: dict[str, dict[str, Any]] = {row: {"system.ablation": row} for row in ABLATIONS}
PAPER["baseline"] |= {"optimizer.lr_scale": [], "optimizer.delay": []}  # has no parts of its own
"""The seven rows of the paper; `baseline` is the base with T5 alone, fine-tuned like the others."""

MORE: dict[str, dict[str, Any]] = {
    "norm_zeroconv": {"system.ablation": None, f"{_STABILIZER}.enabled": False},
    "stabilizer_alone": {
        "system.ablation": None,
        f"{_FUSER}.use_llm": False,
        f"{_FUSER}.norm_scale": False,
        f"{_FUSER}.zero_conv": False,
        "optimizer.lr_scale": [["^stabilizer/", 2.5]],
    },
    "instructions_alone": {f"{_STABILIZER}.use_learned": False},
    "learned_alone": {f"{_STABILIZER}.use_instructions": False},
    **{f"tokens_{number}": _tokens(number) for number in (1, 2, 8)},
    "query": {"system.text.llm_tokens": "query"},
    "query_answer": {"system.text.llm_tokens": "query+answer"},
    "no_zero_conv_t5": {f"{_FUSER}.zero_conv_t5": False},
}
"""Cells that the paper leaves out."""

CHOICES: dict[str, dict[str, Any]] = {
    "M-U1_linear": {f"{_FUSER}.bridge": "linear"},
    "M-U5_mask": {f"{_FUSER}.attend_pads": False},
    "M-U6_rmsnorm": {f"{_FUSER}.norm": "rmsnorm"},
    "M-U4_left": {f"{_FUSER}.llm_align": "left"},
    "M-U7_scale_0.1": {f"{_FUSER}.scale_init": 0.1},
    "M-U7_channel": {f"{_FUSER}.scale_shape": "channel"},
    "M-U13_instruction": {"system.text.instruction_prompt": "instruction"},
    "M-U14_projection": {f"{_STABILIZER}.projection_init": "variance_scaling"},
    "M-U15_learned_0.2": {f"{_STABILIZER}.learned_std": 0.2},
    "M-U16_before": {f"{_STABILIZER}.place": "before"},
    "M-U17_empty": {"system.text.null": "empty"},
    "M-U19_new_parts": {"optimizer.freeze": ["^dit/"], "optimizer.delay": []},
    "M-U19_together": {"optimizer.delay": []},
    "clips_alone": {
        "data.buckets.area": 0,
        "data.buckets.frames": [],
        "data.toyworld.deal": [],
    },
}
"""Alternatives to our choices, by their ids in docs/choices.md."""

_PREDICTIONS = (
    Prediction("the base passes more than the raw sum", START, "decoder_only"),
    Prediction("with norm about the base", "norm", START, margin=5.0),
    Prediction("zero-conv passes more than the base", "zeroconv", START),
    Prediction("zero-conv passes more than norm", "zeroconv", "norm"),
    Prediction("Mimir passes more than zero-conv", "mimir", "zeroconv"),
    Prediction("Mimir passes more than zero-conv with stabilizer", "mimir", "zeroconv_ss"),
    Prediction("Mimir passes more than T5 alone, fine-tuned", "mimir", "baseline"),
)

_PUBLISHED = {
    "baseline": (95.60, 60.62, 61.35, 87.82, 65.70, 84.17, 64.86, 25.86),
    "decoder_only": (94.66, 36.38, 60.10, 4.97, 0.00, 37.50, 2.36, 3.66),
    "norm": (97.12, 61.68, 62.52, 85.50, 65.24, 84.85, 59.28, 25.26),
    "norm_ss": (96.48, 58.11, 62.49, 87.18, 68.83, 85.21, 67.86, 24.33),
    "zeroconv": (97.20, 61.21, 62.99, 92.03, 84.98, 86.21, 69.17, 25.03),
    "zeroconv_ss": (97.33, 62.14, 63.02, 91.21, 84.47, 86.43, 70.16, 23.68),
    "mimir": (97.68, 62.92, 63.91, 92.87, 85.29, 86.50, 78.67, 26.22),
}

ABLATION = Ablation(
    cells={**PAPER, **MORE, **CHOICES},
    sets={
        "paper": tuple(PAPER),
        "more": tuple(MORE),
        "choices": tuple(CHOICES),
        "all": (*PAPER, *MORE, *CHOICES),
    },
    predictions=_PREDICTIONS,
    published=_PUBLISHED,
    columns=(
        "background consistency", "aesthetic quality", "imaging quality", "object class",
        "multiple objects", "colour", "spatial relationship", "temporal style",
    ),
)  # fmt: skip


def find(config: MimirSystemConfig) -> Ablation:
    """Returns the ablation, the same for all runs."""
    del config
    return ABLATION
