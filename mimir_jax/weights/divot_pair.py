# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizer and de-tokenizer of Divot as one network, which trains; our own forms alone hold it."""

import dataclasses
from typing import Any

from mimir_jax.models.divot import model
from mimir_jax.weights import family


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
