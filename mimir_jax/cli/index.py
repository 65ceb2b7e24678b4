# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Build or search a memory of documents with images.

Each SRC is a JSONL file with text, and id, image and source where a document has them; or a folder
of images with their texts in metadata.jsonl (file_name, text), or in a .txt per image. Without SRC,
a new memory holds scenes of Toyworld: their first frame and a short caption. With --invented_names,
a new memory also holds names of shapes that only an image explains.

--out receives the documents in shards, which never change, and a BM25 index of them. Documents of
SRC are appended to an existing memory; without SRC, it gets an index if it lacks one. --query
prints the best documents for a text.
"""

import itertools
import time

from absl import flags

from mimir_jax import files
from mimir_jax.cli import command, dataclass_flags
from mimir_jax.retrieval.config import BM25Config

WORDS = "[SRC ...]"
CONFIG = False


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""

    def integer(name: str, default: int, text: str, least: int) -> None:
        flags.DEFINE_integer(name, default, text, lower_bound=least, flag_values=values)

    flags.DEFINE_string("out", "memory", "Folder of the memory.", values)
    integer("scenes", 2000, "Scenes of Toyworld in a new memory without SRC.", 1)
    integer("first_scene", 0, "Number of the first of them.", 0)
    text = "Also put the 60 invented names in a new memory, each with an image of its shape."
    flags.DEFINE_bool("invented_names", False, text, values)
    integer("seed", 0, "Seed of the scenes.", 0)
    integer("shard_size", 1_000_000, "Documents of a shard.", 1)
    flags.DEFINE_bool("verify", False, "Compare the checksums of all files first.", values)
    flags.DEFINE_multi_string("query", [], "Text to find documents for.", values)
    integer("top", 5, "Documents to print for a query.", 1)
    dataclass_flags.define(values, BM25Config)


def main(args: command.Arguments) -> None:
    """Appends, indexes and searches, and prints what was done."""
    values = args.flags
    config = dataclass_flags.read(values, BM25Config)
    from mimir_jax.retrieval import building, documents, memory

    folder = files.expand_path(values.out)
    sources = [documents.from_path(files.expand_path(word)) for word in args.words]
    store = memory.create(folder)
    if values.verify:
        store.verify()
    if not len(store):
        sources = sources or [_scenes(folder, values)]
        if values.invented_names:
            sources.append(documents.from_invented_names(folder))
    start = time.monotonic()
    added = 0
    if sources:  # all or none of them
        found = itertools.chain.from_iterable(sources)
        added = store.append(found, shard_size=values.shard_size)
    if added:
        print(f"{added} documents in {time.monotonic() - start:.1f} s")
    start = time.monotonic()
    built = building.build(store, config)
    print(f"memory {folder}: {len(store)} documents, checksum {store.checksum[:12]}")
    print(f"index opened after {time.monotonic() - start:.1f} s")
    for query in values.query:
        hits = built.search(documents.words(query), values.top)
        print(f"{query}")
        for number, score in zip(hits.numbers.tolist(), hits.scores.tolist(), strict=True):
            document = store[number]
            print(f"  {score:6.2f}  {document.id}  {document.text}")


def _scenes(folder, values: flags.FlagValues):
    from mimir_jax.data.toyworld import source
    from mimir_jax.retrieval import documents

    first = values.first_scene
    scenes = source.ToyworldSource(
        "train", seed=values.seed, caption_style="short", scenery="single"
    )
    return documents.from_toyworld(folder, scenes, range(first, first + values.scenes))
