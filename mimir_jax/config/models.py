# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of every network: frozen dataclasses, numbers and names only.

Sizes use one vocabulary for all models (`num_layers width num_heads head_dim mlp_dim patch`).
Ids such as M-U6 name choices that the Mimir paper leaves open; see `docs/choices.md`.
"""

import dataclasses
import math
from typing import Any, Literal

from mimir_jax.errors import InputError

DType = Literal["float32", "bfloat16", "float16"]
Kernel = Literal["xla", "cudnn", "pallas", "tokamax"]
Remat = Literal["none", "products", "attention", "full"]


def require(condition: bool, message: str) -> None:
    """Raises `ValueError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)


def require_within(
    name: str,
    value: int | float | None,
    low: int | float,
    high: int | float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> None:
    """Raises `ValueError` unless `low <= value <= high`, or it is None.

    Args:
        name: Of the field, after `--config.`.
        value: Its value.
        low, high: Bounds; a value is finite all the same.
        above: Exclude `low`.
        below: Exclude `high`.
    """
    if value is None:
        return
    fine = math.isfinite(value) and low <= value <= high
    fine = fine and not (above and value == low) and not (below and value == high)
    bounds = [f"{'above' if above else 'at least'} {low}"]
    if high < math.inf:
        bounds.append(f"{'below' if below else 'at most'} {high}")
    require(
        fine, f"{name} must be {' and '.join(bounds)}, got {value}; set it with --config.{name}"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config:
    """T5 v1.1 encoder (arXiv 1910.10683). The defaults are XXL, the encoder of CogVideoX."""

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Rotary scaling of a decoder-only LLM.

    `longrope` (arXiv 2402.13753) divides the frequencies by `short_factor` up to
    `original_max_length` positions and by `long_factor` beyond; `linear` and `llama3` are the
    rules of the Llama family. `factor` is the extension of the context: what `linear` and `llama3`
    divide by, 1 unless given, and for `longrope` `max_length / original_max_length` unless given.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class LLMConfig:
    """Decoder-only LLM of the Phi-3, Llama and Mistral layouts. Defaults: Phi-3.5-mini-instruct.

    The 48-entry LongRoPE factor lists come with the weights; the default leaves plain RoPE.
    """

    vocab_size: int = 32064
    width: int = 3072
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int = 32
    head_dim: int = 96
    mlp_dim: int = 8192
    norm_eps: float = 1e-5
    tie_embeddings: bool = False
    sliding_window: int | None = None
    rope: RopeConfig = RopeConfig()
    remat: Remat = "none"
    dtype: DType = "float32"

    def __post_init__(self):
        require(
            self.num_heads % self.num_kv_heads == 0,
            "llm.num_heads must be a multiple of llm.num_kv_heads, got "
            f"{self.num_heads} and {self.num_kv_heads}; set either with --config.llm.*",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Causal 3D VAE of CogVideoX (arXiv 2408.06072); one down-sampling between two stages."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 16
    block_channels: tuple[int, ...] = (128, 256, 256, 512)
    layers_per_block: int = 3
    norm_groups: int = 32
    norm_eps: float = 1e-6
    temporal_compression: int = 4
    scaling_factor: float = 0.7
    sample_height: int = 480  # sizes the reference tiling only
    sample_width: int = 720
    frame_chunk: int = 8
    latent_chunk: int = 2
    dtype: DType = "float32"

    def __post_init__(self):
        bad = [c for c in self.block_channels if c % self.norm_groups]
        require(
            not bad,
            f"vae.block_channels must be multiples of vae.norm_groups={self.norm_groups}, "
            f"got {self.block_channels}; set either with --config.vae.*",
        )
        require(
            self.temporal_compression in (1, 2, 4, 8)
            and self.temporal_compression <= self.spatial_compression,
            "vae.temporal_compression must be 1, 2, 4 or 8 and at most the spatial compression "
            f"{self.spatial_compression}, got {self.temporal_compression}; "
            "set it with --config.vae.temporal_compression",
        )

    @property
    def spatial_compression(self) -> int:
        """Pixels per latent along height and width."""
        return 2 ** (len(self.block_channels) - 1)

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip of `frames`; only 1 and 8N+1 decode to the same length."""
        return (frames - 1) // self.temporal_compression + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """CogVideoX video transformer (arXiv 2408.06072). The defaults are the 5B text-to-video model.

    Attributes:
        temporal_patch: Latent frames per token; None for the 1.0 family (a per-frame convolution),
            2 for the 1.5 family (a linear over frames x patch x patch).
        position: `rope` rotates video queries and keys, `sincos` adds a fixed 3D table (2B),
            `rope+learned` also adds a learned table over text and video (5B-I2V).
        rope_grid: `crop` places positions on a centred crop of the native grid (1.0 models),
            `integer` counts 0..n-1 on each axis (1.5 models and the upstream trainer).
        sample_frames, sample_height, sample_width: Native size in latent units; the base grid of
            `crop` and the table size of `rope+learned`.
        ofs_width: Width of the `ofs` embedding of 1.5-I2V, None elsewhere.
        attention: Kernel: `xla` runs everywhere, `cudnn` on GPUs in 16 bits, `pallas` on TPUs,
            `tokamax` where that package is installed.
        unroll: Blocks written out in each turn of the scan over layers: compiles longer, and runs
            faster where a turn is short, as in a small model on a CPU.
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
        require(
            self.head_dim % 16 == 0,
            f"dit.head_dim must be a multiple of 16 (rotary split 1/4, 3/8, 3/8), got "
            f"{self.head_dim}; set it with --config.task.model.dit.head_dim",
        )
        for name, size in (("height", self.sample_height), ("width", self.sample_width)):
            require(
                size % self.patch == 0,
                f"dit.sample_{name} must be a multiple of dit.patch={self.patch}, got {size}; "
                f"set it with --config.task.model.dit.sample_{name}",
            )
        require(
            self.attention != "cudnn" or self.dtype != "float32",
            f"dit.attention=cudnn needs a 16-bit dit.dtype, got {self.dtype}; "
            "set either with --config.task.model.dit.*",
        )
        require(
            self.attention != "pallas" or self.dtype != "float16",
            "dit.attention=pallas needs a dit.dtype of bfloat16 or float32, got float16; "
            "set either with --config.task.model.dit.*",
        )
        require(
            self.ofs_width in (None, self.time_width),
            f"dit.ofs_width must be None or equal dit.time_width={self.time_width}, got "
            f"{self.ofs_width}; set either with --config.task.model.dit.*",
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
class DiffusionConfig:
    """Diffusion process of CogVideoX: scaled-linear betas, SNR shift, zero terminal SNR, v target.

    Attributes:
        snr_shift: s in `abar / (s + (1 - s) abar)`; 3.0 for 2B, 1.0 for the 5B family.
        stratified: Each sample of the global batch, or of the micro-batch with
            `optimizer.accumulate`, draws its timestep from its own sub-interval.
    """

    num_train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    snr_shift: float = 1.0
    zero_terminal_snr: bool = True
    stratified: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class FuserConfig:
    """Token fuser of Mimir (Fig. 3 top). Table 3 rows are `use_llm`, `norm_scale`, `zero_conv`.

    Attributes:
        use_llm: Add the LLM branch; without it the fuser is the identity on T5.
        norm_scale: Normalise the LLM states and multiply them by a learnable scale.
        zero_conv: Put zero convolutions on both branches: Z_beta on the LLM's, Z_theta on T5's.
            Without them a plain linear P, of the shape of Z_beta, brings LLM states to T5 width.
        bridge: Where the LLM width becomes the T5 width (M-U1): `zero_conv` inside Z_beta, or
            `linear` in a plain bias-free linear before it.
        llm_pad, t5_pad: What pad positions of a branch add to the sum (M-U5): `zero` nothing,
            `keep` what becomes of their states; those of LLM pads are zeros, so a bias at most.
        attend_pads: Let the DiT attend to positions where every branch has a pad (M-U5).
        norm: Normalisation of the LLM states, without affine (M-U6).
        scale_init, scale_shape: Start and shape of the learnable scale (M-U7). Start it at the RMS
            of the T5 features, which `models.fuser.rms` measures.
        scale_place: Scale `before` Z_beta or `after` it, the note's alpha (M-U8).
        kernel_size: Width of the zero convolutions along tokens, odd (M-U9).
        zero_conv_bias: Bias in the zero convolutions, and in P (M-U10).
        zero_conv_t5: Zero convolution on the T5 branch too, in zero-conv rows (M-U11).
    """

    use_llm: bool = True
    norm_scale: bool = True
    zero_conv: bool = True
    t5_width: int = 4096
    llm_width: int = 3072
    bridge: Literal["zero_conv", "linear"] = "zero_conv"
    llm_pad: Literal["zero", "keep"] = "zero"
    t5_pad: Literal["zero", "keep"] = "keep"
    attend_pads: bool = True
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_eps: float = 1e-6
    scale_init: float = 0.1
    scale_shape: Literal["scalar", "channel"] = "scalar"
    scale_place: Literal["before", "after"] = "before"
    kernel_size: int = 1
    zero_conv_bias: bool = True
    zero_conv_t5: bool = True
    dtype: DType = "float32"

    def __post_init__(self):
        require(
            self.use_llm or not (self.norm_scale or self.zero_conv),
            "fuser.norm_scale and fuser.zero_conv must be off without fuser.use_llm, got "
            f"{self.norm_scale} and {self.zero_conv}; choose a row with --config.task.ablation",
        )
        require(
            self.kernel_size > 0 and self.kernel_size % 2 == 1,
            f"fuser.kernel_size must be odd and positive, got {self.kernel_size}; "
            "set it with --config.task.model.fuser.kernel_size",
        )
        require(
            self.scale_init > 0,
            "fuser.scale_init must be positive (at zero neither it nor Z_beta ever moves), got "
            f"{self.scale_init}; set it with --config.task.model.fuser.scale_init",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StabilizerConfig:
    """Semantic stabilizer of Mimir (Fig. 3 bottom).

    Attributes:
        enabled: Off in the Table 3 rows without SS.
        num_tokens: Instruction tokens and learnable tokens, one of each per instruction.
        use_instructions, use_learned: The two summands e_i and e_l, for ablations the paper does
            not run.
        norm: Normalisation of the instruction states, without affine (M-U14).
        scale_init: Start of the learnable scalar behind that norm (M-U14).
        projection_init: Start of the LLM-to-T5-width projection (M-U14).
        learned_std: Standard deviation of the learnable tokens at the start (M-U15).
        place: Stabilizer tokens `after` or `before` the fused caption tokens (M-U16).
    """

    enabled: bool = True
    num_tokens: int = 4
    t5_width: int = 4096
    llm_width: int = 3072
    use_instructions: bool = True
    use_learned: bool = True
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_eps: float = 1e-6
    scale_init: float = 0.1
    projection_init: Literal["zero", "variance_scaling"] = "zero"
    learned_std: float = 0.02
    place: Literal["after", "before"] = "after"
    dtype: DType = "float32"

    def __post_init__(self):
        require(
            self.use_instructions or self.use_learned or not self.enabled,
            "stabilizer must use instructions, learned tokens or both, got neither; "
            "choose a row without it with --config.task.ablation",
        )
        require(
            self.num_tokens > 0,
            f"stabilizer.num_tokens must be positive, got {self.num_tokens}; "
            "choose a row without the part with --config.task.ablation",
        )
        require(
            self.scale_init > 0,
            "stabilizer.scale_init must be positive (at zero neither it nor a zero projection ever "
            f"moves), got {self.scale_init}; set it with --config.task.model.stabilizer.scale_init",
        )


ABLATIONS: dict[str, dict[str, bool]] = {  # Table 3 of the paper, row by row
    "baseline": dict(use_llm=False, norm_scale=False, zero_conv=False, stabilizer=False),
    "decoder_only": dict(use_llm=True, norm_scale=False, zero_conv=False, stabilizer=False),
    "norm": dict(use_llm=True, norm_scale=True, zero_conv=False, stabilizer=False),
    "norm_ss": dict(use_llm=True, norm_scale=True, zero_conv=False, stabilizer=True),
    "zeroconv": dict(use_llm=True, norm_scale=False, zero_conv=True, stabilizer=False),
    "zeroconv_ss": dict(use_llm=True, norm_scale=False, zero_conv=True, stabilizer=True),
    "mimir": dict(use_llm=True, norm_scale=True, zero_conv=True, stabilizer=True),
}
"""The seven rows of Mimir's Table 3 (reading of each row: papers, section 1.10)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MimirConfig:
    """Mimir: fuser and stabilizer conditioning a video DiT (arXiv 2412.03085)."""

    dit: DiTConfig = DiTConfig()
    fuser: FuserConfig = FuserConfig()
    stabilizer: StabilizerConfig = StabilizerConfig()

    def __post_init__(self):
        for part in ("fuser", "stabilizer"):
            width = getattr(self, part).t5_width
            require(
                width == self.dit.text_width,
                f"{part}.t5_width must equal dit.text_width, got {width} and "
                f"{self.dit.text_width}; set either with --config.task.model.*",
            )
        require(
            self.fuser.llm_width == self.stabilizer.llm_width,
            "fuser.llm_width must equal stabilizer.llm_width, got "
            f"{self.fuser.llm_width} and {self.stabilizer.llm_width}; "
            "set either with --config.task.model.*",
        )
        require(
            self.fuser.dtype == self.stabilizer.dtype,
            "fuser.dtype must equal stabilizer.dtype, as their tokens are concatenated, got "
            f"{self.fuser.dtype} and {self.stabilizer.dtype}; "
            "set either with --config.task.model.*",
        )

    def with_dit(self, **fields: Any) -> "MimirConfig":
        """Returns this config with other `fields` of its video transformer."""
        return dataclasses.replace(self, dit=dataclasses.replace(self.dit, **fields))

    def with_ablation(self, row: str) -> "MimirConfig":
        """Returns this config as the Table 3 row `row` (a key of `ABLATIONS`)."""
        require(
            row in ABLATIONS,
            f"ablation must be one of {', '.join(ABLATIONS)}, got {row!r}; "
            "set it with --config.task.ablation",
        )
        flags = dict(ABLATIONS[row])
        for part, name, on in (
            *(("fuser", name, flags[name]) for name in ("use_llm", "norm_scale", "zero_conv")),
            ("stabilizer", "enabled", flags["stabilizer"]),
        ):
            require(
                getattr(getattr(self, part), name) or not on,
                f"{part}.{name} must be True in row {row!r} of the ablation, got False; set "
                "--config.task.ablation=None to choose the parts one by one, or another row",
            )
        stabilizer = dataclasses.replace(self.stabilizer, enabled=flags.pop("stabilizer"))
        fuser = dataclasses.replace(self.fuser, **flags)
        return dataclasses.replace(self, fuser=fuser, stabilizer=stabilizer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters on kernels of the video transformer, whose own parameters stay frozen.

    Attributes:
        rank: Of the product of the two factors; 0 trains without adapters.
        alpha: The product counts `alpha / rank` times.
        targets: Regular expressions of the `/`-joined paths of kernels that get adapters.
        base_dtype: In which the frozen parameters are kept. Published ones are bfloat16 anyway.
    """

    rank: int = 0
    alpha: float = 16.0
    targets: tuple[str, ...] = (r"/attention/(q|k|v|out)/kernel$",)
    base_dtype: DType = "float32"

    def __post_init__(self):
        require(
            self.rank >= 0,
            f"lora.rank must be positive, or 0 for none, got {self.rank}; "
            "set it with --config.task.lora.rank",
        )
        changed = [
            field.name
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        require(
            self.rank > 0 or not changed,
            f"lora.{(changed or [''])[0]} must be left out without adapters, got lora.rank=0; set "
            "--config.task.lora.rank",
        )
        require(
            bool(self.targets),
            "lora.targets must name kernels, got none; set --config.task.lora.rank=0 for a run "
            "without adapters",
        )

    @property
    def scale(self) -> float:
        """Factor of the product; 0 without adapters."""
        return self.alpha / self.rank if self.rank else 0.0
