# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A CogVideoX run as a whole pipeline in the layout of diffusers, with or without a first frame.

The folder opens in diffusers and, by `mimir_jax.load`, here. Diffusers draws the unconditional
branch from the encoded empty text, whatever null condition the run was trained with.
"""

import json
import pathlib
import shutil
from typing import Any

from jax.typing import DTypeLike

from mimir_jax import config as c
from mimir_jax import files, systems, weights
from mimir_jax.diffusion import samplers, scheduler_config, schedules
from mimir_jax.errors import require
from mimir_jax.systems.cogvideox import published

_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "spiece.model")
_CLASSES = {
    "text_encoder": ("transformers", "T5EncoderModel"),
    "transformer": ("diffusers", "CogVideoXTransformer3DModel"),
    "vae": ("diffusers", "AutoencoderKLCogVideoX"),
}


def write_pipeline(
    run: c.TrainConfig,
    folder: pathlib.Path,
    target: pathlib.Path,
    *,
    dtype: DTypeLike | None = None,
) -> None:
    """Writes a run of CogVideoX as the folder of a pipeline, complete or not at all.

    Args:
        run: The run.
        folder: Its work directory; adapters are merged.
        target: Folder to write; must not exist.
        dtype: Stored dtype of the networks; None keeps each tensor's own.

    Raises:
        InputError: for a setting that diffusers has no option for, or a `target` that exists or
            cannot be written.
    """
    system = run.system
    scale = system.first_frame.latent_scale
    require(
        not system.reads_image or scale != "raw",
        "first_frame.latent_scale must be scaled or inverse, the two scales of diffusers, got raw; "
        "sample this run here",
    )
    frozen = systems.make_system(run).frozen
    vae, t5 = frozen["vae"].require_path(), frozen["t5"].require_path()
    parts = {"transformer": folder, "vae": vae, "text_encoder": t5}
    with files.atomic_directory(target) as out:
        scheduler = scheduler_config.save_scheduler(
            samplers.make_sampler(system.sampler, schedules.make_schedule(system.diffusion)),
            out / "scheduler",
        )
        for name, path in parts.items():
            weights.convert(path, out / name, to=_CLASSES[name][0], dtype=dtype)
        if system.reads_image:
            _set(out / "vae" / "config.json", invert_scale_latents=scale == "inverse")
        classes = {
            **_CLASSES,
            "scheduler": ("diffusers", json.loads(scheduler.read_text())["_class_name"]),
            "tokenizer": ("transformers", _move_tokenizer(out)),
        }
        name = next(n for n, reads in published.CLASSES.items() if reads == system.reads_image)
        header = {"_class_name": name, "_diffusers_version": "0.31.0"}
        index = header | {part: list(classes[part]) for part in sorted(classes)}
        files.write_json(out / published.INDEX, index)


def _move_tokenizer(folder: pathlib.Path) -> str:
    """Moves the tokenizer out of `text_encoder` to its own folder; returns its class."""
    (folder / "tokenizer").mkdir()
    for pattern in _TOKENIZER:
        for file in (folder / "text_encoder").glob(pattern):
            shutil.move(file, folder / "tokenizer" / file.name)
    settings = folder / "tokenizer" / "tokenizer_config.json"
    stated: dict[str, Any] = json.loads(settings.read_text()) if settings.is_file() else {}
    return stated.get("tokenizer_class", "T5Tokenizer")


def _set(path: pathlib.Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=2) + "\n")
