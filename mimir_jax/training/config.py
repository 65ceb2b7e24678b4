# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of a run: system, data, optimizer, mesh and loop."""

import dataclasses
import re
from typing import Literal

from mimir_jax.config import checks
from mimir_jax.config.registry import SystemConfig
from mimir_jax.data.config import DataConfig
from mimir_jax.parallel.config import MeshConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimizer with clipping, groups and EMA (M-U20).

    Attributes:
        name: `adamw`; `adafactor`, whose second moment of a matrix is a row and a column; or
            `muon`, which makes the momentum of the blocks' matrices orthogonal (AdamW elsewhere).
        learning_rate: Peak learning rate.
        schedule: `constant` after warm-up, or `cosine` down to `end_fraction`.
        warmup_steps: Steps of the linear rise from zero to the peak.
        end_fraction: Share of the peak where `cosine` ends.
        b1: Decay of the first moment (momentum).
        b2: Decay of the second moment; Adafactor starts lower and rises to it.
        eps: Term that keeps the denominator of an update from zero.
        weight_decay: Decoupled weight decay.
        momentum_dtype: Dtype of the first moment. Adafactor keeps none with `b1` 0.
        offload: Keep the moments in host memory and bring them in for every step.
        clip_norm: Global gradient norm limit over the trained parameters.
        grad_accumulation: Micro-batches per step. A mean over tokens is that of the whole batch; a
            contrastive loss compares the rows of a micro-batch alone.
        lr_scale: Pairs of a regular expression on the `/`-joined parameter path and a factor of the
            learning rate; the first match counts.
        freeze: Regular expressions of parameter paths that do not train (M-U19).
        delay: Pairs of a regular expression on the path and the steps after which parameters that
            match begin to train, such as those of the DiT after Mimir's parts (M-U19); the first
            match counts. Their gradients are computed from the start.
        ema_decay: Decay of the parameter average; 0 keeps none.
    """

    name: Literal["adamw", "adafactor", "muon"] = "adamw"
    learning_rate: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 100
    end_fraction: float = 0.05
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-4
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"
    offload: bool = False
    clip_norm: float = 1.0
    grad_accumulation: int = 1
    lr_scale: tuple[tuple[str, float], ...] = ()
    freeze: tuple[str, ...] = ()
    delay: tuple[tuple[str, int], ...] = ()
    ema_decay: float = 0.0

    def __post_init__(self):
        for name in ("learning_rate", "eps", "clip_norm"):
            checks.within(self, name, 0, above=True)
        for name in ("warmup_steps", "weight_decay"):
            checks.within(self, name, 0)
        for name in ("b1", "b2", "ema_decay"):
            checks.within(self, name, 0, 1, below=True)
        checks.within(self, "end_fraction", 0, 1)
        checks.within(self, "grad_accumulation", 1)
        patterns = {
            "freeze": self.freeze,
            "lr_scale": [pattern for pattern, _ in self.lr_scale],
            "delay": [pattern for pattern, _ in self.delay],
        }
        for name, pattern in ((name, p) for name, several in patterns.items() for p in several):
            try:
                re.compile(pattern)
            except re.error as error:
                rule = f"{{{name}}} must hold regular expressions"
                raise checks.FieldError(self, rule, got=f"{pattern!r} ({error})") from None
        for name in ("lr_scale", "delay"):
            for pattern, value in getattr(self, name):
                if not value >= 0:
                    rule = f"{{{name}}} must pair each pattern with a number of at least 0"
                    raise checks.FieldError(self, rule, got=f"{value} for {pattern!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Judge a finished run on Toyworld: the same prompts and noise before and after.

    Runs on other data, and runs with `resume_from`, are not judged.

    Attributes:
        scenes: Held-out scenes, each with a prompt in every wording; 0 turns judging off.
        steps: Sampling steps of a judged video.
        batch_size: Videos generated at a time.
        shown: Prompts per wording on the contact sheet.
    """

    scenes: int = 0
    steps: int = 10
    batch_size: int = 8
    shown: int = 2

    def __post_init__(self):
        for name, least in (("scenes", 0), ("steps", 1), ("batch_size", 1), ("shown", 1)):
            checks.within(self, name, least)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DivergenceConfig:
    """What to do when a loss, a gradient norm or an update norm is not finite.

    Attributes:
        policy: `stop` ends the run; `skip` drops the update of the step; `rollback` restores the
            newest checkpoint and continues with the batches after the one that diverged.
        limit: Skipped steps or rollbacks in a process before it stops.
    """

    policy: Literal["stop", "skip", "rollback"] = "stop"
    limit: int = 10

    def __post_init__(self):
        checks.within(self, "limit", 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run.

    Attributes:
        system: What trains: the config of one of the folders of `mimir_jax.systems`.
        data: Clips or texts to train on.
        optimizer: Updates of the parameters.
        mesh: How devices share the work.
        judge: Judging of the finished run.
        divergence: Handling of non-finite losses, gradients and updates.
        seed: Seed of parameters, data order, noise and timesteps, 0 to 2**64 - 1.
        steps: Steps of the whole run.
        batch_size: Clips (or texts) of one step over all processes.
        log_every: Steps between log lines.
        eval_every: Steps between evaluations on held-out data; 0 evaluates at start and end only.
        sample_every: Steps between sample sheets; 0 writes one at the end only.
        checkpoint_every: Steps between checkpoints; 0 leaves it to `checkpoint_minutes`.
        checkpoint_minutes: Minutes between checkpoints, checked on logging steps; 0 leaves it to
            `checkpoint_every`. One is always written at the end.
        keep_checkpoints: Number of newest checkpoints to keep.
        keep_every: Also keep checkpoints at multiples of this many steps; 0 keeps none for it.
        keep_best: Also keep the checkpoint with the lowest held-out loss.
        hang_seconds: Seconds without a step after which a warning names what the run waits for; 0
            never warns.
        init_from: Folders of initial parameters, separated by commas: later ones override earlier
            ones; parameters in none are newly initialised.
        resume_from: Work directory of another run whose newest checkpoint to continue.
    """

    system: SystemConfig
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    mesh: MeshConfig = MeshConfig()
    judge: JudgeConfig = JudgeConfig()
    divergence: DivergenceConfig = DivergenceConfig()
    seed: int = 0
    steps: int = 1000
    batch_size: int = 8
    log_every: int = 10
    eval_every: int = 0
    sample_every: int = 0
    checkpoint_every: int = 0
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 2
    keep_every: int = 0
    keep_best: bool = True
    hang_seconds: float = 600.0
    init_from: str | None = None
    resume_from: str | None = None

    def __post_init__(self):
        for name in ("steps", "batch_size", "log_every", "keep_checkpoints"):
            checks.within(self, name, 1)
        for name in (
            "eval_every", "sample_every", "checkpoint_every", "checkpoint_minutes", "keep_every",
            "hang_seconds",
        ):  # fmt: skip
            checks.within(self, name, 0)
        checks.within(self, "seed", 0, 2**64 - 1)
        checks.check(
            self,
            self.divergence.policy != "skip" or not self.optimizer.offload,
            "{divergence.policy} must be stop or rollback with {optimizer.offload}",
        )
        checks.check(
            self,
            self.batch_size % self.optimizer.grad_accumulation == 0,
            "{batch_size} must be a multiple of {optimizer.grad_accumulation}",
        )
        checks.check(
            self,
            not self.judge.scenes or self.system.makes_videos,
            "{judge.scenes} must be 0 for a system that makes no videos",
        )
        checks.check(
            self,
            self.system.reads_buckets or not self.data.buckets.sizes,
            f"{{data.buckets.listed}} must be empty for the system {self.system.kind}, which reads "
            "clips of one size",
            got=", ".join(size.name for size in self.data.buckets.sizes),
        )
        self.system.check_run(self)
