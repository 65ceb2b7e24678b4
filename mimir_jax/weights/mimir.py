# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Mimir itself, which nobody publishes yet: only our own forms hold one."""

import dataclasses
from typing import Any

from mimir_jax.config import MimirConfig
from mimir_jax.models.mimir import model
from mimir_jax.weights import family


class Mimir(family.Family):
    """Fuser, stabilizer and DiT."""

    kind = "mimir"
    module = model.Mimir

    def with_dtype(self, config: Any, dtype: str) -> MimirConfig:
        """Returns the config with every part in another compute dtype."""
        parts = {
            name: dataclasses.replace(getattr(config, name), dtype=dtype)
            for name in ("dit", "fuser", "stabilizer")
        }
        return dataclasses.replace(config, **parts)
