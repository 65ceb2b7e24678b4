# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Vision transformers trained by contrast here; our own forms alone hold their projections."""

import dataclasses

from mimir_jax.config import ContrastConfig
from mimir_jax.models.contrast import model
from mimir_jax.weights import family


class Contrast(family.Family):
    """Vision transformer with projections of images and texts."""

    kind = "contrast"
    module = model.Contrast

    def with_dtype(self, config: ContrastConfig, dtype: str) -> ContrastConfig:
        """Returns the config with another compute dtype."""
        return dataclasses.replace(config, vit=dataclasses.replace(config.vit, dtype=dtype))
