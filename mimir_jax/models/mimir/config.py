# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of Mimir's network: fuser and stabilizer in front of a video transformer.

Ids such as M-U6 name choices that the Mimir paper leaves open; see `docs/choices.md`.
"""

import dataclasses
import typing
from typing import Any, Literal

from mimir_jax.config import checks
from mimir_jax.errors import require
from mimir_jax.models.config import DiTConfig, DType


@dataclasses.dataclass(frozen=True, kw_only=True)
class FuserConfig:
    """Token fuser of Mimir (Fig. 3 top). Table 3 rows are `use_llm`, `norm_scale`, `zero_conv`.

    Attributes:
        use_llm: Add the LLM branch; without it the fuser is the identity on T5.
        norm_scale: Normalise the LLM states and multiply them by a learnable scale.
        zero_conv: Put zero convolutions on both branches: Z_beta on the LLM's, Z_theta on T5's.
            Without them a plain linear P, of the shape of Z_beta, brings LLM states to T5 width.
        t5_width: Width of the T5 states.
        llm_width: Width of the LLM states.
        bridge: Where the LLM width becomes the T5 width (M-U1): `zero_conv` inside Z_beta, or
            `linear` in a plain bias-free linear before it.
        llm_align: Where the tokens of the LLM stand (M-U4): from the first position on (`left`), or
            up to the last (`right`), behind the tokens of T5 where both fit.
        llm_pad, t5_pad: What pad positions of a branch add to the sum (M-U5): `zero` nothing,
            `keep` what becomes of their states; those of LLM pads are zeros, so a bias at most.
        attend_pads: Let the DiT attend to positions where every branch has a pad (M-U5).
        norm: Normalisation of the LLM states, without affine (M-U6).
        norm_eps: Epsilon of that norm.
        scale_init, scale_shape: Start and shape of the learnable scale (M-U7). Start it at the RMS
            of the T5 features, which `models.fuser.rms` measures.
        scale_place: Scale `before` Z_beta or `after` it, the note's alpha (M-U8).
        kernel_size: Width of the zero convolutions along tokens, odd (M-U9).
        zero_conv_bias: Bias in the zero convolutions, and in P (M-U10).
        zero_conv_t5: Zero convolution on the T5 branch too, in zero-conv rows (M-U11).
        dtype: Dtype of the computation.
    """

    use_llm: bool = True
    norm_scale: bool = True
    zero_conv: bool = True
    t5_width: int = 4096
    llm_width: int = 3072
    bridge: Literal["zero_conv", "linear"] = "zero_conv"
    llm_align: Literal["left", "right"] = "left"
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
        checks.positive_sizes(self)
        for name in ("norm_scale", "zero_conv"):
            fits = self.use_llm or not getattr(self, name)
            checks.check(self, fits, f"{{{name}}} must be False without {{use_llm}}")
        checks.check(
            self,
            self.kernel_size % 2 == 1,
            "{kernel_size} must be odd",
        )
        checks.check(
            self,
            self.scale_init > 0,
            "{scale_init} must be positive (at zero neither it nor Z_beta ever moves)",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StabilizerConfig:
    """Semantic stabilizer of Mimir (Fig. 3 bottom).

    Attributes:
        enabled: Off in the Table 3 rows without SS.
        num_tokens: Instruction tokens and learnable tokens, one of each per instruction.
        t5_width: Width of the T5 states.
        llm_width: Width of the LLM states.
        use_instructions, use_learned: The two summands e_i and e_l, for ablations the paper does
            not run.
        norm: Normalisation of the instruction states, without affine (M-U14).
        norm_eps: Epsilon of that norm.
        scale_init: Start of the learnable scalar behind that norm (M-U14).
        projection_init: Start of the LLM-to-T5-width projection (M-U14).
        learned_std: Standard deviation of the learnable tokens at the start (M-U15).
        place: Stabilizer tokens `after` or `before` the fused caption tokens (M-U16).
        dtype: Dtype of the computation.
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
        checks.positive_sizes(self)
        checks.check(
            self,
            self.use_instructions or self.use_learned or not self.enabled,
            "{use_instructions} or {use_learned} must be True",
            remedy="set either, or leave the stabilizer out with {enabled}=False",
        )
        checks.check(
            self,
            self.scale_init > 0,
            "{scale_init} must be positive (at zero neither it nor a zero projection ever moves)",
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

Ablation = Literal[
    "baseline", "decoder_only", "norm", "norm_ss", "zeroconv", "zeroconv_ss", "mimir"
]
assert set(typing.get_args(Ablation)) == set(ABLATIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MimirConfig:
    """Mimir: fuser and stabilizer conditioning a video DiT (arXiv 2412.03085).

    Attributes:
        dit: Video transformer.
        fuser: Fuser of T5 and LLM states.
        stabilizer: Instruction tokens.
    """

    dit: DiTConfig = DiTConfig()
    fuser: FuserConfig = FuserConfig()
    stabilizer: StabilizerConfig = StabilizerConfig()

    def __post_init__(self):
        for part in ("fuser", "stabilizer"):
            checks.check(
                self,
                getattr(self, part).t5_width == self.dit.text_width,
                f"{{{part}.t5_width}} must equal {{dit.text_width}}",
            )
        checks.check(
            self,
            self.fuser.llm_width == self.stabilizer.llm_width,
            "{fuser.llm_width} must equal {stabilizer.llm_width}",
        )
        checks.check(
            self,
            self.fuser.dtype == self.stabilizer.dtype,
            "{fuser.dtype} must equal {stabilizer.dtype}, as their tokens are concatenated",
        )

    def with_dit(self, **fields: Any) -> "MimirConfig":
        """Returns this config with other `fields` of its video transformer."""
        return dataclasses.replace(self, dit=dataclasses.replace(self.dit, **fields))

    def with_ablation(self, row: str) -> "MimirConfig":
        """Returns this config as the Table 3 row `row` (a key of `ABLATIONS`)."""
        require(
            row in ABLATIONS,
            f"ablation must be one of {', '.join(ABLATIONS)}, got {row!r}; choose one",
        )
        flags = dict(ABLATIONS[row])
        stabilizer = dataclasses.replace(self.stabilizer, enabled=flags.pop("stabilizer"))
        fuser = dataclasses.replace(self.fuser, **flags)
        return dataclasses.replace(self, fuser=fuser, stabilizer=stabilizer)
