# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clip tokens that a run of Divot's LLM writes for captions, cached by caption."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mimir_jax import hashing, systems, weights
from mimir_jax.config import DivotTokenizerConfig
from mimir_jax.encoders import cache, clip_tokens
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.systems import base
from mimir_jax.weights import runs


class WrittenTokens:
    """Clip tokens of captions, each drawn with a seed of its own that its caption fixes.

    Args:
        agent: Writes them.
        config: Section `system` of its run.
        params: Its parameters.
    """

    def __init__(self, agent: base.Writer, config: Any, params: functional.Params):
        self._agent, self._config, self._params = agent, config, params
        self._cache = cache.ContentCache()

    def encode(self, captions: Sequence[str]) -> Float[np.ndarray, "b q d"]:
        """Returns the tokens of a clip of each caption."""
        return np.stack([self._write(caption) for caption in captions])

    def identity(self) -> dict[str, Any]:
        """Returns JSON values that the tokens of a caption are a function of."""
        model = dataclasses.asdict(self._config.model)
        digest = hashing.tree_digest(self._params)
        return {"weights": digest, "config": model, "form": self._config.form}

    def _write(self, caption: str) -> Float[np.ndarray, "q d"]:
        key = hashing.content_key(caption)
        seed = int.from_bytes(key[:4], "big") >> 1
        return self._cache.get(key, lambda: self._agent.write_clip(caption, seed=seed).clip)


def open_written(path: str | os.PathLike[str], tokenizer: DivotTokenizerConfig) -> WrittenTokens:
    """Opens a run of Divot's LLM to write clip tokens.

    Args:
        path: The run.
        tokenizer: The tokenizer whose tokens it should write.

    Raises:
        InputError: for a run of another system, or of other tokens.
    """
    folder = weights.resolve(path)
    config = runs.read_config(folder)
    if config.system.kind != "divot_llm":
        raise InputError(
            f"system.agent_path must name a run of divot_llm, got one of {config.system.kind} in "
            f"{folder}; name another"
        )
    clip_tokens.require_fits(tokenizer, config.system.model, str(path))
    system = systems.make_system(config)
    params = weights.load_run(folder, system.model)
    return WrittenTokens(systems.make_writer(config, system, params), config.system, params)
