# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Train a small tokenizer on Toyworld texts.

The tokenizer of T5 reads narrow captions only; that of the LLM reads every wording and the replies.
"""

from absl import flags

from mimir_jax import files
from mimir_jax.cli import command
from mimir_jax.config import INSTRUCTIONS, DataConfig
from mimir_jax.errors import InputError

WORDS = ""
CONFIG = False


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    flags.DEFINE_enum("kind", "llm", ["t5", "llm"], "Special tokens of T5 or of Phi-3.", values)
    flags.DEFINE_string("out", None, "Folder to write; must not exist.", values)
    text = "Upper bound on the number of tokens."
    flags.DEFINE_integer("vocab_size", 1024, text, lower_bound=1, flag_values=values)
    text = "Training scenes whose texts are read."
    flags.DEFINE_integer("scenes", 4000, text, lower_bound=1, flag_values=values)


def main(args: command.Arguments) -> None:
    """Writes `tokenizer.json` and `tokenizer_config.json`."""
    if args.flags.out is None:
        raise InputError("--out must name a folder to write, got none")
    out = files.expand_path(args.flags.out)
    from mimir_jax.data import sources
    from mimir_jax.data.toyworld import captions, language, replies, wording
    from mimir_jax.encoders import tokenizers

    with files.atomic_directory(out) as folder:
        source = sources.make_source(DataConfig(), "train", seed=0)
        texts = list(INSTRUCTIONS)
        for index in range(args.flags.scenes):
            scene = source.scene(index)
            texts += [captions.caption(scene, style, index) for style in captions.STYLES]
            texts += captions.answers(scene)
            for words in language.WORDINGS[1:] if args.flags.kind == "llm" else ():
                found = wording.caption(scene, words, index)
                texts += [found.text, *replies.every(found.meaning)]
        tokenizers.train(texts, folder, kind=args.flags.kind, vocab_size=args.flags.vocab_size)
    print(f"{len(texts)} texts -> {out}")
