# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Train a small tokenizer on Toyworld texts: `python launch/tokenizer.py --kind llm --out DIR`.

That of T5 reads narrow captions alone; that of the LLM reads every wording and the replies.
"""

import pathlib

from absl import flags

from mimir_jax.config import INSTRUCTIONS, DataConfig
from mimir_jax.config import flags as flags_lib
from mimir_jax.data import sources
from mimir_jax.data.toyworld import captions, language, wording
from mimir_jax.text import tokenizers

_KIND = flags.DEFINE_enum("kind", "llm", ["t5", "llm"], "Special tokens of T5 or of Phi-3.")
_OUT = flags.DEFINE_string("out", None, "Folder to write; must not exist.", required=True)
_VOCAB = flags.DEFINE_integer("vocab_size", 1024, "Upper bound on the number of tokens.")
_SCENES = flags.DEFINE_integer("scenes", 4000, "Training scenes to read texts of.")


def main(argv) -> None:
    """Writes `tokenizer.json` and `tokenizer_config.json`."""
    del argv
    out = pathlib.Path(_OUT.value)
    if out.exists():
        raise ValueError(f"--out must not exist, found {out}; delete it or choose another")
    source = sources.make_source(DataConfig(), "train", seed=0)
    texts = list(INSTRUCTIONS)
    for index in range(_SCENES.value):
        scene = source.scene(index)
        texts += [captions.caption(scene, style, index) for style in captions.STYLES]
        texts += captions.answers(scene)
        if _KIND.value == "llm":
            for words in language.WORDINGS[1:]:
                found = wording.caption(scene, words, index)
                texts += [found.text, wording.elaboration(found.meaning)]
                texts += wording.answers(found.meaning)
    tokenizers.train(texts, out, kind=_KIND.value, vocab_size=_VOCAB.value)
    print(f"{len(texts)} texts -> {out}")


if __name__ == "__main__":
    flags_lib.run(main)
