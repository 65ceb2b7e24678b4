# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Training speed of mimir_jax and of diffusers' transformer in PyTorch.

    python benchmarks/training.py [--case tiny] [--device cpu] [--rounds 5]

All sides have the same weights, clips, noise and timesteps; losses and gradient norms are compared.
The phases are a product of large matrices, a forward pass of the transformer, the gradient of the
velocity loss (forward and backward) with half of the layers and with all of them, and whole train
steps with clipping and AdamW. The two depths give the time per layer, which extrapolates to the
whole model. The matrix product gives the speed that the device can reach.

On a CPU all sides compute in float32 and keep their activations. Ours runs with its layers written
out, as `configs/cogvideox.py` trains them (`dit.unroll`), and as a loop; PyTorch runs eagerly and
with compiled blocks. On a GPU all sides compute in bfloat16 on float32 masters. Ours runs with
cuDNN attention and several remat policies. PyTorch runs with compiled blocks that it recomputes,
once with the attention that it chooses and once with cuDNN's. Writes docs/results/. Needs the
`test` extra.
"""

import dataclasses
import functools
import pathlib
import sys
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `tests`, which is no package of the distribution

from benchmarks import harness  # noqa: E402
from mimir_jax.cli import host  # noqa: E402
from mimir_jax.config import (  # noqa: E402
    COGVIDEOX,
    TINY_DIT,
    DiffusionConfig,
    DiTConfig,
    Kernel,
    OptimizerConfig,
    Remat,
)

DIFFUSION = DiffusionConfig(snr_shift=3.0)
OPTIMIZER = OptimizerConfig(learning_rate=1e-4, warmup_steps=0)

PRODUCT, HALF, GRADIENT = "matrix products", "gradient of half the layers", "gradient"
PHASES = (PRODUCT, "forward", HALF, GRADIENT, "train steps")

WIDTH = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the square matrix that is multiplied by itself, by device."""

PRODUCTS = 50
"""Number of such products."""


@dataclasses.dataclass(frozen=True)
class Case:
    """Network and phases of a case.

    Attributes:
        dit: The transformer; its sample sizes are those of the latents.
        batch_size: Clips per step.
        steps: Gradients or train steps per round.
        whole: Layers of the whole model if `dit` has only the first ones, otherwise None.
        phases: The timed ones of `PHASES`.
    """

    dit: DiTConfig
    batch_size: int
    steps: int
    whole: int | None = None
    phases: tuple[str, ...] = PHASES

    def layers(self, phase: str) -> int:
        """Returns the number of layers that a phase uses."""
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
        whole=DiTConfig(**COGVIDEOX["5b"]).num_layers, phases=PHASES[:-1],
    ),
    "2b-4-layers": Case(
        DiTConfig(**{**COGVIDEOX["2b"], "num_layers": 4}), batch_size=1, steps=2,
        whole=DiTConfig(**COGVIDEOX["2b"]).num_layers, phases=PHASES[:-1],
    ),
}  # fmt: skip


def make(case: Case, folder: pathlib.Path, device: str) -> None:
    """Saves a random transformer of diffusers."""
    from tests.models import dit_reference

    reference = dit_reference.make_reference(case.dit, device=device)
    reference.save_pretrained(str(folder / "transformer"))


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


def factor(device: str) -> np.ndarray:
    """Draws the matrix that is multiplied by itself."""
    width = WIDTH[device]
    return np.random.default_rng(0).normal(size=(width, width)).astype(np.float32)


