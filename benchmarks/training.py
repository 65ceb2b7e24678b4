# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Training speed of this package and of diffusers' transformer in PyTorch, side by side.

    python benchmarks/training.py [--case tiny] [--device cpu] [--rounds 5]

Times the forward of the transformer and whole train steps (velocity loss, backward, clipping,
AdamW) on the same weights, clips, noise and timesteps; the losses of the first steps are compared.
PyTorch runs eagerly and, as a side of its own, compiled. On a GPU all compute in bfloat16 on
float32 masters: ours with cuDNN attention. Writes docs/results/. Needs the `test` extra.
"""

import dataclasses
import pathlib
import sys
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `tests`, which is no package of the distribution

from benchmarks import sides  # noqa: E402
from mimir_jax.config import (  # noqa: E402
    COGVIDEOX,
    TINY_DIT,
    DiffusionConfig,
    DiTConfig,
    OptimizerConfig,  # noqa: E402
)
from mimir_jax.config import flags as flags_lib  # noqa: E402

DIFFUSION = DiffusionConfig(snr_shift=3.0)
OPTIMIZER = OptimizerConfig(learning_rate=1e-4, warmup_steps=0)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        dit: The transformer; its sample sizes are those of the latents.
        batch_size: Clips of a step.
        steps: Train steps of one round.
    """

    dit: DiTConfig
    batch_size: int
    steps: int


CASES = {
    "tiny": Case(TINY_DIT, batch_size=8, steps=5),
    "tiny-images": Case(dataclasses.replace(TINY_DIT, sample_frames=1), batch_size=16, steps=10),
    "small": Case(
        DiTConfig(
            num_layers=4, num_heads=8, head_dim=64, text_width=512, text_length=64, time_width=256,
            sample_frames=5, sample_height=20, sample_width=30, remat="none",
        ),
        batch_size=1,
        steps=2,
    ),
    "5b-4-layers": Case(DiTConfig(**COGVIDEOX["5b"], num_layers=4), batch_size=1, steps=2),
    "2b-4-layers": Case(DiTConfig(**{**COGVIDEOX["2b"], "num_layers": 4}), batch_size=1, steps=2),
}  # fmt: skip


def make(case: Case, folder: pathlib.Path) -> None:
    """Saves a random transformer of diffusers."""
    from tests.models import dit_reference

    dit_reference.make_reference(case.dit).save_pretrained(str(folder / "transformer"))


def inputs(case: Case) -> dict[str, np.ndarray]:
    """Draws a batch, in float32 and channels last."""
    rng, cfg, rows = np.random.default_rng(0), case.dit, case.batch_size
    size = (rows, cfg.sample_frames, cfg.sample_height, cfg.sample_width, cfg.in_channels)
    text = (rows, cfg.text_length, cfg.text_width)
    return {
        "latents": rng.normal(size=size).astype(np.float32),
        "noise": rng.normal(size=size).astype(np.float32),
        "text": rng.normal(size=text).astype(np.float32),
        "timestep": rng.integers(0, DIFFUSION.num_train_steps, rows),
    }


