# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads and writes samplers as `scheduler_config.json`, the file of diffusers' schedulers."""

import json
import os
import pathlib
import typing
from typing import Any

from absl import logging

from mimir_jax import files
from mimir_jax.config import DiffusionConfig
from mimir_jax.diffusion import samplers, schedules
from mimir_jax.errors import InputError, require

FILE = "scheduler_config.json"

_CLASSES = {"CogVideoXDDIMScheduler": samplers.DDIM, "CogVideoXDPMScheduler": samplers.DPM}
_PREDICTIONS = {"v_prediction": "velocity", "epsilon": "noise", "sample": "x0"}
_ENDS = {True: "clean", False: "first"}

DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "trained_betas": None,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "rescale_betas_zero_snr": False,
    "snr_shift_scale": 3.0,
}
"""What the constructors of both classes take for a field that is missing."""

NO_EFFECT = {
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "sample_max_value": 1.0,
}
"""Fields that the constructors read and never use."""

_UNUSED = {*NO_EFFECT, "thresholding", "dynamic_thresholding_ratio"}
_CHOICES = {
    "beta_schedule": typing.get_args(schedules.BetaSchedule),
    "prediction_type": tuple(_PREDICTIONS),
    "timestep_spacing": ("trailing", "leading", "linspace"),
}


def load_scheduler(
    folder: str | os.PathLike[str], num_steps: int = 50
) -> samplers.DDIM | samplers.DPM:
    """Returns the sampler that a `scheduler_config.json` of diffusers describes.

    Missing keys take the defaults of diffusers' constructors: `epsilon`, `leading`, no zero
    terminal SNR, an SNR shift of 3. The reference computes every step without `clip_sample`,
    `clip_sample_range`, `sample_max_value` and thresholding, so they are ignored. Unknown keys are
    ignored with a warning.

    Args:
        folder: The `scheduler` folder of a pipeline, or the file itself.
        num_steps: Sampling steps; not part of the file.

    Raises:
        InputError: for a missing or unreadable file, another class, an impossible value, or
            options that `num_steps` steps cannot satisfy.
    """
    path = files.expand_path(folder)
    path = path / FILE if path.is_dir() else path
    stored = _read(path)
    name = stored.get("_class_name")
    require(
        isinstance(name, str) and name in _CLASSES,
        f"scheduler of {path} must be one of {', '.join(_CLASSES)}, got {name}; save the pipeline "
        "with one of them",
    )
    if unknown := sorted(
        key for key in stored if key not in {*DEFAULTS, *_UNUSED} and not key.startswith("_")
    ):
        logging.warning("%s: ignoring unknown options %s", path, ", ".join(unknown))
    options = {key: stored.get(key, default) for key, default in DEFAULTS.items()}
    for key, value in options.items():
        _check(path, key, value)
    most = options["num_train_timesteps"]
    require(
        1 <= num_steps <= most,
        f"num_steps must be within 1..{most}, the timesteps of {path}, got {num_steps}; choose "
        "another",
    )
    try:
        sampler = _sampler(_CLASSES[name], options, num_steps)
        sampler.coefficients()
    except InputError as error:
        raise InputError(f"scheduler of {path}: {error}") from None
    return sampler


def save_scheduler(
    sampler: samplers.DDIM | samplers.DPM, folder: str | os.PathLike[str]
) -> pathlib.Path:
    """Writes `sampler` as the `scheduler_config.json` that diffusers reads.

    The number of sampling steps is no part of the file.

    Args:
        sampler: The sampler.
        folder: Destination; created if it does not exist.

    Returns:
        The path of the file.

    Raises:
        InputError: for a sampler that diffusers has no options for.
    """
    require(
        sampler.previous == "reference",
        f"sampler.previous must be reference, the one rule of diffusers, got {sampler.previous}; "
        "replace it to lose at most one timestep a step",
    )
    require(
        not sampler.stochastic or isinstance(sampler, samplers.DPM),
        f"sampler.eta must be 0 for diffusers, whose CogVideoX scheduler ignores it, got "
        f"{getattr(sampler, 'eta', 0.0)}; replace it with 0",
    )
    names = {ours: theirs for theirs, ours in _PREDICTIONS.items()}
    require(
        sampler.prediction in names,
        f"sampler.prediction must be one of {', '.join(names)} for diffusers, got "
        f"{sampler.prediction}; convert the model's prediction",
    )
    schedule, diffusion = sampler.schedule, sampler.schedule.config
    require(
        sampler.spacing in _CHOICES["timestep_spacing"] and schedule.trained_levels is None,
        "sampler must be of the clean variant on computed levels for diffusers, which has no "
        f"options for others, got {sampler.spacing} timesteps; save another sampler",
    )
    options = {
        "_class_name": {kind: name for name, kind in _CLASSES.items()}[type(sampler)],
        "num_train_timesteps": diffusion.num_train_steps,
        "beta_start": diffusion.beta_start,
        "beta_end": diffusion.beta_end,
        "beta_schedule": schedule.beta_schedule,
        "trained_betas": schedule.trained_betas,
        "set_alpha_to_one": sampler.end == "clean",
        "steps_offset": sampler.steps_offset,
        "prediction_type": names[sampler.prediction],
        "timestep_spacing": sampler.spacing,
        "rescale_betas_zero_snr": diffusion.zero_terminal_snr,
        "snr_shift_scale": diffusion.snr_shift,
        **NO_EFFECT,
    }
    path = files.expand_path(folder) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(options, indent=2, sort_keys=True) + "\n")
    return path


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"scheduler {path} must be a {FILE} of diffusers, got none: {reason}"
        ) from None
    require(
        isinstance(stored, dict),
        f"scheduler {path} must hold a JSON object, got {type(stored).__name__}; save it again",
    )
    return stored


def _check(path: pathlib.Path, key: str, value: Any) -> None:
    """Raises `InputError` unless `value` is valid for the option `key`."""

    def number(x: Any) -> bool:
        return isinstance(x, int | float) and not isinstance(x, bool)

    match DEFAULTS[key]:
        case str():
            rule, ok = f"one of {', '.join(_CHOICES[key])}", value in _CHOICES[key]
        case bool():
            rule, ok = "true or false", isinstance(value, bool)
        case int():
            least = int(key == "num_train_timesteps")
            rule = f"an integer of at least {least}"
            ok = isinstance(value, int) and not isinstance(value, bool) and value >= least
        case float():
            rule, ok = "a positive number", number(value) and value > 0
        case _:
            rule = "null or a list of numbers"
            ok = value is None or (isinstance(value, list) and all(map(number, value)))
    require(ok, f"{key} of {path} must be {rule}, got {json.dumps(value)}; correct the file")


def _sampler(
    kind: type[samplers.DDIM] | type[samplers.DPM], options: dict[str, Any], num_steps: int
) -> samplers.DDIM | samplers.DPM:
    betas = options["trained_betas"]
    schedule = schedules.DiscreteSchedule(
        DiffusionConfig(
            num_train_steps=options["num_train_timesteps"],
            beta_start=float(options["beta_start"]),
            beta_end=float(options["beta_end"]),
            snr_shift=float(options["snr_shift_scale"]),
            zero_terminal_snr=options["rescale_betas_zero_snr"],
        ),
        beta_schedule=options["beta_schedule"],
        trained_betas=None if betas is None else tuple(map(float, betas)),
    )
    return kind(
        schedule,
        num_steps,
        prediction=_PREDICTIONS[options["prediction_type"]],
        spacing=options["timestep_spacing"],
        steps_offset=options["steps_offset"],
        end=_ENDS[options["set_alpha_to_one"]],
    )
