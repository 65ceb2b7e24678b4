# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""VIMI and its aligner, which nobody publishes: only our own forms hold them."""

import dataclasses

from mimir_jax.config import AlignerConfig, VimiConfig
from mimir_jax.models.vimi import aligner, model
from mimir_jax.weights import family


class Aligner(family.Family):
    """States of a multimodal LLM to text states."""

    kind = "aligner"
    module = aligner.Aligner

    def with_dtype(self, config: AlignerConfig, dtype: str) -> AlignerConfig:
        """Returns the config with another compute dtype."""
        return dataclasses.replace(config, dtype=dtype)


class Vimi(family.Family):
    """Aligner, or what stands in its place, and DiT."""

    kind = "vimi"
    module = model.Vimi

    def with_dtype(self, config: VimiConfig, dtype: str) -> VimiConfig:
        """Returns the config with both parts in another compute dtype."""
        parts = {
            name: dataclasses.replace(getattr(config, name), dtype=dtype)
            for name in ("aligner", "dit")
        }
        return dataclasses.replace(config, **parts)
