# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of what joins an LLM with clip tokens. The defaults are Divot's on Mistral-7B."""

import dataclasses
from typing import Literal

from mimir_jax.config import checks
from mimir_jax.models.config import DType, LLMConfig, RopeConfig

MISTRAL_7B = LLMConfig(
    vocab_size=32000,
    width=4096,
    num_kv_heads=8,
    head_dim=128,
    mlp_dim=14336,
    sliding_window=4096,
    rope=RopeConfig(max_length=32768, original_max_length=32768),
)
"""Mistral-7B v0.1 (arXiv 2310.06825)."""


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """Head that denoises a clip token, conditioned on the state of its query (D-U7).

    Attributes:
        token_width: Width of a clip token.
        llm_width: Width of the LLM.
        width: Width of the residual blocks.
        num_layers: Residual blocks.
        dtype: Dtype of the computation.
    """

    token_width: int = 256
    llm_width: int = 4096
    width: int = 1024
    num_layers: int = 3
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.check(self, self.width % 2 == 0, "{width} must be even")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """LLM that reads and writes clip tokens. The defaults are Divot's on Mistral-7B.

    Attributes:
        llm: The LLM; its vocabulary holds the delimiters and index tokens, and `query_block` is the
            number of tokens of a clip.
        token_width: Width of a clip token.
        head: What predicts a clip token from the state of its query: `mixture` is Divot's. The
            others are its ablations (D-U7): `regression` predicts the token; `noise` and
            `velocity` denoise it.
        queries: How queries see each other: `bidirectional` is Divot's, `causal` an ablation; in
            `autoregressive` there are no queries, and each token of a clip reads those before it.
        num_components: Gaussians of a mixture.
        min_variance: Lower bound of their variances.
        denoiser_width: Width of the head of `noise` and `velocity`.
        denoiser_layers: Residual blocks of that head.
    """

    llm: LLMConfig = dataclasses.replace(MISTRAL_7B, vocab_size=32262)
    token_width: int = 256
    head: Literal["mixture", "regression", "noise", "velocity"] = "mixture"
    queries: Literal["bidirectional", "causal", "autoregressive"] = "bidirectional"
    num_components: int = 16
    min_variance: float = 1e-5
    denoiser_width: int = 1024
    denoiser_layers: int = 3

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.within(self, "min_variance", 0, above=True)

    @property
    def dtype(self) -> DType:
        """Dtype of the computation."""
        return self.llm.dtype

    @property
    def num_queries(self) -> int:
        """Tokens of a clip."""
        return self.llm.query_block

    @property
    def projector(self) -> ProjectorConfig:
        """The projector of clip tokens."""
        return ProjectorConfig(**self._widths)

    @property
    def mixture(self) -> MixtureConfig:
        """The mixture head."""
        components, least = self.num_components, self.min_variance
        return MixtureConfig(num_components=components, min_variance=least, **self._widths)

    @property
    def denoiser(self) -> DenoiserConfig:
        """The head of `noise` and `velocity`."""
        width, layers = self.denoiser_width, self.denoiser_layers
        return DenoiserConfig(width=width, num_layers=layers, **self._widths)

    @property
    def _widths(self) -> dict:
        return dict(token_width=self.token_width, llm_width=self.llm.width, dtype=self.llm.dtype)
