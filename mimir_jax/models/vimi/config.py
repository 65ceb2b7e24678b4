# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of what joins a multimodal LLM with a video transformer."""

import dataclasses
from typing import Any, Literal

from mimir_jax.config import checks
from mimir_jax.models.config import DiTConfig, DType, Remat, ResamplerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignerConfig:
    """Aligner: states of a multimodal LLM to the text input of a T5-conditioned base (V-U11).

    The defaults join LLaVA-1.5-7B with CogVideoX; the sizes are near those of CINEMA (arXiv
    2503.10391).

    Attributes:
        llm_width: Width of the states that it reads.
        text_width: Width of the text states of the video transformer.
        text_length: Positions of its text states: tokens that the aligner returns.
        width, num_layers, num_heads, head_dim, mlp_dim: Sizes of the resampler.
        pads: What matches T5's states at pads: the aligner's tokens there (`match`), as the base
            attends to pads, or nothing (`ignore`).
        norm_eps, remat, dtype: As in a T5 encoder.
    """

    llm_width: int = 4096
    text_width: int = 4096
    text_length: int = 226
    width: int = 1024
    num_layers: int = 6
    num_heads: int = 16
    head_dim: int = 64
    mlp_dim: int = 4096
    pads: Literal["match", "ignore"] = "match"
    norm_eps: float = 1e-5
    remat: Remat = "none"
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)

    @property
    def resampler(self) -> ResamplerConfig:
        """The resampler of these sizes."""
        shared = ("width", "num_layers", "num_heads", "head_dim", "mlp_dim", "norm_eps", "remat")
        return ResamplerConfig(
            in_width=self.llm_width,
            out_width=self.text_width,
            num_queries=self.text_length,
            dtype=self.dtype,
            **{name: getattr(self, name) for name in shared},
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class VimiConfig:
    """A video transformer that reads the states of a multimodal LLM.

    Attributes:
        route: Conditioning on the LLM's states (V-U11): `aligner` maps them to one token per text
            position of a base that was trained with T5; `direct` projects the state of every
            position, as in the paper's figure, for long training; `beside` adds the aligner's
            tokens to T5's states of the caption, through a zero-initialised layer.
        aligner: The aligner. Of route `direct`, `llm_width`, `norm_eps` and `dtype` count.
        dit: Video transformer.
    """

    route: Literal["aligner", "direct", "beside"] = "aligner"
    aligner: AlignerConfig = AlignerConfig()
    dit: DiTConfig = DiTConfig()

    def __post_init__(self):
        for name in ("text_width", "text_length"):
            checks.check(
                self,
                getattr(self.aligner, name) == getattr(self.dit, name),
                f"{{aligner.{name}}} must equal {{dit.{name}}}",
            )

    def with_dit(self, **fields: Any) -> "VimiConfig":
        """Returns this config with other `fields` of its video transformer."""
        return dataclasses.replace(self, dit=dataclasses.replace(self.dit, **fields))
