# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizer and de-tokenizer of Divot as one network, which trains; our own forms alone hold it.

Their public folder, `FOLDER`, has files of both, and two de-tokenizers: that of stage 1 draws the
tokens of real clips, that of stage 2 those that an LLM writes (arXiv 2412.04432).
"""

import dataclasses
import pathlib
from typing import Any

from mimir_jax.models.divot import model
from mimir_jax.weights import divot_detokenizer, divot_tokenizer, family

FOLDER = "Divot_tokenizer_detokenizer"


class DivotPair(family.Family):
    """Tokenizer, and de-tokenizer with a video transformer."""

    kind = "divot"
    module = model.Divot

    def with_dtype(self, config: Any, dtype: str) -> Any:
        """Returns the config with every part in another compute dtype."""
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if dataclasses.is_dataclass(value):
                changed[field.name] = self.with_dtype(value, dtype)
            elif field.name == "dtype":
                changed[field.name] = dtype
        return dataclasses.replace(config, **changed)


def is_published(place: pathlib.Path) -> bool:
    """Whether a folder, or the file of a de-tokenizer, has a tokenizer and a de-tokenizer."""
    file = _find(place, generates=False)
    return file is not None and (file.parent / divot_tokenizer.FILE).is_file()


def find_detokenizer(place: pathlib.Path, *, generates: bool) -> pathlib.Path:
    """Returns the file of the de-tokenizer in a folder where `is_published` holds.

    Args:
        place: The folder, or one of its files.
        generates: Whether it draws what an LLM writes, not tokens of real clips. Where the
            de-tokenizer of one stage alone is there, it serves both.
    """
    file = _find(place, generates=generates)
    assert file is not None
    return file


def _find(place: pathlib.Path, *, generates: bool) -> pathlib.Path | None:
    if place.name in divot_detokenizer.FILES:
        return place if place.is_file() else None
    names = divot_detokenizer.FILES[::-1] if generates else divot_detokenizer.FILES
    return next((place / name for name in names if (place / name).is_file()), None)
