# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Noise schedules: discrete timesteps (CogVideoX, DynamiCrafter) and continuous levels (EDM)."""

from mimir_jax.config import DiffusionConfig, EDMConfig
from mimir_jax.diffusion.schedules.base import Kind, Predict, Schedule, Times
from mimir_jax.diffusion.schedules.discrete import (
    BetaSchedule,
    DiscreteSchedule,
    Previous,
    Spacing,
)
from mimir_jax.diffusion.schedules.edm import EDMSchedule

SCHEDULES = {"discrete": DiscreteSchedule, "edm": EDMSchedule}


def make_schedule(config: DiffusionConfig | EDMConfig) -> Schedule:
    """Returns the schedule of `config.kind`."""
    return SCHEDULES[config.kind](config)
