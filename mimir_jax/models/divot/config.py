# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the tokenizer of clips and of what joins an LLM with its tokens.

The defaults are Divot's (arXiv 2412.04432), on OpenCLIP ViT-H/14 and Mistral-7B.
"""

import dataclasses
from typing import Any, Literal

from mimir_jax.config import checks
from mimir_jax.models.config import (
    DiTConfig,
    DType,
    LLMConfig,
    Remat,
    ResamplerConfig,
    RopeConfig,
    ViTConfig,
)
from mimir_jax.models.unet.config import UNetConfig
from mimir_jax.models.vae.config import ImageVAEConfig

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

MAX_CLIPS = 20
"""Clips of a video that Divot reads at most."""


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
    max_inputs: int = MAX_CLIPS
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


def _check_sizes(config: "TemporalConfig | SpaceTimeConfig") -> None:
    checks.positive_sizes(config)
    checks.within(config, "position_std", 0)
    whole = config.width % config.num_heads == 0
    checks.check(config, whole, "{width} must be a multiple of {num_heads}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """Transformer over the frames of each patch, with QuickGELU.

    Attributes:
        width, num_layers, num_heads, mlp_dim: Sizes of the blocks, as in a T5 encoder.
        start: Fresh parameters (D-U3): from `zero` its output is zero and its blocks are the
            identity, as in Divot; from `random` all kernels are drawn.
        position_std: Deviation of the positions of frames at the start (D-U13); None takes 0 with
            `zero` and 0.01 with `random`.
        norm_eps, remat, dtype: As in a T5 encoder.
    """

    width: int = 768
    num_layers: int = 6
    num_heads: int = 12
    mlp_dim: int = 3072
    start: Literal["zero", "random"] = "zero"
    position_std: float | None = None
    norm_eps: float = 1e-6
    remat: Remat = "none"
    dtype: DType = "float32"

    def __post_init__(self):
        _check_sizes(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpaceTimeConfig:
    """Transformer over the pooled patches of all frames, with exact GELU.

    Attributes:
        width, num_layers, num_heads, mlp_dim: Sizes of the blocks, as in a T5 encoder. The
            temporal transformer returns states of this width.
        position_std: Deviation of the positions of patches and frames at the start (D-U13); None
            takes `width ** -0.5`, as published.
        norm_eps: Epsilon of the norm before it and of those in its blocks.
        out_norm_eps: Epsilon of the norm after its blocks.
        remat, dtype: As in a T5 encoder.
    """

    width: int = 1024
    num_layers: int = 4
    num_heads: int = 8
    mlp_dim: int = 4096
    position_std: float | None = None
    norm_eps: float = 1e-6
    out_norm_eps: float = 1e-5
    remat: Remat = "none"
    dtype: DType = "float32"

    def __post_init__(self):
        _check_sizes(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DivotTokenizerConfig:
    """Tokenizer of clips. The defaults are Divot's on OpenCLIP ViT-H/14.

    Attributes:
        frames: Frames of a clip that it reads.
        frame_size: Height and width that preparation crops frames to. The network itself resizes
            frames of any size to those of its image tower.
        pool: Rows and columns of patches that are left of a frame.
        vit: Image tower, which never trains.
        temporal: Transformer over the frames of each patch.
        space_time: Transformer over the pooled patches of all frames.
        tokens: How tokens are made (D-U14): by a perceiver `resampler`, whose queries have no
            place, as in Divot; or tied to `patches`, an ablation.
        token_pool: Rows and columns of the tokens of a frame, where they are tied to patches.
        resampler: Perceiver resampler that makes the tokens. With `patches`, the widths and
            `norm_eps` alone are read.
    """

    frames: int = 5
    frame_size: int = 256
    pool: int = 5
    tokens: Literal["resampler", "patches"] = "resampler"
    token_pool: int = 4
    vit: ViTConfig = ViTConfig(
        image_size=224,
        width=1280,
        num_layers=32,
        mlp_dim=5120,
        activation="gelu",
        post_norm=False,
    )
    temporal: TemporalConfig = TemporalConfig()
    space_time: SpaceTimeConfig = SpaceTimeConfig()
    resampler: ResamplerConfig = ResamplerConfig()

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.check(
            self,
            self.space_time.width == self.resampler.in_width,
            "{space_time.width} must equal {resampler.in_width}, which reads its states",
        )
        checks.check(
            self,
            self.pool <= self.grid,
            f"{{pool}} must be at most the {self.grid} rows of patches of the image tower",
        )
        checks.check(
            self,
            self.tokens == "resampler" or self.token_pool <= self.pool,
            "{token_pool} must be at most {pool}, the rows of patches that are left of a frame",
        )
        colours = self.vit.in_channels == 3
        checks.check(self, colours, "{vit.in_channels} must be 3, red, green and blue")
        for part in ("vit", "temporal", "space_time"):
            same = getattr(self, part).dtype == self.dtype
            checks.check(self, same, f"{{{part}.dtype}} must equal {{resampler.dtype}}")

    @property
    def dtype(self) -> DType:
        """Dtype of the computation."""
        return self.resampler.dtype

    @property
    def num_tokens(self) -> int:
        """Tokens of a clip."""
        if self.tokens == "patches":
            return self.frames * self.token_pool**2
        return self.resampler.num_queries

    @property
    def token_width(self) -> int:
        """Numbers of a token."""
        return self.resampler.out_width

    @property
    def grid(self) -> int:
        """Rows and columns of patches of a frame."""
        return self.vit.image_size // self.vit.patch


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipCaptionerConfig:
    """Tokenizer of clips with an LLM that tells its clips (D-U15).

    Attributes:
        tokenizer: The tokenizer.
        llm: The LLM; its vocabulary holds the delimiters and index tokens of clips.
    """

    tokenizer: DivotTokenizerConfig = DivotTokenizerConfig()
    llm: LLMConfig = dataclasses.replace(MISTRAL_7B, vocab_size=32262)

    def __post_init__(self):
        same = self.tokenizer.dtype == self.llm.dtype
        checks.check(self, same, "{tokenizer.resampler.dtype} must equal {llm.dtype}")

    @property
    def dtype(self) -> DType:
        """Dtype of the computation."""
        return self.llm.dtype

    @property
    def projector(self) -> ProjectorConfig:
        """The projector of clip tokens."""
        return ProjectorConfig(
            token_width=self.tokenizer.token_width, llm_width=self.llm.width, dtype=self.dtype
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiTDetokenizerConfig:
    """De-tokenizer whose network is a video transformer of the CogVideoX kind.

    Attributes:
        resampler: From clip tokens to the rows that the transformer reads in place of a text.
        dit: The transformer.
    """

    resampler: ResamplerConfig = ResamplerConfig(in_width=256, out_width=4096, num_queries=125)
    dit: DiTConfig = DiTConfig()

    def __post_init__(self):
        checks.check(
            self,
            self.resampler.out_width == self.dit.text_width,
            "{resampler.out_width} must equal {dit.text_width}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetDetokenizerConfig:
    """De-tokenizer whose network is the video U-Net of DynamiCrafter.

    Attributes:
        resampler: From clip tokens to the rows that the U-Net reads as its context.
        unet: The U-Net.
        fs: Frame stride, an input of the U-Net.
    """

    resampler: ResamplerConfig = ResamplerConfig(in_width=256, out_width=1024, num_queries=125)
    unet: UNetConfig = UNetConfig()
    fs: int = 3

    def __post_init__(self):
        checks.within(self, "fs", 0)
        checks.check(
            self,
            self.resampler.out_width == self.unet.context_width,
            "{resampler.out_width} must equal {unet.context_width}",
        )
        checks.check(
            self,
            self.unet.out_channels == self.unet.in_channels,
            "{unet.out_channels} must equal {unet.in_channels}",
        )

    @property
    def dtype(self) -> DType:
        """Dtype of the computation."""
        return self.unet.dtype


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedDetokenizerConfig(UNetDetokenizerConfig):
    """De-tokenizer of the published weights: with the VAE and the noise levels of its file.

    Attributes:
        resampler, unet, fs: As in `UNetDetokenizerConfig`.
        vae: The VAE of its latents.
        schedule: Noise levels: those that its `checkpoint` stores, where it stores any, as the
            published code takes them, or the ones `computed` from the betas (D-U12).
        stored: alpha ** 2 of every timestep in the checkpoint; empty where it stores none.
    """

    vae: ImageVAEConfig = ImageVAEConfig()
    schedule: Literal["checkpoint", "computed"] = "checkpoint"
    stored: tuple[float, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        checks.check(
            self,
            self.vae.latent_channels == self.unet.in_channels,
            "{vae.latent_channels} must equal {unet.in_channels}",
        )

    @property
    def network(self) -> UNetDetokenizerConfig:
        """Resampler and U-Net alone."""
        return UNetDetokenizerConfig(resampler=self.resampler, unet=self.unet, fs=self.fs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DivotConfig:
    """Tokenizer and de-tokenizer of Divot.

    Attributes:
        tokenizer: Frames of a clip to its tokens.
        detokenizer: Tokens to the video, by a video transformer or by a U-Net.
    """

    tokenizer: DivotTokenizerConfig = DivotTokenizerConfig()
    detokenizer: DiTDetokenizerConfig | UNetDetokenizerConfig = DiTDetokenizerConfig()

    def __post_init__(self):
        checks.check(
            self,
            self.tokenizer.resampler.out_width == self.detokenizer.resampler.in_width,
            "{detokenizer.resampler.in_width} must equal {tokenizer.resampler.out_width}",
        )

    def with_dit(self, **fields: Any) -> "DivotConfig":
        """Returns this config with other `fields` of its video transformer, which it must have."""
        dit = dataclasses.replace(self.detokenizer.dit, **fields)
        detokenizer = dataclasses.replace(self.detokenizer, dit=dit)
        return dataclasses.replace(self, detokenizer=detokenizer)
