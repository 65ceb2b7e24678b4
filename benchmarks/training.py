# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Training speed of this package and of diffusers' transformer in PyTorch, side by side.

    python benchmarks/training.py [--case tiny] [--device cpu] [--rounds 5]

Times the transformer's forward, the gradient of the velocity loss (forward and backward) with half
of the layers and with all, and whole train steps (with clipping and AdamW) on the same weights,
clips, noise and timesteps; losses and gradient norms are compared. The two depths give what a layer
takes, and by it what the whole model would, which no single device can train.

PyTorch runs eagerly and compiled, and on a GPU also with its cuDNN attention; its AdamW is fused
there. On a GPU all compute in bfloat16 on float32 masters, ours with cuDNN attention, and all
recompute whole blocks in the backward pass; on a CPU none does. Writes docs/results/. Needs the
`test` extra.
"""

import contextlib
import dataclasses
import functools
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

HALF, GRADIENT = "gradient of half the layers", "gradient"
PHASES = ("forward", HALF, GRADIENT, "train steps")


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        dit: The transformer; its sample sizes are those of the latents.
        batch_size: Clips of a step.
        steps: Gradients or train steps of one round.
        whole: Layers of the model that `dit` is the first layers of, None where it is all of them.
    """

    dit: DiTConfig
    batch_size: int
    steps: int
    whole: int | None = None

    def layers(self, phase: str) -> int:
        """Returns how many layers a phase uses."""
        return self.dit.num_layers // 2 if phase == HALF else self.dit.num_layers


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
    "5b-4-layers": Case(
        DiTConfig(**COGVIDEOX["5b"], num_layers=4), batch_size=1, steps=2,
        whole=DiTConfig(**COGVIDEOX["5b"]).num_layers,
    ),
    "2b-4-layers": Case(
        DiTConfig(**{**COGVIDEOX["2b"], "num_layers": 4}), batch_size=1, steps=2,
        whole=DiTConfig(**COGVIDEOX["2b"]).num_layers,
    ),
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
        import optax

        import mimir_jax
        from mimir_jax.diffusion import objectives, schedules
        from mimir_jax.models import dit, functional
        from mimir_jax.training import optimizer, state, step

        self._jax, self._steps = jax, case.steps
        _, params = mimir_jax.load(folder / "transformer")
        cfg = case.dit
        if device != "cpu":
            cfg = dataclasses.replace(cfg, dtype="bfloat16", attention="cudnn", remat="full")
        model = functional.build(dit.DiT, cfg)
        half = functional.build(dit.DiT, dataclasses.replace(cfg, num_layers=case.layers(HALF)))
        schedule = schedules.DiscreteSchedule(DIFFUSION)

        def loss(params, batch, key, model=model):
            del key
            x0, noise, timestep = batch["latents"], batch["noise"], batch["timestep"]
            xt = objectives.add_noise(schedule, x0, noise, timestep)
            pred = model.apply(params, xt, batch["text"], timestep)
            return objectives.v_loss(schedule, pred, x0, noise, timestep).mean(), {}

        def gradient(model):
            def call(params, batch):
                (value, _), grads = jax.value_and_grad(loss, has_aux=True)(
                    params, batch, None, model
                )
                return value, optax.tree.norm(grads), grads

            return jax.jit(call)

        self._gradients = {HALF: gradient(half), GRADIENT: gradient(model)}
        self._half = half.abstract_params
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
        if phase in self._gradients:
            params = self._few if phase == HALF else self._state.params
            for _ in range(self._steps):
                values = self._gradients[phase](params, x)[:2]
            return np.asarray(self._jax.device_get(values))
        self.__dict__.pop("_few", None)  # is no part of the memory of a train step
        losses = []
        for _ in range(self._steps):
            self._state, metrics = self._step(self._state, x, self._key)
            losses.append(metrics["loss"])
        return np.asarray(self._jax.device_get(losses))

    @functools.cached_property
    def _few(self) -> Any:
        """The parameters with half of the layers."""
        cut = lambda x, like: x[: like.shape[0]]  # noqa: E731
        return self._jax.tree.map(cut, self._state.params, self._half)


