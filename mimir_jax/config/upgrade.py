# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Names that fields and values had in older versions, for the JSON of old runs and weights.

Files on disk stay as they are; they are upgraded when they are read.
"""

from collections.abc import Mapping
from typing import Any

MOVED: dict[str, str | dict[str, str]] = {
    "task": "system",
    "system.sampler.guidance": "system.sampler.guidance_scale",
    "system.sampler.dynamic": "system.sampler.dynamic_guidance",
    "data.num_scenes": "data.toyworld.num_scenes",
    "data.caption_style": "data.toyworld.caption_style",
    "data.scenery": "data.toyworld.variety",
    "data.path": {"folder": "data.folder.path", "tfds": "data.tfds.path"},
    "data.name": "data.tfds.name",
    "data.video_key": "data.tfds.video_key",
    "data.caption_key": "data.tfds.caption_key",
    "data.source_fps": "data.tfds.source_fps",
    "data.start": "data.window",
    "data.short": "data.short_clips",
    "optimizer.accumulate": "optimizer.grad_accumulation",
    "mesh.sequence": "mesh.context_parallel",
    "system.sampler.picture_guidance_scale": "system.sampler.image_guidance_scale",
    "system.picture_latents": "system.reference_latents",
    "system.picture_dropout": "system.image_dropout",
    "system.tasks.max_pictures": "system.tasks.max_images",
}
"""New path of every field that moved, in the order of the moves.

A path that depends on `data.source` is given by source; it is dropped for any other source, which
never read it.
"""

VALUES: dict[str, dict[Any, Any]] = {
    "kind": {"text_to_video": "mimir"},
    "remat": {"products": "dots"},
}
"""New values, by the name of their field, wherever it stands."""

ADDED: dict[str, Any] = {"system.diffusion.kind": "discrete"}
"""Values of fields that are younger than the file and tell classes of a section apart."""


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested config of an old run or weights folder with today's names.

    Values of today's version come back unchanged.
    """
    values = _values(values)
    for old, new in MOVED.items():
        parent, _, name = old.rpartition(".")
        section = _section(values, parent)
        if section is None or name not in section:
            continue
        value = section.pop(name)
        target = new if isinstance(new, str) else new.get(values["data"].get("source", ""), "")
        if target:
            parent, _, name = target.rpartition(".")
            _section(values, parent, make=True)[name] = value
    for path, value in ADDED.items():
        parent, _, name = path.rpartition(".")
        if (section := _section(values, parent)) is not None:
            section.setdefault(name, value)
    return values


def _section(values: dict[str, Any], path: str, make: bool = False) -> Any:
    """Returns the nested section at `path`; None where there is none, unless `make`."""
    for part in path.split(".") if path else []:
        if part not in values and make:
            values[part] = {}
        values = values.get(part)
        if not isinstance(values, dict):
            return None
    return values


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of nested mappings with today's values."""
    out = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            value = _values(value)
        elif name in VALUES and isinstance(value, str):
            value = VALUES[name].get(value, value)
        out[name] = value
    return out
