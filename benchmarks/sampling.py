# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Sampling speed of mimir_jax and diffusers on the same weights and inputs.

    python benchmarks/sampling.py [--case small] [--device cpu] [--rounds 3]

Times a forward pass of the transformer, the guided loop, and encode and decode of the VAE, as far
as a case has them. On a GPU all sides compute in bfloat16: ours with cuDNN attention, diffusers
with blocks that torch compiles, once with the attention that torch chooses and once with cuDNN's.
On a CPU vidax is a third side where it is installed (`vidax_side.py`). Writes docs/results/. Needs
the `test` extra.
"""

import dataclasses
import functools
import pathlib
import sys
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `tests`, which is no package of the distribution

from benchmarks import harness, vidax_side  # noqa: E402
from mimir_jax.cli import host  # noqa: E402
from mimir_jax.config import (  # noqa: E402
    COGVIDEOX,
    DiTConfig,
    Kernel,
    SamplerConfig,
    VAEConfig,
)

PHASES = ("transformer forward", "guided loop", "VAE encode", "VAE decode")
TRANSFORMER, VAE = PHASES[:2], PHASES[2:]
GUIDANCE = 6.0


@dataclasses.dataclass(frozen=True)
class Size:
    """Networks and phases of a case.

    Attributes:
        dit: The transformer; its sample sizes are those of the latents.
        vae: The VAE.
        steps: Steps of the guided loop.
        forwards: Forward passes of their phase. For the first tenths of a second after a pause, a
            process has one core of a CPU rather than all, so a phase should last longer.
        phases: The timed ones of `PHASES`.
    """

    dit: DiTConfig
    vae: VAEConfig
    steps: int = 50
    forwards: int = 5
    phases: tuple[str, ...] = PHASES

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
        steps=10,
    ),
    "tiny": Size(
        DiTConfig(
            num_layers=4, num_heads=4, head_dim=64, position="sincos", text_width=512,
            text_length=64, time_width=256, sample_frames=3, sample_height=12, sample_width=18,
        ),
        VAEConfig(
            block_channels=(32, 64, 64, 128), layers_per_block=2, norm_groups=16,
            sample_height=96, sample_width=144,
        ),
        forwards=100,
    ),
    "2b": Size(DiTConfig(**COGVIDEOX["2b"]), VAEConfig(), steps=10, phases=TRANSFORMER),
    "5b": Size(DiTConfig(**COGVIDEOX["5b"]), VAEConfig(), steps=10, phases=TRANSFORMER),
    "vae": Size(DiTConfig(**COGVIDEOX["5b"], num_layers=1), VAEConfig(), phases=VAE),
}  # fmt: skip


def make(size: Size, folder: pathlib.Path, device: str) -> None:
    """Saves a random pipeline of diffusers; its T5 is tiny because no side runs it."""
    import diffusers
    import torch
    import transformers

    from mimir_jax.encoders import tokenizers
    from tests.models import dit_reference, vae_reference

    torch.manual_seed(0)
    tokenizers.train(["a red ball", "two green birds"], folder / "t5", kind="t5", vocab_size=300)
    config = transformers.T5Config(
        vocab_size=300, d_model=size.dit.text_width, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    diffusers.CogVideoXPipeline(
        tokenizer=tokenizers.load(folder / "t5"),
        text_encoder=transformers.T5EncoderModel(config).to(dtype),
        vae=vae_reference.make_reference(size.vae).to(dtype),
        transformer=dit_reference.make_reference(size.dit, device=device).to("cpu", dtype),
        scheduler=diffusers.CogVideoXDDIMScheduler(
            prediction_type="v_prediction", timestep_spacing="trailing",
            rescale_betas_zero_snr=True, snr_shift_scale=1.0,
        ),
    ).save_pretrained(str(folder / "pipeline"))  # fmt: skip
    if device != "cpu":
        torch.cuda.empty_cache()


def inputs(size: Size) -> dict[str, np.ndarray]:
    """Draws the inputs of both sides, in float32 and channels last."""
    rng = np.random.default_rng(0)
    text = (1, size.dit.text_length, size.dit.text_width)
    return {
        "latents": rng.normal(size=size.latents).astype(np.float32),
        "text": rng.normal(size=text).astype(np.float32),
        "negative": rng.normal(size=text).astype(np.float32),
        "video": rng.uniform(-1, 1, size.video).astype(np.float32),
    }


def with_kernel(pipeline: Any, kernel: Kernel) -> Any:
    """Returns a pipeline of mimir_jax with another attention kernel."""
    from mimir_jax.sampling import pipeline as pipeline_lib

    return pipeline_lib.Pipeline(
        pipeline.system.with_backbone(attention=kernel),
        pipeline.encoder,
        pipeline.params,
        sampler=pipeline.scheduler,
        guidance=SamplerConfig(guidance_scale=GUIDANCE, dynamic_guidance="off"),
        fps=pipeline.fps,
    )


class Ours:
    """The side of mimir_jax."""

    def __init__(self, size: Size, folder: pathlib.Path, device: str):
        host.prepare_host()
        import jax
        import jax.numpy as jnp

        import mimir_jax
        from mimir_jax.models.vae import autoencoder

        self._jax, self._size = jax, size
        dtype = jnp.float32 if device == "cpu" else jnp.bfloat16
        self._pipeline = mimir_jax.load_pipeline(folder / "pipeline", dtype=dtype)
        if device != "cpu":
            self._pipeline = with_kernel(self._pipeline, "cudnn")
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
                timestep, params = np.array([500]), pipeline.transformer.params
                for _ in range(self._size.forwards):
                    out = self._forward(params, x["latents"], x["text"], timestep)
                    self._jax.block_until_ready(out)
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
    """The side of diffusers, with the attention that PyTorch chooses or cuDNN's."""

    def __init__(self, size: Size, folder: pathlib.Path, device: str, *, cudnn: bool = False):
        import diffusers
        import torch

        self._torch, self._size, self._device = torch, size, device
        self._attention = harness.torch_attention(cudnn=cudnn)
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        kind = diffusers.CogVideoXPipeline
        self._pipeline = kind.from_pretrained(folder / "pipeline", torch_dtype=dtype).to(device)
        self._pipeline.set_progress_bar_config(disable=True)
        if device != "cpu":
            for block in self._pipeline.transformer.transformer_blocks:
                block.compile(fullgraph=True, dynamic=False)
        self._inputs = {
            name: torch.tensor(np.moveaxis(x, -1, {"video": 1}.get(name, 2)) if x.ndim == 5 else x)
            .to(device, dtype)
            for name, x in inputs(size).items()
        }  # fmt: skip

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        with self._torch.inference_mode(), self._attention():
            return self._run(phase).float().cpu().numpy()

    def _run(self, phase: str) -> Any:
        from tests.models import dit_reference

        x, pipeline = self._inputs, self._pipeline
        match phase:
            case "transformer forward":
                rotary = dit_reference.rotary(self._size.dit, self._size.latents[1:4])
                if rotary is not None:
                    rotary = tuple(part.to(self._device) for part in rotary)
                for _ in range(self._size.forwards):
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


