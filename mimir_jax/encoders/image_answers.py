# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers of a LLaVA to fixed questions about an image, decoded greedily (arXiv 2310.03744)."""

import contextlib
import os
from collections.abc import Sequence

import jax
import numpy as np

from mimir_jax import weights
from mimir_jax.encoders import chat, decoding, images, interleaved, multimodal, tokenizers
from mimir_jax.errors import InputError, require
from mimir_jax.image_files import RGBImage
from mimir_jax.models import functional, llm


class ImageAnswers:
    """A LLaVA that answers the same questions about each image.

    An image that is no square is padded to one, as LLaVA's own code does, so that nothing of it is
    cut off. All questions pass together through one program of fixed shapes.

    Args:
        path: Folder of a LLaVA: weights, config, image processor, and tokenizer with chat template.
        questions: The questions.
        max_new_tokens: Most tokens of an answer.

    Raises:
        InputError: for a folder that lacks a part, or questions that hold the image token.
    """

    def __init__(
        self, path: str | os.PathLike[str], questions: Sequence[str], *, max_new_tokens: int
    ):
        folder = weights.resolve(path)
        model, self._params = weights.load(folder, kind="llava")
        cfg = model.config
        rules = images.read_config(folder, cfg.vit.image_size)
        self._images = images.with_fit(rules, "pad")
        self._tokenizer = multimodal.load_tokenizer(folder)
        require(
            bool(self._tokenizer.chat_template),
            f"LLaVA {folder} must hold a chat template, got none; add the chat_template.json or "
            ".jinja of its processor",
        )
        tokenizers.check_ids(self._tokenizer, cfg.vocab_size)
        self._ends: set[int] = set()
        for parts in (False, True):  # templates take one form of content or the other
            with contextlib.suppress(InputError):
                self._ends.update(chat.end_ids(self._tokenizer, folder, parts=parts))
        tokenization = interleaved.Tokenization(
            self._tokenizer, cfg.image_token, cfg.tokens_per_image
        )
        rows = [tokenization.ids(_prompt(question), answer=True) for question in questions]
        need, positions = max(map(len, rows)) + max_new_tokens, cfg.llm.rope.max_length
        require(
            need <= positions,
            f"questions and answers must fit the {positions} positions of LLaVA {folder}, got "
            f"{need} tokens; shorten them",
        )
        self._pad = tokenizers.masked_pad_id(self._tokenizer, cfg.vocab_size)
        self._ids, self._mask = tokenizers.pad(rows, max(map(len, rows)), self._pad)
        self._decoder = functional.build(llm.LLM, cfg.llm)
        self._embed = jax.jit(model.embed)
        self._max_new_tokens = max_new_tokens

    def answer(self, image: RGBImage) -> list[str]:
        """Returns the answer to each question."""
        pixels = np.stack([images.prepare(image, self._images)] * len(self._ids))
        tokens = decoding.generate(
            self._decoder,
            self._params["llm"],
            self._ids,
            self._mask,
            max_new_tokens=self._max_new_tokens,
            eos_ids=tuple(sorted(self._ends)),
            pad_id=self._pad,
            embeddings=self._embed(self._params, self._ids, pixels),
        )
        return [self._text(row) for row in np.asarray(tokens).tolist()]

    def _text(self, tokens: list[int]) -> str:
        """Returns an answer up to its end token."""
        end = next((i for i, token in enumerate(tokens) if token in self._ends), len(tokens))
        return self._tokenizer.decode(tokens[:end], skip_special_tokens=True).strip()


def _prompt(question: str) -> interleaved.Prompt:
    """Returns a question behind an image, of which the tokens need no more than the place."""
    place = np.zeros((1, 1, 3), np.uint8)
    return interleaved.Prompt((place, interleaved.Text(f"\n{question}", cut=0)))
