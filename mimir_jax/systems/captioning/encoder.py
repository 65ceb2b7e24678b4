# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of captioning: rows of images, questions and answers."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mimir_jax.config import TrainConfig
from mimir_jax.data import sources
from mimir_jax.encoders import decoding, images, interleaved, tokenizers
from mimir_jax.models import functional, llm
from mimir_jax.parallel import distributed
from mimir_jax.systems import base, heldout
from mimir_jax.systems.captioning import pairs
from mimir_jax.systems.captioning import system as system_lib


class CaptioningEncoder:
    """`base.Encoder` of images with questions.

    Args:
        config: The run.
        system: Its pure half.
    """

    def __init__(self, config: TrainConfig, system: system_lib.CaptioningSystem):
        self._config, self._system = config, system

    def source(self, split: sources.Split) -> pairs.Pairs:
        """Returns the images of a split, with questions and answers."""
        return pairs.Pairs(self._config, split)

    def encode(self, records: Mapping[str, Any]) -> system_lib.Batch:
        """Returns the rows of prompts of one image each and their answers."""
        tokenization, length = self._system.tokenization, self._config.system.length
        tokenizer, prompts = tokenization.tokenizer, records["prompt"]
        shape = (len(prompts), length)
        ids = np.full(shape, tokenizer.pad_token_id, np.int32)
        labels = np.full(shape, -1, np.int32)
        for row, (prompt, answer) in enumerate(zip(prompts, records["answer"], strict=True)):
            asked = tokenization.ids(prompt, answer=True)
            said = tokenizer(answer, add_special_tokens=False)["input_ids"]
            said.append(tokenizer.eos_token_id)
            said = said[: max(length - len(asked), 0)]
            whole = [*asked, *said][:length]
            ids[row, : len(whole)] = whole
            labels[row, len(asked) - 1 :][: len(said)] = said
        return system_lib.Batch(pixels=self.pixels(prompts), ids=ids, labels=labels)

    def pixels(self, prompts: list[interleaved.Prompt]) -> np.ndarray:
        """Returns the images of prompts as the tower reads them."""
        return np.stack(
            [images.prepare(p, self._system.images) for prompt in prompts for p in prompt.images]
        )

    @functools.cached_property
    def heldout(self) -> list[dict[str, Any]]:
        """The held-out records."""
        source = self.source("heldout")
        return [source[i] for i in range(min(self._config.system.heldout_texts, len(source)))]


class HeldoutImages(heldout.HeldoutBatch):
    """Loss and accuracy of answers about held-out images.

    Args:
        system: The pure half.
        encoder: The host half.
    """

    def __init__(self, system: system_lib.CaptioningSystem, encoder: CaptioningEncoder):
        super().__init__(system, lambda: encoder.encode(heldout.columns(encoder.heldout)))
        self._system, self._encoder = system, encoder

    def make_examples(self, params: functional.Params) -> base.Examples:
        """Returns held-out answers, each followed by that of the network."""
        records = self._encoder.heldout[: self._system.config.examples]
        if not records:
            return base.Examples()
        tokenization = self._system.tokenization
        tokenizer = tokenization.tokenizer
        rows = [tokenization.ids(record["prompt"], answer=True) for record in records]
        longest = max(map(len, rows))
        ids, mask = tokenizers.pad(rows, longest, tokenizer.pad_token_id)
        pixels = self._encoder.pixels([record["prompt"] for record in records])
        tokens = decoding.generate(
            functional.build(llm.LLM, self._system.config.model.llm),
            params["llm"],
            ids,
            mask,
            max_new_tokens=48,
            eos_ids=(tokenizer.eos_token_id,),
            pad_id=tokenizer.pad_token_id,
            embeddings=jax.jit(self._system.model.embed)(params, ids, pixels),
        )
        said = tokenizer.batch_decode(distributed.to_host(tokens), skip_special_tokens=True)
        pairs_of = zip(records, said, strict=True)
        lines = [line for r, s in pairs_of for line in (r["answer"], f"  {s.strip()}", "")]
        return base.Examples(lines=lines)


def make_encoder(
    config: TrainConfig, system: system_lib.CaptioningSystem, mesh: Mesh | None = None
) -> CaptioningEncoder:
    """Returns the reader of images and questions; there are no frozen networks.

    Raises:
        InputError: for a tokenizer that does not belong to the model.
    """
    del mesh
    _ = system.tokenization, system.images
    return CaptioningEncoder(config, system)


def make_evaluators(
    config: TrainConfig, system: system_lib.CaptioningSystem, encoder: CaptioningEncoder
) -> list[base.Evaluator]:
    """Returns the evaluator of held-out images."""
    del config
    return [HeldoutImages(system, encoder)]