def vidax(size: Size, folder: pathlib.Path, device: str) -> vidax_side.Vidax:
    """Returns the side of vidax."""
    del device
    return vidax_side.Vidax(size, folder, inputs(size), GUIDANCE, size.forwards)


def describe(size: Size, device: str) -> str:
    """Describes a case."""
    del device
    _, frames, height, width, _ = size.video
    told = f"{frames} frames of {height} x {width}, random weights."
    if PHASES[0] in size.phases:
        told += (
            f" Transformer of {size.dit.num_layers} layers, width {size.dit.width}; its phase is "
            f"{size.forwards} forward passes, one after the other."
        )
    return f"{told} {size.steps} guided steps." if PHASES[1] in size.phases else told


def conclude(size: Size, device: str, rows: list[dict]) -> str:
    """Extrapolates to the usual 50 steps where fewer were timed."""
    del device
    loops = [row["median"] for row in rows if row["phase"] == PHASES[1]]
    if not loops or size.steps == 50:
        return ""
    told = ", ".join(f"{50 / size.steps * x:.1f} s ({name})" for name, x in loops[0].items())
    return f"Extrapolated from {size.steps} equal steps, 50 steps take {told}; they were not run."


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="sampling",
            sides={
                "ours": Ours,
                "diffusers": Theirs,
                **({"vidax": vidax} if vidax_side.installed() else {}),
            },
            gpu_sides={
                "ours": Ours,
                "diffusers compiled": Theirs,
                "diffusers compiled cuDNN": functools.partial(Theirs, cudnn=True),
            },
            phases=PHASES,
            cases=SIZES,
            make=make,
            describe=describe,
            conclude=conclude,
            peers=("torch", "diffusers", *(("vidax",) if vidax_side.installed() else ())),
        )
    )
