# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Sampling speed of this package and of diffusers, on the same weights and inputs, side by side.

    python benchmarks/sampling.py [--case small] [--device cpu] [--rounds 3]

Times a forward of the transformer, the guided 50-step loop, and encode and decode of the VAE. On a
GPU both compute in bfloat16: ours with cuDNN attention, theirs compiled by torch. Writes
docs/results/. Needs the `test` extra.
"""

import dataclasses
import pathlib
import sys
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `tests`, which is no package of the distribution

from benchmarks import sides  # noqa: E402
from mimir_jax.config import COGVIDEOX, DiTConfig, VAEConfig  # noqa: E402
from mimir_jax.config import flags as flags_lib  # noqa: E402

PHASES = ("transformer forward", "guided loop", "VAE encode", "VAE decode")
GUIDANCE = 6.0


@dataclasses.dataclass(frozen=True)
class Size:
    """What is timed.

    Attributes:
        dit: The transformer; its sample sizes are those of the latents.
        vae: The VAE.
        steps: Of the loop.
    """

    dit: DiTConfig
    vae: VAEConfig
    steps: int = 50

    @property
    def latents(self) -> tuple[int, ...]:
        """Shape of one clip's latents (1, t, h, w, c)."""
        cfg = self.dit
        frames = -(-cfg.sample_frames // (cfg.temporal_patch or 1)) * (cfg.temporal_patch or 1)
        return (1, frames, cfg.sample_height, cfg.sample_width, cfg.out_channels)

    @property
    def video(self) -> tuple[int, ...]:
        """Shape of one clip (1, f, h, w, 3)."""
        scale = self.vae.spatial_compression
        _, frames, height, width, _ = self.latents
        return (1, 4 * (frames - 1) + 1, height * scale, width * scale, 3)


SIZES = {
    "small": Size(
        DiTConfig(
            num_layers=6, num_heads=8, head_dim=64, position="sincos", text_width=512,
            text_length=64, time_width=256, sample_frames=5, sample_height=20, sample_width=30,
        ),
        VAEConfig(
            block_channels=(32, 64, 64, 128), layers_per_block=2, norm_groups=16,
            sample_height=160, sample_width=240,
        ),
    ),
    "2b": Size(DiTConfig(**COGVIDEOX["2b"]), VAEConfig()),
    "5b": Size(DiTConfig(**COGVIDEOX["5b"]), VAEConfig()),
}  # fmt: skip


def make(size: Size, folder: pathlib.Path) -> None:
    """Saves a random pipeline of diffusers; its T5 is tiny, as no side runs it."""
    import diffusers
    import torch
    import transformers

    from mimir_jax.text import tokenizers
    from tests.models import dit_reference, vae_reference

    torch.manual_seed(0)
    tokenizers.train(["a red ball", "two green birds"], folder / "t5", kind="t5", vocab_size=300)
    config = transformers.T5Config(
        vocab_size=300, d_model=size.dit.text_width, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    diffusers.CogVideoXPipeline(
        tokenizer=tokenizers.load(folder / "t5"),
        text_encoder=transformers.T5EncoderModel(config),
        vae=vae_reference.make_reference(size.vae),
        transformer=dit_reference.make_reference(size.dit),
        scheduler=diffusers.CogVideoXDDIMScheduler(
            prediction_type="v_prediction", timestep_spacing="trailing",
            rescale_betas_zero_snr=True, snr_shift_scale=1.0,
        ),
    ).save_pretrained(str(folder / "pipeline"))  # fmt: skip


def inputs(size: Size) -> dict[str, np.ndarray]:
    """Draws what both sides get, in float32 and channels last."""
    rng = np.random.default_rng(0)
    text = (1, size.dit.text_length, size.dit.text_width)
    return {
        "latents": rng.normal(size=size.latents).astype(np.float32),
        "text": rng.normal(size=text).astype(np.float32),
        "negative": rng.normal(size=text).astype(np.float32),
        "video": rng.uniform(-1, 1, size.video).astype(np.float32),
    }


class Ours:
    """This package."""

    def __init__(self, size: Size, folder: pathlib.Path, device: str):
        flags_lib.prepare_host()
        import jax
        import jax.numpy as jnp

        import mimir_jax
        from mimir_jax.models import functional
        from mimir_jax.models.vae import autoencoder

        self._jax, self._size = jax, size
        dtype = jnp.float32 if device == "cpu" else jnp.bfloat16
        self._pipeline = mimir_jax.load_pipeline(folder / "pipeline", dtype=dtype)
        if device != "cpu":
            network = self._pipeline.transformer
            cfg = dataclasses.replace(network.model.config, attention="cudnn")
            model = functional.build(network.model.module, cfg)
            self._pipeline.transformer = network._replace(model=model)
        transformer, vae = self._pipeline.transformer, self._pipeline.vae
        self._forward = jax.jit(transformer.model.apply)
        self._encode = jax.jit(vae.model.encode)
        self._decode = jax.jit(
            lambda params, z: vae.model.decode(
                params, autoencoder.unscale_latents(vae.model.config, z)
            )
        )
        self._inputs = {name: jnp.asarray(x) for name, x in inputs(size).items()}

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        x, pipeline = self._inputs, self._pipeline
        match phase:
            case "transformer forward":
                timestep = np.array([500])
                out = self._forward(pipeline.transformer.params, x["latents"], x["text"], timestep)
            case "guided loop":
                out = pipeline(
                    prompt_embeds=x["text"],
                    negative_prompt_embeds=x["negative"],
                    latents=x["latents"],
                    num_inference_steps=self._size.steps,
                    guidance_scale=GUIDANCE,
                    output="latent",
                )
            case "VAE encode":
                out = self._encode(pipeline.vae.params, x["video"]).mean
            case "VAE decode":
                out = self._decode(pipeline.vae.params, x["latents"])
        return np.asarray(self._jax.block_until_ready(out), np.float32)


class Theirs:
    """diffusers."""

    def __init__(self, size: Size, folder: pathlib.Path, device: str):
        import diffusers
        import torch

        self._torch, self._size, self._device = torch, size, device
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        kind = diffusers.CogVideoXPipeline
        self._pipeline = kind.from_pretrained(folder / "pipeline", torch_dtype=dtype).to(device)
        self._pipeline.set_progress_bar_config(disable=True)
        if device != "cpu":
            self._pipeline.transformer = torch.compile(self._pipeline.transformer)
        self._inputs = {
            name: torch.tensor(np.moveaxis(x, -1, {"video": 1}.get(name, 2)) if x.ndim == 5 else x)
            .to(device, dtype)
            for name, x in inputs(size).items()
        }  # fmt: skip

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        with self._torch.inference_mode():
            return self._run(phase).float().cpu().numpy()

    def _run(self, phase: str) -> Any:
        from tests.models import dit_reference

        x, pipeline = self._inputs, self._pipeline
        match phase:
            case "transformer forward":
                rotary = dit_reference.rotary(self._size.dit, self._size.latents[1:4])
                if rotary is not None:
                    rotary = tuple(part.to(self._device) for part in rotary)
                out = pipeline.transformer(
                    hidden_states=x["latents"],
                    encoder_hidden_states=x["text"],
                    timestep=self._torch.tensor([500], device=self._device),
                    image_rotary_emb=rotary,
                ).sample
                return out.movedim(2, -1)
            case "guided loop":
                out = pipeline(
                    prompt_embeds=x["text"],
                    negative_prompt_embeds=x["negative"],
                    latents=x["latents"].clone(),
                    num_frames=self._size.video[1],
                    height=self._size.video[2],
                    width=self._size.video[3],
                    num_inference_steps=self._size.steps,
                    guidance_scale=GUIDANCE,
                    max_sequence_length=self._size.dit.text_length,
                    output_type="latent",
                ).frames
                return out.movedim(2, -1)
            case "VAE encode":
                return pipeline.vae.encode(x["video"]).latent_dist.mean.movedim(1, -1)
            case _:
                latents = x["latents"].movedim(2, 1) / pipeline.vae.config.scaling_factor
                return pipeline.vae.decode(latents).sample.movedim(1, -1)


def describe(size: Size, device: str) -> str:
    """Says what is timed."""
    del device
    _, frames, height, width, _ = size.video
    return (
        f"Transformer of {size.dit.num_layers} layers, width {size.dit.width}; {frames} frames of "
        f"{height} x {width}; {size.steps} guided steps."
    )


if __name__ == "__main__":
    sides.main(
        sides.Benchmark(
            name="sampling",
            sides={"ours": Ours, "diffusers": Theirs},
            phases=PHASES,
            cases=SIZES,
            make=make,
            describe=describe,
            peers=("torch", "diffusers"),
        )
    )
