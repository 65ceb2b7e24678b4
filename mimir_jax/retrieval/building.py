# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Builds the BM25 index of a memory: counts the words of each shard, then scores all of them.

Memory follows the largest shard. The files of a shard are those of `bm25s`.
"""

import array
import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64

from mimir_jax import files
from mimir_jax.config import BM25Config
from mimir_jax.errors import require
from mimir_jax.retrieval import index
from mimir_jax.retrieval import memory as memory_lib
from mimir_jax.retrieval.documents import words

_PARAMS = "params.index.json"
_BM25S = "0.3"  # version whose files these are


@dataclasses.dataclass(frozen=True)
class Counts:
    """Words of the documents of a shard, grouped by word.

    Attributes:
        vocabulary: Column of each word.
        starts: First entry of each column, and the end of the last.
        rows: Document of each entry, rising in a column.
        frequencies: Occurrences of the word in the document.
        lengths: Words of each document.
    """

    vocabulary: dict[str, int]
    starts: Int64[np.ndarray, " _"]
    rows: np.ndarray
    frequencies: np.ndarray
    lengths: np.ndarray


def build(memory: memory_lib.Memory, config: BM25Config) -> index.Index:
    """Writes the index of a memory into its folder and opens it; older ones are deleted.

    Needs about 40 bytes of memory per word of the largest shard.

    Raises:
        InputError: for an empty memory, or a folder that cannot be written.
    """
    require(len(memory) > 0, f"memory {memory.folder} must hold a document, got none; append some")
    folder = index.folder_of(memory, config)
    if not folder.exists():
        with files.atomic_directory(folder) as temporary:
            _write(temporary, memory, config)
    for other in memory.folder.glob("index-*"):
        if other != folder:
            shutil.rmtree(other)
    return index.Index(memory, config)


def _write(folder: pathlib.Path, memory: memory_lib.Memory, config: BM25Config) -> None:
    """Counts the words of each shard, then scores them with the statistics of all."""
    containing: dict[str, int] = {}
    total = 0
    for shard in memory.shards:
        counts = _count(shard.texts())
        total += int(counts.lengths.sum())
        for word, number in zip(counts.vocabulary, np.diff(counts.starts).tolist(), strict=True):
            containing[word] = containing.get(word, 0) + number
        _save_counts(folder / shard.folder.name, counts)
    mean, entries = total / len(memory), []
    for shard in memory.shards:
        place = folder / shard.folder.name
        _score(place, containing, len(memory), mean, config)
        entries.append({"name": place.name, "files": memory_lib.describe_files(place)})
    header = {
        "format": index.FORMAT,
        "version": index.VERSION,
        "memory": memory.checksum,
        "documents": len(memory),
        "mean_length": mean,
        **dataclasses.asdict(config),
        "shards": entries,
    }
    files.write_json(folder / index.HEADER, header)


def _count(texts: Iterable[str]) -> Counts:
    vocabulary: dict[str, int] = {}
    tokens, lengths = array.array("i"), array.array("i")
    for text in texts:
        found = words(text)
        lengths.append(len(found))
        tokens.extend([vocabulary.setdefault(word, len(vocabulary)) for word in found])
    columns, sizes = np.frombuffer(tokens, np.int32), np.frombuffer(lengths, np.int32)
    number = len(sizes)
    keys = columns.astype(np.int64) * number + np.repeat(np.arange(number), sizes)
    keys, frequencies = np.unique(keys, return_counts=True)
    starts = np.searchsorted(keys, np.arange(len(vocabulary) + 1) * number)
    rows = (keys % number).astype(np.int32)
    return Counts(vocabulary, starts, rows, frequencies.astype(np.int32), sizes)


def _save_counts(place: pathlib.Path, counts: Counts) -> None:
    place.mkdir()
    files.write_text(place / index.VOCABULARY, json.dumps(counts.vocabulary, ensure_ascii=False))
    np.save(place / index.STARTS, counts.starts.astype(np.int64))
    np.save(place / index.ROWS, counts.rows)
    np.save(place / "frequencies.npy", counts.frequencies)
    np.save(place / "lengths.npy", counts.lengths)


def _score(
    place: pathlib.Path, containing: dict[str, int], total: int, mean: float, config: BM25Config
) -> None:
    """Turns the counts of a shard into summands, rounded as `bm25s` rounds them."""
    vocabulary = json.loads((place / index.VOCABULARY).read_text())
    starts, rows = np.load(place / index.STARTS), np.load(place / index.ROWS)
    frequencies, lengths = (np.load(place / f"{name}.npy") for name in ("frequencies", "lengths"))
    idf = np.float32([index.idf(total, containing[word]) for word in vocabulary])
    norms = config.k1 * (1 - config.b + config.b * lengths / mean)
    shares = frequencies / (norms[rows] + frequencies)
    data = (np.repeat(idf, np.diff(starts)) * shares).astype(np.float32)
    np.save(place / index.DATA, data)
    np.save(place / index.BOUNDS, np.maximum.reduceat(data, starts[:-1]))
    params = {
        "k1": config.k1, "b": config.b, "delta": 0.5, "method": "lucene", "idf_method": "lucene",
        "dtype": "float32", "int_dtype": "int32", "num_docs": len(lengths), "version": _BM25S,
        "backend": "numpy",
    }  # fmt: skip
    files.write_json(place / _PARAMS, params)
    for name in ("frequencies", "lengths"):
        (place / f"{name}.npy").unlink()
