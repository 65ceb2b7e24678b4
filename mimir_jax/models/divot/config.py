# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of what joins an LLM with clip tokens. The defaults are Divot's on Mistral-7B."""

import dataclasses

from mimir_jax.config import checks
from mimir_jax.models.config import DType


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    """Projector of clip tokens to the inputs of the LLM.

    Attributes:
        token_width: Width of a clip token.
        llm_width: Width of the LLM.
        dtype: Dtype of the computation.
    """

    token_width: int = 256
    llm_width: int = 4096
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """Head that predicts a Gaussian mixture for each clip token.

    Attributes:
        token_width: Width of a clip token.
        llm_width: Width of the LLM.
        num_components: Gaussians of a mixture.
        min_variance: Lower bound of the variances.
        dtype: Dtype of the computation; the mixture itself is float32.
    """

    token_width: int = 256
    llm_width: int = 4096
    num_components: int = 16
    min_variance: float = 1e-5
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.within(self, "min_variance", 0, above=True)

    @property
    def num_outputs(self) -> int:
        """Numbers that describe one mixture: means, variances and logits."""
        return self.num_components * (2 * self.token_width + 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipSequenceConfig:
    """Shape of the sequences of text and clips.

    Attributes:
        max_length: Tokens of a sequence. Divot's pretraining has 1400 for comprehension of videos,
            300 for images and 180 for generation; its tuning has 1650, 1000 and 180.
        num_queries: Tokens of a clip, and queries that predict one.
        token_width: Width of a clip token.
        max_inputs: Clips that a sequence reads at most.
        max_outputs: Clips that a sequence writes at most.
    """

    max_length: int = 1400
    num_queries: int = 64
    token_width: int = 256
    max_inputs: int = 20
    max_outputs: int = 1

    def __post_init__(self):
        checks.positive_sizes(self)
