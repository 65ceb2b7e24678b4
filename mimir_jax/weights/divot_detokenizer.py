# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's de-tokenizer as published: resampler, U-Net, VAE and noise schedule in one file.

    Divot_detokenizer_stage1.bin     reconstruction of real clips
    Divot_detokenizer_stage2.bin     generation from the tokens that the LLM draws

Tensors tell all sizes but the widths of heads and groups. A `config.json` beside, with fields of
`PublishedDetokenizerConfig` under `resampler`, `unet` and `vae`, states others; our exports add
one.
"""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np
from absl import logging

from mimir_jax.config import DiffusionConfig, PublishedDetokenizerConfig
from mimir_jax.diffusion import schedules
from mimir_jax.errors import InputError
from mimir_jax.models.divot import detokenizer
from mimir_jax.weights import family, image_vae, resampler, unet
from mimir_jax.weights.rules import Rule, inside
from mimir_jax.weights.tensors import Tensor, Tensors

KIND = "divot_detokenizer"
FILES = ("Divot_detokenizer_stage1.bin", "Divot_detokenizer_stage2.bin")

_RESAMPLER = "image_proj_model."
_PARTS = ("resampler", "unet", "vae")
_LEVELS = "alphas_cumprod"

PREFIXES = (_RESAMPLER, unet.PREFIX, image_vae.PREFIX)
"""How the names of tensors begin in the published files, by part."""


class Detokenizer(family.Published):
    """Resampler, U-Net and VAE."""

    kind = KIND
    module = detokenizer.PublishedDetokenizer
    library = "divot"
    classes = ("DivotDetokenizer",)
    stem = "Divot_detokenizer_stage1"
    ignored = (  # the schedule, which `_stored_levels` reads
        r"betas", r"alphas_cumprod(_prev)?", r"sqrt_(one_minus_)?alphas_cumprod",
        r"log_one_minus_alphas_cumprod", r"sqrt_recip(m1)?_alphas_cumprod",
        r"posterior_(variance|log_variance_clipped|mean_coef[12])",
    )  # fmt: skip
    reports_extra = True
    compute = "float32"

    def with_dtype(
        self, config: PublishedDetokenizerConfig, dtype: str
    ) -> PublishedDetokenizerConfig:
        """Returns the config with every part in another compute dtype."""
        parts = {name: dataclasses.replace(getattr(config, name), dtype=dtype) for name in _PARTS}
        return dataclasses.replace(config, **parts)

    def matches(self, tensors: Tensors) -> bool:
        """Whether tensors of the U-Net and another part are there."""
        found = [any(name.startswith(prefix) for name in tensors) for prefix in PREFIXES]
        return found[1] and sum(found) > 1

    def read_config(
        self, raw: family.Raw, tensors: Mapping[str, Tensor]
    ) -> PublishedDetokenizerConfig:
        """Reads sizes and noise levels from tensors, and what they do not tell from `raw`."""
        given = {part: family.field({part: {}} | raw, part, dict) for part in _PARTS}
        return PublishedDetokenizerConfig(
            resampler=resampler.infer(tensors, given["resampler"], _RESAMPLER),
            unet=unet.infer(tensors, given["unet"]),
            vae=image_vae.infer(tensors, given["vae"]),
            stored=_stored_levels(tensors),
        )

    def write_config(self, config: PublishedDetokenizerConfig, name: str) -> family.Raw:
        """Writes what tensors do not tell."""
        return {
            "architectures": [name],
            "resampler": {"num_heads": config.resampler.num_heads},
            "unet": unet.stated(config.unet),
            "vae": image_vae.stated(config.vae),
        }

    def rules(self, config: PublishedDetokenizerConfig, name: str) -> list[Rule]:
        """Returns the table."""
        parts = {
            "resampler": resampler.table(_RESAMPLER),
            "unet": unet.table(config.unet),
            "vae": image_vae.table(config.vae),
        }
        return [rule for part, table in parts.items() for rule in inside(table, part, "")]

    def licence(self, config: PublishedDetokenizerConfig) -> str:
        """That of Divot."""
        return "Divot: see its model card"


def find(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file of a de-tokenizer in a folder, None without one.

    Raises:
        InputError: if both stages are there.
    """
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(
            f"weights folder {folder} must hold one de-tokenizer, got {' and '.join(FILES)}; name "
            "one of the files, stage1 for reconstruction or stage2 for generation"
        )
    return found[0] if found else None


def schedule(config: PublishedDetokenizerConfig) -> schedules.DiscreteSchedule:
    """Returns the noise schedule that the config chooses (divot.md 4.3)."""
    stored = config.stored if config.schedule == "checkpoint" else ()
    return schedules.DiscreteSchedule(DiffusionConfig(), trained_levels=stored or None)


def _stored_levels(tensors: Mapping[str, Tensor]) -> tuple[float, ...]:
    """Reads the noise levels of a checkpoint, and tells how far its tables are from computed ones.

    Tables of the posterior are left out, which sampling by DDIM does not use.
    """
    if _LEVELS not in tensors:
        return ()
    levels = tensors[_LEVELS].read().astype(np.float64)
    computed = schedules.DiscreteSchedule(DiffusionConfig()).alphas_cumprod
    if levels.shape != computed.shape:
        raise InputError(
            f"{_LEVELS} must hold {len(computed)} noise levels, got shape {levels.shape}; download "
            "the file again"
        )
    before = np.concatenate([[1.0], computed[:-1]])
    tables = {
        _LEVELS: computed,
        f"{_LEVELS}_prev": before,
        "betas": 1 - computed / before,
        f"sqrt_{_LEVELS}": np.sqrt(computed),
        f"sqrt_one_minus_{_LEVELS}": np.sqrt(1 - computed),
    }
    for name, table in tables.items():
        if name in tensors and tensors[name].shape == table.shape:
            difference = float(np.abs(tensors[name].read().astype(np.float64) - table).max())
            logging.info(
                "%s of the checkpoint (%s) differs by at most %.2e from the computed one",
                name, tensors[name].dtype, difference,
            )  # fmt: skip
    return tuple(levels.tolist())
