# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The tasks the trainer knows, by the `kind` of their config."""

from mimir_jax.config import TrainConfig
from mimir_jax.training.task import Task
from mimir_jax.training.tasks.language import CausalLMTask, MaskedLMTask
from mimir_jax.training.tasks.text_to_video import TextToVideoTask
from mimir_jax.training.tasks.vae import VAETask

TASKS: dict[str, type] = {
    "text_to_video": TextToVideoTask,
    "vae": VAETask,
    "t5": MaskedLMTask,
    "llm": CausalLMTask,
}


def make_task(config: TrainConfig) -> Task:
    """Builds the task of `config.task`."""
    return TASKS[config.task.kind](config)