class Ours:
    """The side of mimir_jax."""

    def __init__(
        self,
        case: Case,
        folder: pathlib.Path,
        device: str,
        *,
        attention: Kernel = "xla",
        remat: Remat = "none",
        loop: bool = True,
    ):
        host.prepare_host()
        import jax
        import jax.numpy as jnp
        import optax

        import mimir_jax
        from mimir_jax.diffusion import objectives, schedules
        from mimir_jax.models import dit, functional
        from mimir_jax.training import optimizer, state, step

        self._jax, self._steps = jax, case.steps
        _, params = mimir_jax.load(folder / "transformer")
        dtype = "float32" if device == "cpu" else "bfloat16"
        cfg = dataclasses.replace(case.dit, dtype=dtype, attention=attention, remat=remat)
        model, half = (
            functional.build(
                dit.DiT,
                dataclasses.replace(cfg, num_layers=number, unroll=1 if loop else number),
            )
            for number in (cfg.num_layers, case.layers(HALF))
        )
        schedule = schedules.DiscreteSchedule(DIFFUSION)

        def loss(params, batch, key, model=model):
            del key
            x0, noise, timestep = batch["latents"], batch["noise"], batch["timestep"]
            xt = objectives.add_noise(schedule, x0, noise, timestep)
            pred = model.apply(params, xt, batch["text"], timestep)
            return objectives.loss(schedule, pred, x0, noise, timestep).mean(), {}

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
        self._params = jax.tree.map(jnp.asarray, params)
        self._create = lambda params: state.create(params, tx, trainable, ema=False)
        self._state = None
        self._forward = jax.jit(model.apply)
        self._step = jax.jit(
            lambda state, batch, key: step.train_step(
                state, batch, key, loss_fn=loss, trainable=trainable, tx=tx
            ),
            donate_argnums=0,
        )
        self._batch = {name: jnp.asarray(x) for name, x in inputs(case).items()}
        self._key = jax.random.key(0)
        self._product = jax.jit(jnp.matmul)
        self._factor = jnp.asarray(factor(device), dtype)

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        x = self._batch
        if phase == PRODUCT:
            for _ in range(PRODUCTS):
                out = self._product(self._factor, self._factor)
            return np.asarray(out[0], np.float32)
        if phase == "forward":
            out = self._forward(self._params, x["latents"], x["text"], x["timestep"])
            return np.asarray(out, np.float32)
        if phase in self._gradients:
            params = self._few if phase == HALF else self._params
            for _ in range(self._steps):
                values = self._gradients[phase](params, x)[:2]
            return np.asarray(self._jax.device_get(values))
        if self._state is None:
            self._state = self._create(self._params)
            self.__dict__.pop("_few", None)  # a train step does not need its memory
            self._params = None  # a step donates its state
        losses = []
        for _ in range(self._steps):
            self._state, metrics = self._step(self._state, x, self._key)
            losses.append(metrics["loss"])
        return np.asarray(self._jax.device_get(losses))

    @functools.cached_property
    def _few(self) -> Any:
        """Parameters of half of the layers."""
        cut = lambda x, like: x[: like.shape[0]]  # noqa: E731
        return self._jax.tree.map(cut, self._params, self._half)


class Theirs:
    """The side of diffusers, compiled or not, with PyTorch's choice of attention or cuDNN's."""

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

        from tests.models import dit_reference

        self._torch, self._case, self._device = torch, case, device
        self._attention = harness.torch_attention(cudnn=cudnn)
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
        for block in self._model.transformer_blocks if compiled else ():
            block.compile(fullgraph=True, dynamic=False)
        self._batch = {
            name: torch.tensor(np.moveaxis(x, -1, 2) if x.ndim == 5 else x).to(device)
            for name, x in inputs(case).items()
        }
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        self._factor = torch.tensor(factor(device)).to(device, dtype)

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        if phase == PRODUCT:
            for _ in range(PRODUCTS):
                out = self._factor @ self._factor
            return out[0].float().cpu().numpy()
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
        """Returns loss and gradient norm; the gradient stays in the parameters until the next."""
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
            return self._model(
                hidden_states=latents,
                encoder_hidden_states=x["text"],
                timestep=x["timestep"],
                image_rotary_emb=self._rotary,
            ).sample