class Ours:
    """This package."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str):
        flags_lib.prepare_host()
        import jax
        import jax.numpy as jnp

        import mimir_jax
        from mimir_jax.diffusion import objectives, schedules
        from mimir_jax.models import dit, functional
        from mimir_jax.training import optimizer, state, step

        self._jax, self._steps = jax, case.steps
        _, params = mimir_jax.load(folder / "transformer")
        cfg = case.dit
        if device != "cpu":
            cfg = dataclasses.replace(cfg, dtype="bfloat16", attention="cudnn", remat="attention")
        model = functional.build(dit.DiT, cfg)
        schedule = schedules.DiscreteSchedule(DIFFUSION)

        def loss(params, batch, key):
            del key
            x0, noise, timestep = batch["latents"], batch["noise"], batch["timestep"]
            xt = objectives.add_noise(schedule, x0, noise, timestep)
            pred = model.apply(params, xt, batch["text"], timestep)
            return objectives.v_loss(schedule, pred, x0, noise, timestep).mean(), {}

        tx = optimizer.make_optimizer(OPTIMIZER, 1000, model.axes)
        trainable = optimizer.trainable(OPTIMIZER, model.axes)
        params = jax.tree.map(jnp.asarray, params)
        self._state = state.create(params, tx, trainable, ema=False)
        self._forward = jax.jit(model.apply)
        self._step = jax.jit(
            lambda state, batch, key: step.train_step(
                state, batch, key, loss_fn=loss, trainable=trainable, tx=tx
            ),
            donate_argnums=0,
        )
        self._batch = {name: jnp.asarray(x) for name, x in inputs(case).items()}
        self._key = jax.random.key(0)

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        x = self._batch
        if phase == "forward":
            out = self._forward(self._state.params, x["latents"], x["text"], x["timestep"])
            return np.asarray(out, np.float32)
        losses = []
        for _ in range(self._steps):
            self._state, metrics = self._step(self._state, x, self._key)
            losses.append(metrics["loss"])
        return np.asarray(self._jax.device_get(losses))


class Theirs:
    """diffusers in PyTorch, compiled or not."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str, *, compiled: bool):
        import diffusers
        import torch

        from tests.models import dit_reference

        self._torch, self._steps, self._device = torch, case.steps, device
        kind = diffusers.CogVideoXTransformer3DModel
        self._model = kind.from_pretrained(folder / "transformer").to(device).train()
        if device != "cpu":
            self._model.enable_gradient_checkpointing()
        rotary = dit_reference.rotary(case.dit, inputs(case)["latents"].shape[1:4])
        self._rotary = None if rotary is None else tuple(x.to(device) for x in rotary)
        self._schedule = diffusers.CogVideoXDDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True,
            snr_shift_scale=DIFFUSION.snr_shift,
        )  # fmt: skip
        decayed = [p for p in self._model.parameters() if p.ndim > 1]
        others = [p for p in self._model.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": OPTIMIZER.weight_decay},
             {"params": others, "weight_decay": 0.0}],
            lr=OPTIMIZER.learning_rate, betas=(OPTIMIZER.b1, OPTIMIZER.b2), eps=OPTIMIZER.eps,
        )  # fmt: skip
        self._call = torch.compile(self._model) if compiled else self._model
        self._batch = {
            name: torch.tensor(np.moveaxis(x, -1, 2) if x.ndim == 5 else x).to(device)
            for name, x in inputs(case).items()
        }

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        if phase == "forward":
            with self._torch.inference_mode():
                out = self._predict(self._batch["latents"])
            return out.movedim(2, -1).float().cpu().numpy()
        return np.array([self._step() for _ in range(self._steps)])

    def _step(self) -> float:
        x0, noise, timestep = (self._batch[name] for name in ("latents", "noise", "timestep"))
        xt = self._schedule.add_noise(x0, noise, timestep)
        target = self._schedule.get_velocity(x0, noise, timestep)
        loss = (self._predict(xt).float() - target).square().mean()
        loss.backward()
        self._torch.nn.utils.clip_grad_norm_(self._model.parameters(), OPTIMIZER.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def _predict(self, latents: Any) -> Any:
        x = self._batch
        enabled = self._device != "cpu"
        with self._torch.autocast(self._device, self._torch.bfloat16, enabled=enabled):
            return self._call(
                hidden_states=latents,
                encoder_hidden_states=x["text"],
                timestep=x["timestep"],
                image_rotary_emb=self._rotary,
            ).sample


class Eager(Theirs):
    """diffusers as it comes."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str):
        super().__init__(case, folder, device, compiled=False)


class Compiled(Theirs):
    """diffusers under torch.compile."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str):
        super().__init__(case, folder, device, compiled=True)


def describe(case: Case, device: str) -> str:
    """Says what is timed."""
    cfg = case.dit
    remat = "recomputed in the backward pass" if device != "cpu" else f"remat {cfg.remat}"
    return (
        f"Transformer of {cfg.num_layers} layers, width {cfg.width}; latents of "
        f"{cfg.sample_frames} x {cfg.sample_height} x {cfg.sample_width}, {cfg.text_length} text "
        f"tokens, batch {case.batch_size}; activations {remat}. A phase of training is "
        f"{case.steps} steps; its outputs are their losses."
    )


if __name__ == "__main__":
    sides.main(
        sides.Benchmark(
            name="training",
            sides={"ours": Ours, "diffusers": Eager, "diffusers compiled": Compiled},
            phases=("forward", "train steps"),
            cases=CASES,
            make=make,
            describe=describe,
            peers=("torch", "diffusers"),
        )
    )
