# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Samplers, one per schedule kind and order, under one scan."""

import dataclasses

from mimir_jax.config import SamplerConfig
from mimir_jax.diffusion import schedules
from mimir_jax.diffusion.samplers.base import Known, Sampler, State, sample
from mimir_jax.diffusion.samplers.continuous import Euler, Heun
from mimir_jax.diffusion.samplers.discrete import DDIM, DPM, End
from mimir_jax.errors import require

SAMPLERS = {"ddim": DDIM, "dpm": DPM}
"""Samplers of discrete schedules."""

REFERENCE = {"spacing": "strided", "steps_offset": 1, "end": "first", "rounded": True}
"""Options of `DDIM` in the published code of Divot (divot.md 4.4)."""

CONTINUOUS = {"euler": Euler, "heun": Heun}
"""Samplers of continuous schedules."""


def make_sampler(cfg: SamplerConfig, schedule: schedules.Schedule) -> Sampler:
    """Returns the sampler of `cfg` for a schedule.

    Raises:
        InputError: for a sampler that does not run on `schedule`.
    """
    discrete = isinstance(schedule, schedules.DiscreteSchedule)
    kinds = SAMPLERS if discrete else CONTINUOUS
    require(
        cfg.name in kinds,
        f"sampler name must be one of {', '.join(kinds)} with {type(schedule).__name__}, got "
        f"{cfg.name!r}; choose one of them",
    )
    kind, options = kinds[cfg.name], {"prediction": schedule.prediction}
    if discrete:
        options["previous"] = cfg.previous
    if kind is DDIM:
        options["eta"] = cfg.eta
        options |= REFERENCE if cfg.variant == "reference" else {}
    return kind(schedule, cfg.steps, **options)


def with_name(sampler: DDIM | DPM, name: str) -> DDIM | DPM:
    """Returns the sampler `name` with the options of `sampler` that both have."""
    kind = SAMPLERS[name]
    known = {field.name for field in dataclasses.fields(kind)}
    options = {field.name: getattr(sampler, field.name) for field in dataclasses.fields(sampler)}
    return kind(**{key: value for key, value in options.items() if key in known})
