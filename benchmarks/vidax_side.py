# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""vidax, the other JAX library that runs CogVideoX, as a side of `sampling.py`.

    pip install --no-deps --target DIR vidax==0.1.0
    PYTHONPATH=DIR python benchmarks/sampling.py

It has the published sizes as constants of its modules, which other sizes replace here. The guided
loop is that of its documentation: a compiled transformer on both branches, under a Python loop.
"""

import functools
import importlib.util
import pathlib
from typing import Any

import numpy as np

FILE = "diffusion_pytorch_model.safetensors"


def installed() -> bool:
    """Returns whether vidax can be imported."""
    return importlib.util.find_spec("vidax") is not None


class Vidax:
    """The side of vidax, on a CPU in float32.

    Args:
        size: A `sampling.Size` without rotary positions.
        folder: Holds the folder `pipeline` of diffusers.
        inputs: The inputs of all sides, by name.
        guidance: Scale of guidance.
        forwards: Forward passes of their phase.
    """

    def __init__(
        self,
        size: Any,
        folder: pathlib.Path,
        inputs: dict[str, Any],
        guidance: float,
        forwards: int,
    ):
        import jax
        import jax.numpy as jnp
        from vidax.models.cogvideo import dit, vae
        from vidax.translator.mappings import load_torch_checkpoint_to_jax as load

        cfg, self._jax, self._size, self._guidance = size.dit, jax, size, guidance
        self._forwards = forwards
        dit.TIME_EMBED_DIM = cfg.time_width
        vae.BLOCK_OUT_CHANNELS = size.vae.block_channels
        vae.LAYERS_PER_BLOCK = size.vae.layers_per_block
        vae.NUM_GROUPS = size.vae.norm_groups
        network = dit.CogVideoXDiT(
            num_layers=cfg.num_layers, num_attention_heads=cfg.num_heads,
            use_rotary_positional_embeddings=False, max_text_seq_length=cfg.text_length,
            sample_height=cfg.sample_height, sample_width=cfg.sample_width,
            compute_dtype=jnp.float32,
        )  # fmt: skip
        codec = vae.CogVideoXVAE(enable_tiling=False)
        place = folder / "pipeline"
        self._params, self._vae = (
            jax.tree.map(jnp.asarray, load(str(place / part / FILE), kind))
            for part, kind in (("transformer", "cogvideox_dit"), ("vae", "cogvideox_vae"))
        )
        self._network = jax.jit(network.apply)
        self._encode, self._decode = (
            jax.jit(functools.partial(codec.apply, method=method))
            for method in (codec.encode, codec.decode)
        )
        self._inputs = {name: jnp.asarray(x) for name, x in inputs.items()}

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        x = self._inputs
        match phase:
            case "transformer forward":
                latents = self._jax.numpy.moveaxis(x["latents"], -1, 2)
                for _ in range(self._forwards):
                    out = self._network(self._params, latents, x["text"], np.array([500]))
                    self._jax.block_until_ready(out)
                out = np.moveaxis(np.asarray(out), 2, -1)
            case "guided loop":
                out = self._loop()
            case "VAE encode":
                out = self._encode(self._vae, x["video"])[0]
            case "VAE decode":
                out = self._decode(self._vae, x["latents"] / self._size.vae.scaling_factor)
        return np.asarray(self._jax.block_until_ready(out), np.float32)

    def _loop(self) -> np.ndarray:
        from vidax.schedulers.cogvideox import CogVideoXDDIMScheduler

        jnp, x = self._jax.numpy, self._inputs
        scheduler = CogVideoXDDIMScheduler(self._size.steps)
        text = jnp.concatenate([x["negative"], x["text"]])
        latents = jnp.moveaxis(x["latents"], -1, 2)
        for step in scheduler.timesteps:
            pair = jnp.concatenate([latents, latents])
            pred = self._network(self._params, pair, text, np.array([step, step]))
            uncond, cond = jnp.split(pred, 2)
            pred = uncond + self._guidance * (cond - uncond)
            latents = scheduler.step(pred, int(step), latents)[0].astype(jnp.float32)
        return np.moveaxis(np.asarray(latents), 2, -1)
