# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The text side of rows of text and clips: a tokenizer, and the ids of delimiters and clips."""

from typing import Any

from mimir_jax import weights
from mimir_jax.encoders import tokenizers
from mimir_jax.errors import InputError
from mimir_jax.models.divot import vocabulary


def load_tokenizer(path: str | None) -> Any:
    """Loads the tokenizer of text that `system.tokenizer_path` names.

    Raises:
        InputError: if it names none, or it is missing.
    """
    if path is None:
        raise InputError(
            "system.tokenizer_path must name the folder of the tokenizer of text, got None; "
            "set it with --config.system.tokenizer_path=FOLDER"
        )
    return tokenizers.load(weights.resolve(path))


def find_vocabulary(tokenizer: Any, num_queries: int, vocab_size: int) -> vocabulary.Vocabulary:
    """Returns the ids of the tokens around text.

    Args:
        tokenizer: Of the text. Where it lacks delimiters and index tokens, they take the last ids.
        num_queries: Tokens of a clip.
        vocab_size: Rows of the vocabulary of the LLM.

    Raises:
        InputError: if tokenizer and LLM have none for delimiters and index tokens, or the tokenizer
            has tokens without a row, or no first and last one.
    """
    tokenizers.require(tokenizer, "bos", "eos")
    ids = vocabulary.extend(tokenizer.get_vocab(), num_queries, vocab_size)
    tokenizers.check_ids(tokenizer, vocab_size)
    pad = tokenizer.convert_ids_to_tokens(tokenizers.masked_pad_id(tokenizer, vocab_size))
    names = {"bos": tokenizer.bos_token, "eos": tokenizer.eos_token, "pad": pad}
    return vocabulary.read(ids, num_queries, **names)