class Theirs:
    """diffusers in PyTorch, compiled or not, with the attention that PyTorch picks or cuDNN's."""

    def __init__(
        self,
        case: Case,
        folder: pathlib.Path,
        device: str,
        *,
        compiled: bool = False,
        cudnn: bool = False,
    ):
        import diffusers
        import torch
        from torch.nn import attention

        from tests.models import dit_reference

        self._torch, self._case, self._device = torch, case, device
        self._attention = contextlib.nullcontext
        if cudnn:
            backend = attention.SDPBackend.CUDNN_ATTENTION
            self._attention = lambda: attention.sdpa_kernel(backend)
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
            fused=device != "cpu",
        )  # fmt: skip
        self._blocks = self._model.transformer_blocks
        self._call = torch.compile(self._model) if compiled else self._model
        self._batch = {
            name: torch.tensor(np.moveaxis(x, -1, 2) if x.ndim == 5 else x).to(device)
            for name, x in inputs(case).items()
        }

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        self._model.transformer_blocks = self._blocks[: self._case.layers(phase)]
        if phase == "forward":
            with self._torch.inference_mode():
                out = self._predict(self._batch["latents"])
            return out.movedim(2, -1).float().cpu().numpy()
        step = self._step if phase == "train steps" else self._gradient
        values = [step() for _ in range(self._case.steps)]
        out = self._torch.stack(values).cpu().numpy()  # the first wait
        return out if phase == "train steps" else out[-1]

    def _gradient(self) -> Any:
        """Returns loss and norm of the gradient, which lies in the parameters until the next."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss()
        loss.backward()
        grads = [p.grad for p in self._model.parameters() if p.grad is not None]
        return self._torch.stack([loss.detach(), self._torch.nn.utils.get_total_norm(grads)])

    def _step(self) -> Any:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss()
        loss.backward()
        self._torch.nn.utils.clip_grad_norm_(self._model.parameters(), OPTIMIZER.clip_norm)
        self._optimizer.step()
        return loss.detach()

    def _loss(self) -> Any:
        x0, noise, timestep = (self._batch[name] for name in ("latents", "noise", "timestep"))
        xt = self._schedule.add_noise(x0, noise, timestep)
        target = self._schedule.get_velocity(x0, noise, timestep)
        return (self._predict(xt).float() - target).square().mean()

    def _predict(self, latents: Any) -> Any:
        x = self._batch
        enabled = self._device != "cpu"
        half = self._torch.autocast(self._device, self._torch.bfloat16, enabled=enabled)
        with half, self._attention():
            return self._call(
                hidden_states=latents,
                encoder_hidden_states=x["text"],
                timestep=x["timestep"],
                image_rotary_emb=self._rotary,
            ).sample


def describe(case: Case, device: str) -> str:
    """Says what is timed."""
    cfg = case.dit
    remat = "of all blocks recomputed by all sides" if device != "cpu" else "kept by all sides"
    return (
        f"Transformer of {cfg.num_layers} layers, width {cfg.width}; latents of "
        f"{cfg.sample_frames} x {cfg.sample_height} x {cfg.sample_width}, {cfg.text_length} text "
        f"tokens, batch {case.batch_size}; activations {remat}. A phase is {case.steps} gradients, "
        f"whose outputs are the loss and the norm, or {case.steps} train steps, whose outputs are "
        "the losses; forward is one call."
    )


def conclude(case: Case, rows: list[dict]) -> str:
    """Says what a layer takes, and what the whole model would."""
    medians = {row["phase"]: row["median"] for row in rows}
    few, many = case.layers(HALF), case.layers(GRADIENT)
    lines, whole = [], {}
    for name in medians[GRADIENT]:
        short, long = (medians[phase][name] / case.steps for phase in (HALF, GRADIENT))
        layer = (long - short) / (many - few)
        lines.append(f"{layer:.4f} s ({name})")
        whole[name] = long + ((case.whole or many) - many) * layer
    text = f"By the gradients of {few} and {many} layers, a layer takes {', '.join(lines)}."
    if case.whole is None:
        return text
    ours = next(iter(whole.values()))
    told = ", ".join(f"{x:.3f} s ({name}, ratio {x / ours:.2f})" for name, x in whole.items())
    return f"{text} On that line, extrapolated and not run, {case.whole} layers take {told}."


if __name__ == "__main__":
    sides.main(
        sides.Benchmark(
            name="training",
            sides={
                "ours": Ours,
                "diffusers": Theirs,
                "diffusers compiled": functools.partial(Theirs, compiled=True),
                "diffusers cuDNN": functools.partial(Theirs, cudnn=True),
                "diffusers compiled cuDNN": functools.partial(Theirs, compiled=True, cudnn=True),
            },
            phases=PHASES,
            gpu_only=("diffusers cuDNN", "diffusers compiled cuDNN"),
            conclude=conclude,
            cases=CASES,
            make=make,
            describe=describe,
            peers=("torch", "diffusers"),
        )
    )
