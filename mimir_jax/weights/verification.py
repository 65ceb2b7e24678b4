# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares whole folders of ours with their checksums."""

import os
import pathlib

from mimir_jax import checksums, files
from mimir_jax.errors import InputError
from mimir_jax.weights import native, opening, runs

_ITEMS = ("data", "config")  # of a checkpoint, beside the arrays


def verify(path: str | os.PathLike[str]) -> list[str]:
    """Reads all that a run or a native folder holds and compares it with its checksums.

    Returns:
        A line on each checkpoint or folder.

    Raises:
        InputError: naming the first that has changed, is no folder of ours, or has no checksums.
    """
    folder = opening.resolve(path)
    raw = files.read_json(folder / runs.CONFIG_FILE, "config")
    if raw.get("format") == native.FORMAT:
        return [_verify_native(folder)]
    runs.read_config(folder)
    if runs.is_released(folder):
        return [_verify_native(folder / runs.WEIGHTS)]
    runs.latest_step(folder)
    return [_verify_checkpoint(folder / runs.CHECKPOINTS / str(s)) for s in runs.steps(folder)]


def _verify_native(folder: pathlib.Path) -> str:
    count = len(native.open_params(folder).read_all())
    return f"{folder}: {count} arrays and {len(native.read_manifest(folder)['files'])} files"


def _verify_checkpoint(checkpoint: pathlib.Path) -> str:
    sums = runs.read_sums(checkpoint)
    found = native.open_checkpoint(checkpoint, item="state", sums=sums, remedy=runs.DAMAGED_REMEDY)
    if missing := sorted(sums.keys() - found.tensors.keys() - set(_ITEMS)):
        raise InputError(
            f"checkpoint {checkpoint} must hold what was saved, {len(missing)} arrays are gone: "
            f"{', '.join(missing[:5])}; {runs.DAMAGED_REMEDY}"
        )
    found.read_all()
    for item in _ITEMS:
        content = files.read_json(checkpoint / item / "metadata", f"{item} of checkpoint")
        if checksums.of_json(content) != sums.get(item):
            raise InputError(
                f"checkpoint {checkpoint} must hold what was saved, its {item} has changed; "
                f"{runs.DAMAGED_REMEDY}"
            )
    return f"{checkpoint}: {len(found.tensors)} arrays and {len(_ITEMS)} items"
