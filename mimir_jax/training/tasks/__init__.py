# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The tasks the trainer knows, by the `kind` of their config."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from mimir_jax.config import DiffusionSystemConfig, TrainConfig
from mimir_jax.models import functional
from mimir_jax.training.task import Task
from mimir_jax.training.tasks import text_to_video
from mimir_jax.training.tasks.language import CausalLMTask, MaskedLMTask
from mimir_jax.training.tasks.text_to_video import TextToVideoTask
from mimir_jax.training.tasks.vae import VAETask

TASKS: dict[str, type] = {
    "mimir": TextToVideoTask,
    "cogvideox": TextToVideoTask,
    "vae": VAETask,
    "t5": MaskedLMTask,
    "llm": CausalLMTask,
}


def make_task(config: TrainConfig) -> Task:
    """Builds the task of `config.system`."""
    return TASKS[config.system.kind](config)


class Sketch(NamedTuple):
    """The device side of a task: network, pure loss, and shapes of its batch."""

    model: functional.Model
    loss: Callable
    batch: Any


def sketch(config: TrainConfig) -> Sketch:
    """Describes the train step of a run; reads no weights, of text models the tokenizer alone."""
    if isinstance(config.system, DiffusionSystemConfig):
        model = text_to_video.make_model(config.system)
        loss = functools.partial(text_to_video.velocity_loss, config.system, model)
        return Sketch(model, loss, text_to_video.batch_spec(config))
    task = TASKS[config.system.kind](config)
    return Sketch(task.model, task.loss, task.batch_spec())
