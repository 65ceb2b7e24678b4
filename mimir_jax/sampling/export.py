# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A run as a whole pipeline in the layout of diffusers."""

import os

from jax.typing import DTypeLike

from mimir_jax import files, systems, weights
from mimir_jax.weights import runs


def write_pipeline(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    dtype: DTypeLike | None = None,
) -> None:
    """Writes a run as the folder of a pipeline, complete or not at all.

    Args:
        source: The run; adapters are merged.
        target: Folder to write; must not exist.
        dtype: Stored dtype of the networks; None keeps each tensor's own.

    Raises:
        InputError: for a run of a system that diffusers does not have, a setting that diffusers
            has no option for, or a `target` that exists or cannot be written.
    """
    folder = weights.resolve(source)
    run = runs.read_config(folder)
    systems.write_pipeline(run, folder, files.expand_path(target), dtype=dtype)
