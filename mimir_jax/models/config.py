# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of text and image encoders, the video transformer and its adapters.

Sizes use one vocabulary for all models (`num_layers width num_heads head_dim mlp_dim patch`).
Ids such as M-U6 name choices that the Mimir paper leaves open; see `docs/choices.md`.
"""

import dataclasses
from typing import Any, Literal

from mimir_jax.config import checks

DType = Literal["float32", "bfloat16", "float16"]
Kernel = Literal["xla", "cudnn", "pallas", "tokamax"]
Remat = Literal["none", "dots", "attention", "full"]
Quantization = Literal["off", "int8", "int8_activations", "fp8"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config:
    """T5 v1.1 encoder (arXiv 1910.10683). The defaults are XXL, the encoder of CogVideoX.

    Attributes:
        vocab_size: Tokens.
        width: Width of the states.
        num_layers: Transformer blocks.
        num_heads: Attention heads.
        head_dim: Width of a head.
        mlp_dim: Width of the MLP.
        activation: Activation of the MLP.
        num_buckets: Buckets of the relative position bias.
        max_distance: Distance from which on all positions share a bucket.
        norm_eps: Epsilon of the norms.
        remat: Activations that the forward pass keeps, as in the video transformer.
        dtype: Dtype of the computation.
    """

    vocab_size: int = 32128
    width: int = 4096
    num_layers: int = 24
    num_heads: int = 64
    head_dim: int = 64
    mlp_dim: int = 10240
    activation: Literal["gated-gelu", "relu"] = "gated-gelu"
    num_buckets: int = 32
    max_distance: int = 128
    norm_eps: float = 1e-6
    remat: Remat = "none"
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Rotary scaling of a decoder-only LLM.

    `longrope` (arXiv 2402.13753) divides the frequencies by `short_factor` up to
    `original_max_length` positions and by `long_factor` beyond; `linear` and `llama3` are the
    rules of the Llama family. `factor` is the extension of the context: what `linear` and `llama3`
    divide by, 1 unless given, and for `longrope` `max_length / original_max_length` unless given.

    Attributes:
        kind: Rule that scales the frequencies.
        theta: Base of the frequencies.
        partial: Share of a head's width that is rotated.
        max_length: Positions that the model reads.
        original_max_length: Positions that it was trained on first.
        short_factor, long_factor: Divisors of the frequencies, for `longrope`.
        attention_factor: Factor of the rotated values; None follows from the rule.
        factor: Extension of the context.
        low_freq_factor, high_freq_factor: Bounds of the blend between scaled and plain frequencies,
            for `llama3`.
    """

    kind: Literal["default", "longrope", "linear", "llama3"] = "default"
    theta: float = 10000.0
    partial: float = 1.0
    max_length: int = 4096
    original_max_length: int = 4096
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    attention_factor: float | None = None
    factor: float | None = None
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __post_init__(self):
        checks.positive_sizes(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LLMConfig:
    """Decoder-only LLM of Phi-3, Llama, Mistral, Qwen2 or Qwen3. Defaults: Phi-3.5-mini-instruct.

    The 48-entry LongRoPE factor lists come with the weights; the default leaves plain RoPE.

    Attributes:
        vocab_size: Tokens.
        width: Width of the states.
        num_layers: Transformer blocks.
        num_heads: Attention heads of the queries.
        num_kv_heads: Attention heads of keys and values.
        head_dim: Width of a head.
        mlp_dim: Width of the gated MLP.
        qkv_bias: Whether queries, keys and values have a bias, as in Qwen2 (arXiv 2407.10671).
        qk_norm: Whether the queries and keys of each head are normalised before they are rotated,
            as in Qwen3 (arXiv 2505.09388).
        norm_eps: Epsilon of the norms.
        tie_embeddings: Use the embedding as output projection; None has no output projection, and
            the LLM gives states alone.
        sliding_window: Positions that a token attends to; None is all before it.
        query_block: Length of a block of queries, which attend to each other in both directions; an
            attention mask marks them by -1 (Divot, arXiv 2412.04432).
        rope: Rotary positions.
        remat: Activations that the forward pass keeps, as in the video transformer.
        dtype: Dtype of the computation.
    """

    vocab_size: int = 32064
    width: int = 3072
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int = 32
    head_dim: int = 96
    mlp_dim: int = 8192
    qkv_bias: bool = False
    qk_norm: bool = False
    norm_eps: float = 1e-5
    tie_embeddings: bool | None = False
    sliding_window: int | None = None
    query_block: int = 64
    rope: RopeConfig = RopeConfig()
    remat: Remat = "none"
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.check(
            self,
            self.num_heads % self.num_kv_heads == 0,
            "{num_heads} must be a multiple of {num_kv_heads}",
        )
        both = self.qkv_bias and self.qk_norm
        checks.check(self, not both, "{qkv_bias} must be off with {qk_norm}; no layout has both")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Vision transformer of CLIP (arXiv 2103.00020) or DINO (arXiv 2104.14294).

    The defaults are CLIP's ViT-L/14 at 336 pixels.

    Attributes:
        image_size: Height and width of an image, which fix the table of positions.
        patch: Height and width of a patch.
        in_channels: Channels of an image.
        width, num_layers, num_heads, mlp_dim: Sizes of the blocks, as in a T5 encoder.
        activation: Activation of the MLP: `quick_gelu` is x * sigmoid(1.702 x), `gelu` exact.
        patch_bias: Whether the projection of patches has a bias, as in DINO.
        pre_norm: Whether there is a norm before the blocks, as in CLIP.
        post_norm: Whether there is the norm of the class token after the blocks.
        norm_eps, remat, dtype: As in a T5 encoder.
    """

    image_size: int = 336
    patch: int = 14
    in_channels: int = 3
    width: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    mlp_dim: int = 4096
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    patch_bias: bool = False
    pre_norm: bool = True
    post_norm: bool = True
    norm_eps: float = 1e-5
    remat: Remat = "none"
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)
        whole = self.width % self.num_heads == 0
        checks.check(self, whole, "{width} must be a multiple of {num_heads}")
        checks.check(self, self.image_size >= self.patch, "{image_size} must be at least {patch}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResamplerConfig:
    """Perceiver resampler. The defaults are that of the tokenizer of Divot (arXiv 2412.04432).

    Attributes:
        in_width, out_width: Widths of the states that it reads and returns.
        num_queries: States that it returns, however many it reads.
        width, num_layers, num_heads, head_dim, mlp_dim: Sizes of the blocks, as in a T5 encoder.
        query_std: Deviation of the queries at the start (D-U13); None takes `width ** -0.5`, as
            published.
        norm_eps, remat, dtype: As in a T5 encoder.
    """

    in_width: int = 1024
    out_width: int = 256
    num_queries: int = 64
    width: int = 1024
    num_layers: int = 6
    num_heads: int = 16
    head_dim: int = 64
    mlp_dim: int = 4096
    query_std: float | None = None
    norm_eps: float = 1e-5
    remat: Remat = "none"
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.within(self, "query_std", 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """CogVideoX video transformer (arXiv 2408.06072). The defaults are the 5B text-to-video model.

    Attributes:
        num_layers: Transformer blocks.
        num_heads: Attention heads.
        head_dim: Width of a head; the model's width is `num_heads * head_dim`.
        in_channels: Channels that it reads: those of the latents, and of image latents where it
            takes an image.
        out_channels: Channels of its prediction.
        patch: Latent rows and columns per token.
        temporal_patch: Latent frames per token; None for the 1.0 family (a per-frame convolution),
            2 for the 1.5 family (a linear over frames x patch x patch).
        position: `rope` rotates video queries and keys, `sincos` adds a fixed 3D table (2B),
            `rope+learned` also adds a learned table over text and video (5B-I2V).
        rope_grid: `crop` places positions on a centred crop of the native grid (1.0 models),
            `integer` counts 0..n-1 on each axis (1.5 models and the upstream trainer).
        rope_theta: Base of the rotary frequencies.
        sample_frames, sample_height, sample_width: Native size in latent units; the base grid of
            `crop` and the table size of `rope+learned`.
        spatial_interpolation, temporal_interpolation: Divisors of the positions of the fixed 3D
            table.
        text_width: Width of the text states.
        text_length: Positions of the text states.
        time_width: Width of the timestep embedding.
        ofs_width: Width of the `ofs` embedding of 1.5-I2V, None elsewhere.
        mlp_ratio: Width of the MLP, in widths of the model.
        norm_eps: Epsilon of the layer norms.
        qk_norm_eps: Epsilon of the norms on queries and keys.
        attention: Kernel: `xla` runs everywhere, `cudnn` on GPUs in 16 bits, `pallas` on TPUs,
            `tokamax` where that package is installed.
        remat: Activations that the forward pass keeps: all (`none`), matrix products (`dots`),
            block inputs and attention (`attention`), or block inputs alone (`full`).
        unroll: Blocks written out in each turn of the scan over layers: compiles longer, and runs
            faster where a turn is short, as in a small model on a CPU.
        dtype: Dtype of the computation; parameters are float32.
    """

    num_layers: int = 42
    num_heads: int = 48
    head_dim: int = 64
    in_channels: int = 16
    out_channels: int = 16
    patch: int = 2
    temporal_patch: int | None = None
    position: Literal["rope", "sincos", "rope+learned"] = "rope"
    rope_grid: Literal["crop", "integer"] = "crop"
    rope_theta: float = 10000.0
    sample_frames: int = 13
    sample_height: int = 60
    sample_width: int = 90
    spatial_interpolation: float = 1.875
    temporal_interpolation: float = 1.0
    text_width: int = 4096
    text_length: int = 226
    time_width: int = 512
    ofs_width: int | None = None
    mlp_ratio: int = 4
    norm_eps: float = 1e-5
    qk_norm_eps: float = 1e-6
    attention: Kernel = "xla"
    remat: Remat = "full"
    unroll: int = 1
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.check(
            self,
            self.position == "sincos" or self.head_dim % 16 == 0,
            "{head_dim} must be a multiple of 16 (rotary split 1/4, 3/8, 3/8)",
        )
        checks.check(
            self,
            self.width % 16 == 0,
            "{num_heads} heads of {head_dim} must make a multiple of 16 (split 1/4, 3/8, 3/8)",
        )
        for name in ("sample_height", "sample_width"):
            size, learned = getattr(self, name), self.position == "rope+learned"
            fits = size >= self.patch and not (learned and size % self.patch)
            rule = "must be at least the size, and with a learned table a multiple, of"
            checks.check(self, fits, f"{{{name}}} {rule} {{patch}}")
        checks.check(
            self,
            self.attention != "cudnn" or self.dtype != "float32",
            "{dtype} must have 16 bits where {attention} is cudnn",
        )
        checks.check(
            self,
            self.attention != "pallas" or self.dtype != "float16",
            "{dtype} must be bfloat16 or float32 where {attention} is pallas",
        )
        checks.check(
            self,
            self.ofs_width in (None, self.time_width),
            "{ofs_width} must be None or equal {time_width}",
        )

    @property
    def width(self) -> int:
        """Model width."""
        return self.num_heads * self.head_dim


_COGVIDEOX_15: dict[str, Any] = dict(
    temporal_patch=2, rope_grid="integer", sample_frames=21, sample_height=300, sample_width=300
)

COGVIDEOX: dict[str, dict[str, Any]] = {
    "2b": dict(num_layers=30, num_heads=30, position="sincos"),
    "5b": dict(),
    "5b-i2v": dict(in_channels=32, position="rope+learned"),
    "1.5-5b": _COGVIDEOX_15,
    "1.5-5b-i2v": dict(_COGVIDEOX_15, in_channels=32, ofs_width=512),
}
"""The released CogVideoX transformers, as overrides of `DiTConfig`.

The 1.5 sample size is no native size: it bounds the rotary grid at 150 x 150 tokens.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters on kernels of a network, whose own parameters stay frozen.

    Attributes:
        rank: Rank of the adapters; 0 trains without them.
        alpha: Scale of the adapters, which are multiplied by `alpha / rank`.
        dropout: Dropout rate of the inputs of an adapter in training; the base reads all (D-U10).
        targets: Regular expressions of the `/`-joined paths of kernels that get adapters.
        train: Regular expressions of the paths of other parameters that train fully.
        base_dtype: Dtype of the stored frozen parameters; published ones are bfloat16.
        init_from: File or folder of adapters to start from, of this rank and these targets.
    """

    rank: int = 0
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = (r"/attention/(q|k|v|out)/kernel$",)
    train: tuple[str, ...] = ()
    base_dtype: DType = "float32"
    init_from: str | None = None

    def __post_init__(self):
        checks.within(self, "rank", 0)
        checks.within(self, "dropout", 0, 1, below=True)
        changed = checks.changed_fields(self)
        checks.check(
            self,
            self.rank > 0 or not changed,
            f"{{{(changed or ['alpha'])[0]}}} must be left out without adapters, with {{rank}}",
        )
        checks.check(
            self,
            bool(self.targets),
            "{targets} must name kernels",
            remedy="{rank}=0 trains without adapters",
        )

    @property
    def scale(self) -> float:
        """Factor of the product; 0 without adapters."""
        return self.alpha / self.rank if self.rank else 0.0
