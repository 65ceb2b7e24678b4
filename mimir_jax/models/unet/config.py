# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the video U-Net."""

import dataclasses

from mimir_jax.config import checks
from mimir_jax.models.config import DType, Kernel, Remat


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Video U-Net of DynamiCrafter (arXiv 2310.12190). The defaults are that of Divot.

    Attributes:
        in_channels: Channels of the latents that it reads.
        out_channels: Channels of its prediction.
        width: Channels of the first level.
        multipliers: Channels of each level, in widths; every level halves height and width.
        blocks_per_level: Residual blocks on the way down; the way up has one more per level.
        attention_scales: Scales of the levels with attention: 1 for the first level, 2 for the one
            of half the size. The middle has attention always.
        head_dim: Width of a head.
        first_heads: Heads of the attention over time behind the first convolution.
        context_width: Width of the context rows.
        text_length: Context rows that count as text; the rows behind them count as image.
        frame_rows: Image rows of a frame, in a context that has some for each frame.
        norm_groups: Groups of the group norms.
        attention, remat, dtype: As in the video transformer.
    """

    in_channels: int = 4
    out_channels: int = 4
    width: int = 320
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks_per_level: int = 2
    attention_scales: tuple[int, ...] = (1, 2, 4)
    head_dim: int = 64
    first_heads: int = 8
    context_width: int = 1024
    text_length: int = 77
    frame_rows: int = 16
    norm_groups: int = 32
    attention: Kernel = "xla"
    remat: Remat = "none"
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.check(self, bool(self.multipliers), "{multipliers} must have a level")
        checks.check(
            self, self.width % self.norm_groups == 0, "{width} must be a multiple of {norm_groups}"
        )
        attended = [w for w, on in zip(self.widths, self.attended, strict=True) if on]
        checks.check(
            self,
            not any(width % self.head_dim for width in (*attended, self.widths[-1])),
            "{width} and {multipliers} must give levels with attention multiples of {head_dim}",
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.width * factor for factor in self.multipliers)

    @property
    def attended(self) -> tuple[bool, ...]:
        """Whether each level has attention."""
        return tuple(2**level in self.attention_scales for level in range(len(self.multipliers)))

    @property
    def time_width(self) -> int:
        """Width of the embedding of timestep and frame stride."""
        return 4 * self.width

    @property
    def reduction(self) -> int:
        """Factor between the first and the last level, which must divide height and width."""
        return 2 ** (len(self.multipliers) - 1)
