# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Speed of Divot's video U-Net and its 50 steps of DDIM, and of the VAE, against PyTorch.

    python benchmarks/detokenizer.py [--case small] [--device cpu] [--rounds 3]

The U-Net of the other side is a twin in PyTorch written by rule, with its fused attention; the VAE
is that of diffusers. Both sides open the same random weights and draw the same noise. Writes
docs/results/. Needs the `test` extra.
"""

import dataclasses
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `benchmarks`, which is no package of the distribution

from benchmarks import harness  # noqa: E402
from mimir_jax.cli import host  # noqa: E402
from mimir_jax.config import DIVOT_REFERENCE, DiffusionConfig, ImageVAEConfig, UNetConfig  # noqa: E402

PHASES = ("U-Net forward", "DDIM, 50 steps", "VAE decode")
SCALE, RESCALE = DIVOT_REFERENCE.guidance_scale, DIVOT_REFERENCE.guidance_rescale


@dataclasses.dataclass(frozen=True)
class Case:
    """Networks and inputs of a case.

    Attributes:
        unet, vae: The networks.
        frames, side: Size of the latents.
        rows: Context rows.
    """

    unet: UNetConfig
    vae: ImageVAEConfig
    frames: int = 16
    side: int = 16
    rows: int = 125


CASES = {
    "small": Case(
        UNetConfig(width=64, multipliers=(1, 2), blocks_per_level=1, context_width=256),
        ImageVAEConfig(block_channels=(32, 64, 128, 128)),
        frames=4,
        side=8,
    ),
    "full": Case(UNetConfig(), ImageVAEConfig(), side=32),
}


def make(case: Case, folder: pathlib.Path, device: str) -> None:
    """Saves random weights of the twin, under the public names, and of diffusers."""
    del device
    import torch
    from diffusers import AutoencoderKL

    from mimir_jax.weights import tensors
    from tests.models import unet_reference

    state = unet_reference.make_reference(case.unet).state_dict()
    (folder / "unet").mkdir()
    named = {f"diffusion_model.{name}": value.numpy() for name, value in state.items()}
    tensors.write_torch(folder / "unet" / "unet.bin", named)
    torch.manual_seed(0)
    stages = len(case.vae.block_channels)
    AutoencoderKL(
        block_out_channels=case.vae.block_channels,
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        layers_per_block=case.vae.layers_per_block,
        norm_num_groups=case.vae.norm_groups,
    ).save_pretrained(folder / "vae")


def inputs(case: Case) -> dict[str, np.ndarray]:
    """Draws latents, the context of both branches, and the noise of every step."""
    rng = np.random.default_rng(0)
    latents = (1, case.frames, case.side, case.side, case.unet.in_channels)
    return {
        "latents": rng.normal(size=latents).astype("f4"),
        "context": rng.normal(size=(2, case.rows, case.unet.context_width)).astype("f4"),
        "noise": rng.normal(size=(50, *latents)).astype("f4"),
    }


class Ours:
    """The side of mimir_jax."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str):
        host.prepare_host()
        import jax
        import jax.numpy as jnp

        import mimir_jax
        from mimir_jax.diffusion import guidance, samplers, schedules

        dtype = jnp.float32 if device == "cpu" else jnp.bfloat16
        unet, params = mimir_jax.load(folder / "unet", dtype=dtype)
        vae, vae_params = mimir_jax.load(folder / "vae", dtype=dtype)
        given = {name: jnp.asarray(value) for name, value in inputs(case).items()}
        schedule = schedules.make_schedule(DiffusionConfig())
        sampler = samplers.make_sampler(DIVOT_REFERENCE, schedule)
        table = jnp.asarray(guidance.scales(DIVOT_REFERENCE, schedule))

        def ddim(params, latents, context, noise):
            def network(xt, time, condition, aux):
                return unet.apply(params, xt, condition, time, jnp.full_like(time, 3)), aux

            predict = guidance.guided_by(network, table, RESCALE)
            return samplers.sample(
                predict, sampler, latents.shape, context, latents=latents, noise=noise
            )

        forward, steps, decode = jax.jit(unet.apply), jax.jit(ddim), jax.jit(vae.decode)
        pair = jnp.concatenate([given["latents"]] * 2)
        time, stride = jnp.array([981, 501]), jnp.array([3, 3])
        self._phases = {
            PHASES[0]: lambda: forward(params, pair, given["context"], time, stride),
            PHASES[1]: lambda: steps(params, given["latents"], given["context"], given["noise"]),
            PHASES[2]: lambda: decode(vae_params, given["latents"]),
        }

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        return np.asarray(self._phases[phase](), np.float32)


