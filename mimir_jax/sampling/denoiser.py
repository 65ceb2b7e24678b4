# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Features to latents: the compiled loop of a sampler, with guidance on every device of a mesh."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from mimir_jax.config import SamplerConfig
from mimir_jax.diffusion import guidance, samplers
from mimir_jax.diffusion import windows as windows_lib
from mimir_jax.errors import DivergenceError, listed
from mimir_jax.models import functional
from mimir_jax.parallel import context, distributed
from mimir_jax.sampling import latents as latents_lib
from mimir_jax.systems import base

AnyArray = Array | np.ndarray


class Denoiser:
    """Draws latents with the network of a system; compiled once per shape and sampler.

    Args:
        system: Network and null rule.
        mesh: Devices that the rows are spread over; None stands for one device, or for the mesh of
            the training run around it.
    """

    def __init__(self, system: base.DiffusionSystem, mesh: Mesh | None):
        self._mesh = mesh
        self._denoise = latents_lib.make_denoise(system)

    def __call__(
        self,
        params: functional.Params,
        features: Any,
        null: tuple[Any, Bool[AnyArray, " rows"]] | None,
        shape: tuple[int, ...],
        sampler: samplers.Sampler,
        cfg: SamplerConfig,
        *,
        key: Array | None,
        latents: AnyArray | None = None,
        noise: AnyArray | None = None,
        known: samplers.Known | None = None,
        windows: windows_lib.Windows | None = None,
        text: Any = None,
    ) -> Float[Array, "b t h w c"]:
        """Returns scaled latents of videos.

        Args:
            params: Parameters of the network.
            features: Features of the requests.
            null: Features of the unconditional branch, and its rows with the null rule; None
                without guidance.
            shape: Shape of the result (b, t, h, w, c).
            sampler: Takes the steps.
            cfg: Guidance and shortcuts.
            key: Draws what of `latents` and `noise` is not given; one, or one per row.
            latents: Noise to start from, padded.
            noise: Noise of every step of a stochastic sampler, padded.
            known: Latents to start from or to keep, padded.
            windows: Windows over the padded latents of long videos.
            text: Features of the prompts alone, where images have a scale of their own.

        Raises:
            DivergenceError: for latents that do not stay finite, with the step and the videos.
        """
        cfg = dataclasses.replace(cfg, steps=sampler.num_steps - sampler.skip)
        scales = None
        if null is not None:
            scales = guidance.scales(cfg, sampler.schedule, sampler.times())
        if text is not None:
            text = (text, guidance.image_scales(cfg, sampler.schedule, sampler.times()))
        arrays = (features, null, scales, key, latents, noise, known, text)
        if self._mesh is not None:
            arrays = jax.device_put(arrays, NamedSharding(self._mesh, P()))
        options = dict(
            sampler=sampler,
            shape=shape,
            rescale=cfg.guidance_rescale,
            shortcuts=cfg.shortcuts,
            windows=windows,
        )
        with context.use_mesh(self._mesh):
            drawn = self._denoise(params, *arrays, **options)
            if not bool(jnp.isfinite(drawn).all()):
                finite = self._denoise(params, *arrays, **options, trace=True)
                raise _diverged(np.asarray(distributed.to_host(finite)))
        return drawn


def _diverged(finite: Bool[np.ndarray, "steps b"]) -> DivergenceError:
    """Returns the error of rows that did not stay finite."""
    steps, rows = finite.shape
    bad = [row + 1 for row in range(rows) if not finite[:, row].all()]
    first = int(np.argmin(finite.all(axis=1))) + 1 if bad else steps
    return DivergenceError(
        f"videos must stay finite, step {first} of {steps} gave values that are not"
        f"{f' (video {listed(list(map(str, bad)))} of {rows})' if bad else ''}; lower "
        "--guidance_scale, sample with --dtype float32, or take another checkpoint"
    )
