# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The discrete noise schedule of CogVideoX (arXiv 2408.06072) and its sampling grids.

`x_t = alpha x0 + sigma noise` with `alpha^2 + sigma^2 = 1`. Everything derives from one float64
table, because both ends need its digits: in bfloat16 the first two timesteps would have no noise.
"""

import dataclasses
import functools
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mimir_jax.config import DiffusionConfig, require

Previous = Literal["reference", "grid"]


@dataclasses.dataclass(frozen=True)
class DiscreteSchedule:
    """Scaled-linear betas, SNR shift, then zero terminal SNR (arXiv 2305.08891)."""

    config: DiffusionConfig = DiffusionConfig()

    @property
    def num_train_steps(self) -> int:
        """Number of noise levels; timesteps count from 0."""
        return self.config.num_train_steps

    @functools.cached_property
    def alphas_cumprod(self) -> Float[np.ndarray, " steps"]:
        """`alpha ** 2` of every timestep in float64."""
        cfg = self.config
        betas = np.linspace(cfg.beta_start**0.5, cfg.beta_end**0.5, cfg.num_train_steps) ** 2
        table = np.cumprod(1.0 - betas)
        table = table / (cfg.snr_shift + (1.0 - cfg.snr_shift) * table)
        if cfg.zero_terminal_snr:
            root = np.sqrt(table)
            table = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
        return table

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

    def timesteps(self, num_steps: int) -> Int[np.ndarray, " n"]:
        """Returns the trailing sampling grid, noisiest first.

        The rounding repeats the reference's sums of `num_train_steps / num_steps`, whose last bit
        decides ties at some step counts.

        Raises:
            ValueError: unless 1 <= num_steps <= num_train_steps.
        """
        total = self.num_train_steps
        require(
            1 <= num_steps <= total,
            f"sampler.steps must be within 1..{total}, got {num_steps}; "
            "set it with --config.task.sampler.steps",
        )
        grid = np.arange(total, 0, -total / num_steps)[:num_steps]
        return np.round(grid).astype(np.int64) - 1

    def previous(self, num_steps: int, rule: Previous = "reference") -> Int[np.ndarray, " n"]:
        """Returns the timestep that each sampling step leads to; -1 stands for the clean sample.

        Args:
            num_steps: Sampling steps.
            rule: `reference` goes `num_train_steps // num_steps` down, which can miss the next
                listed timestep by one; `grid` goes to the next listed timestep.
        """
        steps = self.timesteps(num_steps)
        if rule == "grid":
            return np.append(steps[1:], -1)
        return np.maximum(steps - self.num_train_steps // num_steps, -1)

    def signal(self, timestep: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Returns `alpha ** 2` on the host in float64, 1 where `timestep` is -1."""
        return np.where(timestep < 0, 1.0, self.alphas_cumprod[timestep])