def describe(case: Case, device: str) -> str:
    """Describes a case."""
    cfg = case.dit
    kept = (
        "all sides keep their activations"
        if device == "cpu"
        else "ours follows the policies of dit.remat, diffusers recomputes whole blocks"
    )
    return (
        f"Transformer of {cfg.num_layers} layers, width {cfg.width}; latents of "
        f"{cfg.sample_frames} x {cfg.sample_height} x {cfg.sample_width}, {cfg.text_length} text "
        f"tokens, batch {case.batch_size}; {kept}. A phase is {PRODUCTS} products of matrices of "
        f"{WIDTH[device]} x {WIDTH[device]}, {case.steps} gradients, whose outputs are the loss "
        f"and the norm, or {case.steps} train steps, whose outputs are the losses; forward is one "
        "call."
    )


def conclude(case: Case, device: str, rows: list[dict]) -> str:
    """Returns the time per layer, of the whole model, and the utilisation of the device."""
    medians = {row["phase"]: row["median"] for row in rows}
    if not {PRODUCT, HALF, GRADIENT} <= medians.keys():
        return ""
    few, many = case.layers(HALF), case.layers(GRADIENT)
    flops = _flops(dataclasses.replace(case.dit, num_layers=many), case.batch_size)
    flops -= _flops(dataclasses.replace(case.dit, num_layers=few), case.batch_size)
    lines = [
        f"The time per layer follows from the gradients of {few} and {many} layers. A layer has "
        f"{3 * flops / (many - few) / 1e12:.3g} model TFLOPs: three times the forward pass, "
        "without recomputation. `of matrix products` is its speed over that of the side's matrix "
        "products.",
        "",
        "| side | s per layer | TFLOP/s | of matrix products | s, whole model |",
        "|---|---|---|---|---|",
    ]
    for name in medians[GRADIENT]:
        short, long = (medians[phase][name] / case.steps for phase in (HALF, GRADIENT))
        layer = (long - short) / (many - few)
        speed = 3 * flops / (many - few) / layer
        peak = PRODUCTS * 2 * WIDTH[device] ** 3 / medians[PRODUCT][name]
        whole = long + ((case.whole or many) - many) * layer
        cells = [name, f"{layer:.4f}", f"{speed / 1e12:.3g}", f"{speed / peak:.2f}", f"{whole:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    if case.whole is not None:
        lines += [
            "",
            f"The whole model has {case.whole} layers; its time is extrapolated, not measured.",
        ]
    return "\n".join(lines)


def _flops(cfg: DiTConfig, rows: int) -> int:
    """Counts the FLOPs of a forward pass."""
    import jax
    import jax.numpy as jnp

    from mimir_jax.models import dit, functional
    from mimir_jax.training import metrics

    model = functional.build(dit.DiT, cfg)
    size = (rows, cfg.sample_frames, cfg.sample_height, cfg.sample_width, cfg.in_channels)
    shapes = (size, (rows, cfg.text_length, cfg.text_width))
    latents, text = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    timestep = jax.ShapeDtypeStruct((rows,), jnp.int32)
    return metrics.count_flops(model.apply, model.abstract_params, latents, text, timestep)


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="training",
            sides={
                "ours": functools.partial(Ours, loop=False),
                "ours, a loop over layers": Ours,
                "diffusers": Theirs,
                "diffusers compiled": functools.partial(Theirs, compiled=True),
            },
            gpu_sides={
                "ours": functools.partial(Ours, attention="cudnn", remat="dots"),
                "ours, attention": functools.partial(Ours, attention="cudnn", remat="attention"),
                "ours, full": functools.partial(Ours, attention="cudnn", remat="full"),
                "diffusers compiled": functools.partial(Theirs, compiled=True),
                "diffusers compiled cuDNN": functools.partial(Theirs, compiled=True, cudnn=True),
            },
            phases=PHASES,
            conclude=conclude,
            cases=CASES,
            make=make,
            describe=describe,
            peers=("torch", "diffusers"),
        )
    )
