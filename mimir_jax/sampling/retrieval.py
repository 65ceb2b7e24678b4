# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents for requests: what a memory holds that resembles their prompts (VIMI)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mimir_jax import weights
from mimir_jax.encoders import interleaved
from mimir_jax.errors import require
from mimir_jax.retrieval import documents, index, memory, retriever
from mimir_jax.sampling.request import Request
from mimir_jax.systems import base


def retrieve(
    folder: str, requests: Sequence[Request], system: base.DiffusionSystem
) -> tuple[list[Request], list[str]]:
    """Gives each request the best document of a memory for its prompt.

    Args:
        folder: The memory, with an index for the constants of the run.
        requests: What to make.
        system: Reads documents; its config says how they are found.

    Returns:
        The requests, and prompts for which the memory holds nothing, which stay as they are.

    Raises:
        InputError: for a system that reads no documents, a memory without an index of its own
            documents, or one that holds nothing but the prompt itself.
    """
    config: Any = system.config
    require(
        "document" in system.request_fields,
        f"--retrieve must be left out for {config.kind}, which reads no documents; use a run of "
        "vimi",
    )
    store = memory.open_memory(weights.resolve(folder, "memory"))
    search = retriever.Retriever(index.Index(store, config.bm25), config.retrieval)
    found = {request.prompt: search.first(request.prompt) for request in requests}
    shown = {prompt: _with_image(store, document) for prompt, document in found.items()}
    given = [dataclasses.replace(r, document=shown[r.prompt]) for r in requests]
    return given, [prompt for prompt, document in found.items() if document is None]


def _with_image(
    store: memory.Memory, found: documents.Document | None
) -> interleaved.Document | None:
    return None if found is None else interleaved.Document(found.text, store.read_image(found))
