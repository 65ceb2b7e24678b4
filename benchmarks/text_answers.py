# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""How often the small LLM answers exactly, by wording, number of kinds and request.

    python benchmarks/text_answers.py [--llm package:tiny/llm] [--captions 100] [--out docs/results]

Draws held-out captions in every wording, asks the four instructions and for an elaboration, and
compares greedy replies word for word. Writes `text.md` and `text.json` to `--out`, and with
`--wrong FILE` every reply that differs.
"""

import argparse
import json
import pathlib
import sys
import time

import jax.numpy as jnp
import numpy as np

from mimir_jax import weights
from mimir_jax.encoders import chat, decoding, tokenizers
from mimir_jax.evaluation import replies

ROOT = pathlib.Path(__file__).parents[1]
BATCH, PROMPT, REPLY = 90, 112, 80
TARGET = 0.98

PAGE = """# Replies of the small LLM

`python benchmarks/text_answers.py{command}`: greedy replies to {captions} captions of the `{split}`
split for every wording and number of kinds of objects. A reply counts if every word of it is right.
Shares are in percent, with 95 % Wilson intervals. Captions, meanings and exact replies come from
[the language](../language.md).

{table}
Below the target of {target:.0f} %: {missed}.
"""


def main() -> int:
    """Returns 1 where a share over all captions of a wording is below the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm", default="package:tiny/llm", help="folder of the LLM")
    parser.add_argument("--captions", type=int, default=100, help="for each wording and kinds")
    parser.add_argument("--split", default="heldout")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, help="folder of the page")
    parser.add_argument("--wrong", type=pathlib.Path, help="receives replies that differ")
    args = parser.parse_args()
    asked = replies.questions(args.captions, split=args.split, seed=args.seed)
    start = time.perf_counter()
    lines = replies.score(asked, make_ask(args.llm))
    print(f"{len(lines)} replies in {time.perf_counter() - start:.0f} s")
    cells = replies.summarise(lines)
    print(replies.text(cells))
    if args.wrong:
        wrong = [line for line in lines if not line["exact"]]
        args.wrong.write_text("".join(json.dumps(line) + "\n" for line in wrong))
    missed = [
        f"{cell['wording']} {cell['request']}"
        for cell in cells
        if not cell["kinds"] and cell["exact"] < TARGET
    ]
    if args.out:
        page = PAGE.format(
            command="" if args.captions == 100 else f" --captions {args.captions}",
            captions=args.captions,
            split=args.split,
            table=replies.markdown(cells),
            target=100 * TARGET,
            missed=", ".join(missed) or "none",
        )
        (args.out / "text.md").write_text(page)
        record = {"split": args.split, "seed": args.seed, "cells": cells}
        (args.out / "text.json").write_text(json.dumps(record, indent=1) + "\n")
    return 1 if missed else 0


def make_ask(folder: str) -> replies.Ask:
    """Loads an LLM; returns a function from chats to greedy replies."""
    model, params = weights.load(folder, kind="llm")
    tokenizer = tokenizers.load(weights.resolve(folder))

    def ask(chats):
        texts = []
        for first in range(0, len(chats), BATCH):
            rows = [chat.tokenize(tokenizer, turns) for turns in chats[first : first + BATCH]]
            short = BATCH - len(rows)
            ids, mask = tokenizers.pad(rows + rows[:1] * short, PROMPT, tokenizer.pad_token_id)
            tokens = decoding.generate(
                model,
                params,
                jnp.asarray(ids),
                jnp.asarray(mask),
                max_new_tokens=REPLY,
                eos_ids=(tokenizer.eos_token_id,),
                pad_id=tokenizer.pad_token_id,
            )
            found = tokenizer.batch_decode(np.asarray(tokens), skip_special_tokens=True)
            texts += [reply.strip() for reply in found[: len(rows)]]
        return texts

    return ask


if __name__ == "__main__":
    sys.exit(main())
