# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers of an LLM to single questions, decoded greedily."""

import os

import numpy as np

from mimir_jax import weights
from mimir_jax.encoders import chat, decoding, tokenizers

_STEP = 64  # prompts are padded to a multiple, so that few lengths are compiled


class ChatAnswers:
    """An LLM with a chat template.

    Args:
        path: Folder of the LLM: weights, config and tokenizer.
        max_new_tokens: Most tokens of an answer.

    Raises:
        InputError: for a folder that lacks a part.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_new_tokens: int):
        folder = weights.resolve(path)
        self._tokenizer = tokenizers.load(folder)
        self._ends = chat.end_ids(self._tokenizer, folder)  # needs the chat template
        self._model, self._params = weights.load(folder, kind="llm")
        size = self._model.config.vocab_size
        tokenizers.check_ids(self._tokenizer, size)
        self._pad = tokenizers.masked_pad_id(self._tokenizer, size)
        self._max_new_tokens = max_new_tokens

    def answer(self, question: str) -> str:
        """Returns the answer to a question, up to its end token."""
        ids = chat.tokenize(self._tokenizer, [{"role": "user", "content": question}])
        length = -(-len(ids) // _STEP) * _STEP
        tokens = decoding.generate(
            self._model,
            self._params,
            *tokenizers.pad([ids], length, self._pad),
            max_new_tokens=self._max_new_tokens,
            eos_ids=self._ends,
            pad_id=self._pad,
        )
        row = np.asarray(tokens)[0].tolist()
        end = next((i for i, token in enumerate(row) if token in self._ends), len(row))
        return self._tokenizer.decode(row[:end], skip_special_tokens=True).strip()
