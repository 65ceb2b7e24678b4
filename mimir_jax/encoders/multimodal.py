# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompts with images to the states of a frozen LLaVA (VIMI, arXiv 2407.06304; V-U1, V-U2).

States are a pure function of prompt and network: each prompt passes alone through a program of one
fixed length, so its states never depend on the rest of the batch.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mimir_jax import files, weights
from mimir_jax.config import MultimodalConfig
from mimir_jax.encoders import frozen as frozen_lib
from mimir_jax.encoders import images, interleaved, text, tokenizers
from mimir_jax.encoders.cache import ContentCache
from mimir_jax.errors import require
from mimir_jax.models import condition
from mimir_jax.parallel import context

_TEMPLATE = "chat_template.json"  # that of the processor, in older folders


def frozen_network(
    config: MultimodalConfig, *, field: str = "llava", split: bool = False
) -> frozen_lib.FrozenNetwork:
    """Describes the network that a `MultimodalEncoder` loads.

    Args:
        config: Its folder and dtype.
        field: Section of the run's config that holds `config`.
        split: Whether it is split over the devices of a process.
    """
    return frozen_lib.FrozenNetwork(
        "llava",
        config.path,
        f"{field}.path",
        dtype=config.dtype,
        split=split,
        quantize=config.quantize,
    )


def read_width(config: MultimodalConfig) -> int:
    """Returns the width of the states, from the folder's config; reads no weights.

    Raises:
        InputError: for a missing folder.
    """
    network = frozen_network(config, field="multimodal")
    network.require_path()
    return network.describe()[0].config.llm.width


def load_tokenizer(folder: pathlib.Path) -> Any:
    """Loads the tokenizer of a LLaVA, with the chat template of its processor.

    Raises:
        InputError: as `tokenizers.load`.
    """
    tokenizer = tokenizers.load(folder)
    if tokenizer.chat_template is None and (folder / _TEMPLATE).is_file():
        stored = files.read_json(folder / _TEMPLATE, "chat template")
        tokenizer.chat_template = stored.get("chat_template")
    return tokenizer


class MultimodalEncoder:
    """A frozen LLaVA with its tokenizer, image rules and a cache by content.

    Args:
        config: What to load, and what to read from it.
        mesh: Devices of this process to split the network over; None keeps it on the first.

    Attributes:
        config: As above.
        cache: States by content.
        tokenization: Prompts to tokens.
        network: The LLaVA with its tokenizer.

    Raises:
        InputError: for a folder whose parts do not belong together.
    """

    def __init__(self, config: MultimodalConfig, *, mesh: Mesh | None = None):
        self.config, self.cache = config, ContentCache()
        network = frozen_network(config)
        folder = weights.resolve(network.require_path())
        cfg = network.describe()[0].config  # all checks come before weights are read
        positions = cfg.llm.rope.max_length
        require(
            config.length <= positions,
            f"multimodal.length must be at most the {positions} positions of {config.path}, got "
            f"{config.length}; lower it",
        )
        rules = images.read_config(folder, cfg.vit.image_size)
        self._images = images.with_fit(rules, config.fit)
        tokenizer = load_tokenizer(folder)
        tokenizers.check_ids(tokenizer, cfg.vocab_size)
        self.tokenization = interleaved.Tokenization(
            tokenizer, cfg.image_token, cfg.tokens_per_image, config.turn
        )
        self.network = text.TextNetwork(*network.load(mesh), tokenizer, folder)

    @property
    def width(self) -> int:
        """Width of the states."""
        return self.network.model.config.llm.width

    def identity(self) -> dict[str, Any]:
        """Returns everything besides the prompt that states depend on, as JSON values."""
        read = {name: getattr(self.config, name) for name in ("layer", "length", "turn")}
        return {**self.network.identity(), "images": dataclasses.asdict(self._images), **read}

    @context.no_mesh()
    def encode(self, prompts: Sequence[interleaved.Prompt]) -> condition.PromptFeatures:
        """Returns the states of prompts, stacked, as numpy arrays.

        Raises:
            InputError: for a prompt whose images alone are too long.
        """
        rows = [self._row(prompt) for prompt in prompts]
        states, mask = (np.stack(parts) for parts in zip(*rows, strict=True))
        return condition.PromptFeatures(states=states, mask=mask)

    def truncated(self, prompt: interleaved.Prompt) -> list[str]:
        """Returns the ends of the texts of a prompt that do not fit; none where all fits."""
        return self.tokenization.fit(prompt, self.config.length)[1]

    def _row(self, prompt: interleaved.Prompt) -> tuple[np.ndarray, np.ndarray]:
        return self.cache.get(prompt.key(), functools.partial(self._encode_one, prompt))

    def _encode_one(self, prompt: interleaved.Prompt) -> tuple[np.ndarray, np.ndarray]:
        prompt, _ = self.tokenization.fit(prompt, self.config.length)
        rows = [self.tokenization.ids(prompt)]
        ids, mask = tokenizers.pad(rows, self.config.length, self.network.pad_id)
        pixels = [images.prepare(image, self._images) for image in prompt.images]
        states = self._states(
            self.network.params,
            jax.device_put(ids),
            jax.device_put(mask),
            jax.device_put(np.stack(pixels)) if pixels else None,
        )
        return np.where(mask[0, :, None], jax.device_get(states)[0], 0), mask[0]

    @functools.cached_property
    def _states(self):
        encode = functools.partial(self.network.model.encode, layer=self.config.layer)
        return jax.jit(encode)
