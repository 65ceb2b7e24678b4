# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Hugging Face tokenizers from a folder, and the small ones that ship with the package."""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int32

from mimir_jax import files, libraries
from mimir_jax.errors import InputError, listed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Chat form of the small LLM, after that of the Phi-3 family."""


def load(folder: str | os.PathLike[str]) -> "PreTrainedTokenizerBase":
    """Loads the tokenizer of the text model in `folder`; never asks a hub.

    It is in the folder itself, in `tokenizer` beside it (the layout of diffusers pipelines), or in
    a GGUF file.

    Raises:
        InputError: if there is none, it is damaged, or it is none of the fast ones.
    """
    folder = files.expand_path(folder)
    own = any(folder.glob("*token*"))
    if folder.suffix == ".gguf" or not own:
        from mimir_jax.weights import gguf

        file = folder if folder.suffix == ".gguf" else gguf.find(folder)
        if file is not None:
            return gguf.read_tokenizer(file)
    if not own and (folder.parent / "tokenizer").is_dir():
        folder = folder.parent / "tokenizer"
    transformers = libraries.transformers()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except BaseException as error:  # of a damaged file any; tokenizers panics outside `Exception`
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(
            f"folder {folder} must hold a Hugging Face tokenizer: {first_line(error)}"
        ) from None
    if not tokenizer.is_fast:
        raise InputError(
            f"folder {folder} must hold a fast tokenizer, got {type(tokenizer).__name__}; add its "
            "tokenizer.json"
        )
    tokenizer.truncation_side = "right"  # what is too long keeps its beginning, as `cut` says
    return tokenizer


def check_ids(tokenizer: "PreTrainedTokenizerBase", rows: int) -> None:
    """Checks that a network with `rows` embeddings can read every token.

    A pad token that was added without an embedding passes: see `pad_id`.

    Raises:
        InputError: naming tokens without an embedding, whose lookup would give that of another.
    """
    vocabulary = tokenizer.get_vocab()
    over = [t for t, i in vocabulary.items() if i >= rows and t != tokenizer.pad_token]
    if over:
        over.sort(key=vocabulary.get)
        raise InputError(
            f"tokenizer {tokenizer.name_or_path} must have ids below {rows}, the rows of the "
            f"embedding, got {vocabulary[over[-1]]} for {over[-1]!r} ({len(over)} tokens: "
            f"{listed([repr(t) for t in over])}); use the tokenizer and weights of one model"
        )


def masked_pad_id(tokenizer: "PreTrainedTokenizerBase", rows: int) -> int:
    """Returns the id at padded positions that a network with `rows` embeddings masks.

    Any serves, and many LLMs have no pad token: then it is the end of sequence, or 0.
    """
    return _first_id((tokenizer.pad_token_id, tokenizer.eos_token_id), rows)


def read_pad_id(tokenizer: "PreTrainedTokenizerBase", rows: int) -> int:
    """Returns the id at padded positions that a T5 with `rows` embeddings reads like any other.

    That is the pad token, or 0, which it is in every T5, where a tokenizer names none.
    """
    return _first_id((tokenizer.pad_token_id,), rows)


def _first_id(candidates: Sequence[int | None], rows: int) -> int:
    return next((i for i in candidates if i is not None and 0 <= i < rows), 0)


def require(tokenizer: "PreTrainedTokenizerBase", *names: str) -> None:
    """Raises `InputError` unless a tokenizer has the special tokens `pad`, `eos`, `mask`."""
    missing = [n for n in names if getattr(tokenizer, f"{n}_token_id") is None]
    if missing:
        raise InputError(
            f"tokenizer {tokenizer.name_or_path} must have a {' and a '.join(missing)} token, got "
            "none; name it in tokenizer_config.json"
        )


def first_line(error: BaseException) -> str:
    """Returns the beginning of what an exception of another library says, with its type."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def pad(
    rows: Sequence[Sequence[int]], length: int, pad_id: int, *, side: str = "right"
) -> tuple[Int32[np.ndarray, "b l"], Bool[np.ndarray, "b l"]]:
    """Pads or truncates token rows to `length`, keeping their beginning.

    Returns:
        Ids and a mask that is True at real tokens.
    """
    ids = np.full((len(rows), length), pad_id, np.int32)
    mask = np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        row = row[:length]
        where = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
        ids[i, where] = row
        mask[i, where] = True
    return ids, mask


def cut(tokenizer: "PreTrainedTokenizerBase", text: str, length: int) -> tuple[str, str]:
    """Splits `text` into the part that fits `length` tokens and the rest, "" if all fits."""
    return cut_until(
        tokenizer, text, lambda part: len(tokenizer(part, verbose=False)["input_ids"]) - length
    )


def cut_until(
    tokenizer: "PreTrainedTokenizerBase", text: str, excess: Callable[[str], int]
) -> tuple[str, str]:
    """Splits `text` between characters so that the first part has no token in excess.

    Args:
        tokenizer: Tokenizer of the text.
        text: The text.
        excess: Returns the number of tokens by which a text is too long, 0 or less if it fits.
    """
    kept = text
    while kept and (over := excess(kept)) > 0:
        start = _starts(tokenizer, kept)[-over:][0]
        kept = kept[: min(start, len(kept) - 1)].rstrip()
    return kept, text[len(kept) :].strip()


def _starts(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Returns the first character of each token; those that share one have the same."""
    out = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [start for start, _ in out["offset_mapping"]]


def train(texts: Iterable[str], folder: pathlib.Path, *, kind: str, vocab_size: int) -> None:
    """Trains a byte-level BPE tokenizer on `texts` and writes it to `folder`.

    Args:
        texts: Training text.
        folder: Receives `tokenizer.json` and `tokenizer_config.json`.
        kind: `t5` (closing `</s>`, a mask token, pad 0) or `llm` (chat markers of Phi-3).
        vocab_size: Upper bound; every byte is a token, so any text can be encoded.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    special = {
        "t5": ["<pad>", "</s>", "<mask>"],
        "llm": ["<|endoftext|>", "<s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"],
    }[kind]
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "t5":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
        names = {"pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"}
    else:
        names = {"pad_token": "<|endoftext|>", "bos_token": "<s>", "eos_token": "<|end|>"}
        names["chat_template"] = CHAT_TEMPLATE
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