class Theirs:
    """The side of PyTorch."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str):
        import torch
        from diffusers import AutoencoderKL

        from tests.models import unet_reference

        self._torch = torch
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        self._unet = unet_reference.make_reference(case.unet).to(device, dtype)
        self._vae = AutoencoderKL.from_pretrained(folder / "vae").to(device, dtype).eval()
        given = {n: torch.tensor(x).to(device, dtype) for n, x in inputs(case).items()}
        self._latents = given["latents"].permute(0, 4, 1, 2, 3)
        self._noise = given["noise"].permute(0, 1, 5, 2, 3, 4)
        self._context, self._device = given["context"], device

    def _predict(self, xt, time: int | list[int]):
        torch = self._torch
        times = torch.tensor(time if isinstance(time, list) else [time] * 2, device=self._device)
        pair = torch.cat([xt, xt])
        return self._unet(pair, self._context, times, torch.full_like(times, 3))

    def _ddim(self):
        """The loop of the published code, both branches in one batch."""
        from mimir_jax.diffusion import schedules

        levels = schedules.make_schedule(DiffusionConfig()).alphas_cumprod
        half = lambda x: np.float64(np.float16(x))  # noqa: E731
        xt = self._latents
        for z, k in zip(self._noise, range(49, -1, -1), strict=True):
            level = levels[1 + 20 * k]
            a, p = half(level), half(levels[max(1 + 20 * (k - 1), 0)])
            sigma = np.sqrt(half(1.0 / half(1.0 - a)) * (1.0 - p) * (1.0 - a / p))
            uncond, cond = self._predict(xt, 1 + 20 * k).chunk(2)
            guided = uncond + SCALE * (cond - uncond)
            guided = guided * (RESCALE * cond.std() / guided.std() + 1.0 - RESCALE)
            x0 = level**0.5 * xt - (1.0 - level) ** 0.5 * guided
            eps = level**0.5 * guided + (1.0 - level) ** 0.5 * xt
            xt = p**0.5 * x0 + (1.0 - p - sigma**2) ** 0.5 * eps + sigma * z
        return xt

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        with self._torch.inference_mode():
            if phase == PHASES[0]:
                out = self._predict(self._latents, [981, 501])
            elif phase == PHASES[1]:
                out = self._ddim()
            else:
                frames = self._latents[0].transpose(0, 1)
                out = self._vae.decode(frames).sample.transpose(0, 1)[None]
        return out.permute(0, 2, 3, 4, 1).float().cpu().numpy()


def describe(case: Case, device: str) -> str:
    """Describes the case."""
    del device
    return (
        f"U-Net of width {case.unet.width}, levels {case.unet.multipliers}, two clips of "
        f"{case.frames} frames of {case.side} x {case.side} latents, {case.rows} context rows; a "
        "step of DDIM runs both branches of guidance in one batch. The VAE decodes one clip."
    )


BENCHMARK = harness.Benchmark(
    name="detokenizer",
    sides={"mimir_jax": Ours, "pytorch": Theirs},
    phases=PHASES,
    cases=CASES,
    make=make,
    describe=describe,
    peers=("torch", "diffusers"),
)

if __name__ == "__main__":
    harness.main(BENCHMARK)
