# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The discrete noise schedule of CogVideoX (arXiv 2408.06072) and its sampling grids.

`x_t = alpha x0 + sigma noise` with `alpha^2 + sigma^2 = 1`. Everything derives from one float64
table because both ends need the precision: in bfloat16 the first two timesteps have no noise.
"""

import dataclasses
import functools
from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mimir_jax.config import DiffusionConfig
from mimir_jax.diffusion.schedules import base
from mimir_jax.errors import require

Previous = Literal["reference", "grid"]
Spacing = Literal["trailing", "leading", "linspace", "strided"]
BetaSchedule = Literal["scaled_linear", "linear", "squaredcos_cap_v2"]

_MAX_BETA = 0.999  # of the cosine schedule


@dataclasses.dataclass(frozen=True)
class DiscreteSchedule:
    """Betas, SNR shift, then zero terminal SNR (arXiv 2305.08891).

    Attributes:
        config: Number of noise levels, range of the betas, shift and end.
        beta_schedule: How betas grow from `beta_start` to `beta_end`: `linear`, or
            `scaled_linear` in their square roots; `squaredcos_cap_v2` follows a squared cosine
            (arXiv 2102.09672) and reads neither. CogVideoX is trained with `scaled_linear`.
        trained_betas: The beta of every noise level, in place of `beta_schedule`.
        trained_levels: `alpha ** 2` of every timestep, in place of all the above.
    """

    config: DiffusionConfig = DiffusionConfig()
    beta_schedule: BetaSchedule = "scaled_linear"
    trained_betas: tuple[float, ...] | None = None
    trained_levels: tuple[float, ...] | None = None
    prediction: ClassVar[base.Kind] = "velocity"

    @property
    def num_train_steps(self) -> int:
        """Number of noise levels; timesteps count from 0."""
        return self.config.num_train_steps

    @functools.cached_property
    def alphas_cumprod(self) -> Float[np.ndarray, " steps"]:
        """`alpha ** 2` of every timestep in float64.

        Raises:
            InputError: unless it falls from below 1 to no less than 0.
        """
        if self.trained_levels is not None:
            return self._given_levels(self.trained_levels)
        cfg, betas = self.config, self._betas()
        with np.errstate(divide="ignore", invalid="ignore"):  # the check below refuses the result
            table = np.cumprod(1.0 - betas, dtype=np.float64).astype(betas.dtype)
            table = table / (cfg.snr_shift + (1.0 - cfg.snr_shift) * table)
            if cfg.zero_terminal_snr:
                root = np.sqrt(table)
                table = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
        table = table.astype(np.float64)
        require(
            bool(table[0] < 1.0 and table[-1] >= 0.0 and (np.diff(table) < 0.0).all()),
            "alpha ** 2 must fall from below 1 to no less than 0 over the timesteps, got "
            f"{table[0]:.6g} to {table[-1]:.6g}; choose betas within 0..1 and a positive snr_shift",
        )
        return table

    def _given_levels(self, levels: tuple[float, ...]) -> Float[np.ndarray, " steps"]:
        """Returns a table that was given; one of 16 bits may repeat a level."""
        table = np.array(levels, np.float64)
        falls = bool((np.diff(table) <= 0.0).all() and table[0] < 1.0 and table[-1] >= 0.0)
        require(
            len(table) == self.num_train_steps and falls,
            f"trained_levels must be {self.num_train_steps} levels that fall from below 1 to no "
            f"less than 0, got {len(table)} from {table[0]:.6g} to {table[-1]:.6g}; compute them",
        )
        return table

    def _betas(self) -> Float[np.ndarray, " steps"]:
        """Returns the betas: float64 for `scaled_linear`, else float32, as the reference has them.

        The whole table is computed in that dtype, as its rounding near the end matters.
        """
        cfg, steps = self.config, self.config.num_train_steps
        if self.trained_betas is not None:
            require(
                len(self.trained_betas) == steps,
                f"trained_betas must have num_train_steps={steps} entries, got "
                f"{len(self.trained_betas)}; set either",
            )
            return np.array(self.trained_betas, np.float32)
        match self.beta_schedule:
            case "scaled_linear":
                return np.linspace(cfg.beta_start**0.5, cfg.beta_end**0.5, steps) ** 2
            case "linear":
                return np.linspace(cfg.beta_start, cfg.beta_end, steps).astype(np.float32)
            case "squaredcos_cap_v2":
                level = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
                betas = np.minimum(1.0 - level[1:] / level[:-1], _MAX_BETA)
                return betas.astype(np.float32)

    def alpha(self, timestep: Int[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns the weight of the clean sample."""
        return jnp.asarray(np.sqrt(self.alphas_cumprod))[timestep]

    def sigma(self, timestep: Int[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns the weight of the noise."""
        return jnp.asarray(np.sqrt(1.0 - self.alphas_cumprod))[timestep]

    def logsnr(self, timestep: Int[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns `log(alpha^2 / sigma^2)`; minus infinity at a zero terminal SNR."""
        with np.errstate(divide="ignore"):
            table = np.log(self.alphas_cumprod) - np.log1p(-self.alphas_cumprod)
        return jnp.asarray(table)[timestep]

    def precondition(self, network: base.Predict) -> base.Predict:
        """Returns `network`, which predicts the velocity from `xt` and the timestep."""
        return network

    def loss_weight(self, time: Int[Array, " b"]) -> None:
        """Returns None: the error of the velocity counts alike at every timestep."""

    def sample_times(self, key: Array, batch: int) -> Int[Array, "{batch}"]:
        """Draws timesteps by the density of the config, each from its own share if it says so."""
        steps = self.num_train_steps
        place = base.fractions(key, batch, self.config.stratified)
        if self.config.timestep_power != 1.0:
            place = place ** (1.0 / self.config.timestep_power)
        return jnp.minimum((place * steps).astype(jnp.int32), steps - 1)

    def band_times(self, band: Array | int, bands: int, batch: int) -> Int[Array, "{batch}"]:
        """Returns timesteps spread evenly over one of `bands` equal ranges."""
        place = (jnp.arange(batch) + 0.5) / batch
        return ((band + place) * (self.num_train_steps / bands)).astype(jnp.int32)

    def band_names(self, bands: int) -> list[str]:
        """Returns `tLOW_HIGH` for each of `bands` ranges of timesteps."""
        edges = np.linspace(0, self.num_train_steps, bands + 1).astype(int)
        return [f"t{low}_{high}" for low, high in zip(edges, edges[1:], strict=False)]

    def timesteps(
        self, num_steps: int, spacing: Spacing = "trailing", offset: int = 0
    ) -> Int[np.ndarray, " n"]:
        """Returns the sampling grid, noisiest first.

        The rounding repeats the reference's sums of `num_train_steps / num_steps`, whose last bit
        decides ties at some step counts; there the reference may also list one step too many.

        Args:
            num_steps: Sampling steps.
            spacing: `trailing` starts at the noisiest timestep; `leading` ends at `offset`, in
                steps of `num_train_steps // num_steps`; `linspace` has both ends (arXiv 2305.08891,
                table 2); `strided` is `leading` to the end of the table, which may take more than
                `num_steps` steps.
            offset: Added to a `leading` or `strided` grid; the others ignore it.

        Raises:
            InputError: unless 1 <= num_steps <= num_train_steps and the grid is within the table.
        """
        total = self.num_train_steps
        require(
            1 <= num_steps <= total,
            f"sampler.steps must be within 1..{total}, got {num_steps}; change the steps",
        )
        match spacing:
            case "trailing":
                grid = np.arange(total, 0, -total / num_steps)[:num_steps]
                return np.round(grid).astype(np.int64) - 1
            case "linspace":
                return np.round(np.linspace(0, total - 1, num_steps))[::-1].astype(np.int64)
            case "leading" | "strided":
                stride = total // num_steps
                count = num_steps if spacing == "leading" else -(-total // stride)
                grid = np.arange(count)[::-1] * stride + offset
                require(
                    bool(grid[-1] >= 0 and grid[0] < total),
                    f"{spacing} timesteps must be within 0..{total - 1}, got {grid[-1]}..{grid[0]} "
                    f"with steps_offset={offset} and {num_steps} steps; choose another number of "
                    "steps, or another offset",
                )
                return grid

    def previous(
        self,
        num_steps: int,
        rule: Previous = "reference",
        spacing: Spacing = "trailing",
        offset: int = 0,
    ) -> Int[np.ndarray, " n"]:
        """Returns the timestep at which each sampling step ends; -1 stands for the clean end.

        Args:
            num_steps: Sampling steps.
            rule: `reference` goes `num_train_steps // num_steps` down, which can miss the next
                listed timestep; `grid` goes to the next listed timestep.
            spacing: As in `timesteps`.
            offset: As in `timesteps`.
        """
        steps = self.timesteps(num_steps, spacing, offset)
        if rule == "grid":
            return np.append(steps[1:], -1)
        return np.maximum(steps - self.num_train_steps // num_steps, -1)

    def signal(self, timestep: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Returns `alpha ** 2` on the host in float64, 1 where `timestep` is -1."""
        return np.where(timestep < 0, 1.0, self.alphas_cumprod[timestep])
