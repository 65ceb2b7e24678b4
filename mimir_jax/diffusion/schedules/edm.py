# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The continuous schedule of EDM (arXiv 2206.00364): `xt = x0 + sigma noise`, time is sigma.

The network sees inputs and targets of unit variance at every noise level:

    D(xt, sigma) = c_skip xt + c_out F(c_in xt, c_noise)

    c_skip = sd^2 / (sigma^2 + sd^2)          c_in    = 1 / sqrt(sigma^2 + sd^2)
    c_out  = sigma sd / sqrt(sigma^2 + sd^2)  c_noise = ln(sigma) / 4

with `sd` the standard deviation of the data. The loss weighs the squared error of D by
`1 / c_out^2`, so every level counts equally for F.
"""

import dataclasses
import math
import statistics
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special
from jaxtyping import Array, Float

from mimir_jax.config import EDMConfig
from mimir_jax.diffusion.schedules import base

_EDGE = 1e-6  # shares beyond which the tails of the normal distribution of ln(sigma) are cut


class Scalings(NamedTuple):
    """The four coefficients of the preconditioning, one per row."""

    skip: Float[Array, " b"]
    out: Float[Array, " b"]
    into: Float[Array, " b"]
    noise: Float[Array, " b"]


@dataclasses.dataclass(frozen=True)
class EDMSchedule:
    """Noise levels in `sigma_min..sigma_max`, drawn log-normally in training.

    Attributes:
        config: Range of sigma, spacing of the sampling grid, training distribution.
    """

    config: EDMConfig = EDMConfig()
    prediction: ClassVar[base.Kind] = "x0"

    def alpha(self, time: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns the weight of the clean sample, 1."""
        return jnp.ones_like(time)

    def sigma(self, time: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns the weight of the noise, which is the time."""
        return time

    def scalings(self, sigma: Float[Array, " b"]) -> Scalings:
        """Returns `c_skip, c_out, c_in, c_noise`."""
        data = self.config.sigma_data
        root = jnp.sqrt(sigma**2 + data**2)
        return Scalings((data / root) ** 2, sigma * data / root, 1.0 / root, jnp.log(sigma) / 4.0)

    def precondition(self, network: base.Predict) -> base.Predict:
        """Returns D, which predicts the clean sample, from the network F."""

        def denoiser(xt: Array, time: Array, condition: Any, aux: Any) -> tuple[Array, Any]:
            c = self.scalings(time)
            skip, out, into = (
                jax.lax.expand_dims(x, range(1, xt.ndim)) for x in (c.skip, c.out, c.into)
            )
            wide = xt.astype(skip.dtype)
            pred, aux = network((into * wide).astype(xt.dtype), c.noise, condition, aux)
            return skip * wide + out * pred.astype(skip.dtype), aux

        return denoiser

    def loss_weight(self, time: Float[Array, " b"]) -> Float[Array, " b"]:
        """Returns `1 / c_out^2`."""
        return 1.0 / self.scalings(time).out ** 2

    def sample_times(self, key: Array, batch: int) -> Float[Array, "{batch}"]:
        """Draws noise levels with normally distributed logarithm."""
        return self._quantile(base.fractions(key, batch, self.config.stratified))

    def band_times(self, band: Array | int, bands: int, batch: int) -> Float[Array, "{batch}"]:
        """Returns noise levels spread evenly over one of `bands` shares of the training draws."""
        place = (jnp.arange(batch) + 0.5) / batch
        return self._quantile((band + place) / bands)

    def band_names(self, bands: int) -> list[str]:
        """Returns `sigmaLOW_HIGH` for each band."""
        normal = statistics.NormalDist(self.config.log_mean, self.config.log_std)
        shares = np.clip(np.linspace(0.0, 1.0, bands + 1), _EDGE, 1.0 - _EDGE)
        edges = [f"{math.exp(normal.inv_cdf(share)):.3g}" for share in shares]
        return [f"sigma{low}_{high}" for low, high in zip(edges, edges[1:], strict=False)]

    def grid(self, num_steps: int) -> Float[np.ndarray, " n"]:
        """Returns the noise levels of sampling in float64, from `sigma_max` to `sigma_min`.

        They are equally spaced in `sigma^(1 / rho)`; sampling ends at 0 after the last one.
        """
        cfg = self.config
        high, low = cfg.sigma_max ** (1.0 / cfg.rho), cfg.sigma_min ** (1.0 / cfg.rho)
        return np.linspace(high, low, num_steps) ** cfg.rho

    def _quantile(self, fraction: Float[Array, " b"]) -> Float[Array, " b"]:
        """Returns the noise level below which `fraction` of the training draws are."""
        fraction = jnp.clip(fraction, _EDGE, 1.0 - _EDGE)
        return jnp.exp(self.config.log_mean + self.config.log_std * special.ndtri(fraction))
