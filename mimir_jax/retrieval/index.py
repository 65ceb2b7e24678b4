# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""BM25 over a memory, exact and independent of its shards.

The score of document d for query q is the sum over the words t of q, each as often as it occurs, of

    idf(t) f(t, d) / (f(t, d) + k1 (1 - b + b |d| / mean |d|))
    idf(t) = ln(1 + (N - n(t) + 1/2) / (n(t) + 1/2))

(Lucene's form). An index has one shard per shard of its memory. Each holds the summands of its
documents by word, computed from the statistics of the whole memory, in the files of `bm25s`, which
can open it. Sums are float32 in the order of the query's words, so that one shard or many give the
same bits; equal scores are ordered by the number of the document.

A search is exact without scoring every document: words enter from the largest summand down until no
document without them can be among the best, and documents leave once they cannot either.
"""

import collections
import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from mimir_jax import files
from mimir_jax.errors import InputError, require
from mimir_jax.retrieval import memory as memory_lib
from mimir_jax.retrieval.config import BM25Config

VERSION = 1
FORMAT = "mimir_jax index"
HEADER = "index.json"
DATA, ROWS, STARTS = (f"{name}.csc.index.npy" for name in ("data", "indices", "indptr"))
VOCABULARY, BOUNDS = "vocab.index.json", "bounds.npy"

FIRST = 1024
"""Documents of rare words that are scored at once."""

_FEW = 64  # documents that are scored without trying to leave some out
_COMMON = 1 / 32  # share of documents from which on a word has a table
_MAX_TABLES = 64  # of a shard, 4 bytes a document each
_ROUNDING = 1e-5  # relative error that sums of float32 stay below


class Hits(NamedTuple):
    """Documents by falling score.

    Attributes:
        numbers: Their numbers in the memory.
        scores: Their scores, above 0.
    """

    numbers: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]


def idf(total: int, containing: int) -> float:
    """Returns the weight of a word that so many of all documents contain."""
    return math.log(1 + (total - containing + 0.5) / (containing + 0.5))


def folder_of(memory: memory_lib.Memory, config: BM25Config) -> pathlib.Path:
    """Returns the folder of the index of a memory."""
    return memory.folder / f"index-{memory.checksum[:12]}-k{config.k1:g}-b{config.b:g}"


class Shard:
    """The index of one shard; its arrays stay on disk until they are read.

    Summands of the commonest words, which are in many queries, are also kept in tables by document.
    """

    def __init__(self, folder: pathlib.Path, start: int, size: int):
        self.start, self.size = start, size
        self.vocabulary: dict[str, int] = json.loads((folder / VOCABULARY).read_text())
        self._starts = np.load(folder / STARTS)
        self._bounds = np.load(folder / BOUNDS)
        arrays = (np.load(folder / name, mmap_mode="r") for name in (ROWS, DATA))
        self._rows, self._data = (x.view(np.ndarray) for x in arrays)  # whose slices are cheap
        self._tables: dict[int, np.ndarray] = {}

    def column(self, word: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns documents and summands of a word."""
        part = slice(self._starts[word], self._starts[word + 1])
        return self._rows[part], self._data[part]

    def containing(self, word: str) -> int:
        """Returns how many documents hold a word."""
        column = self.vocabulary.get(word)
        return 0 if column is None else int(self._starts[column + 1] - self._starts[column])

    def search(
        self, query: Sequence[str], count: int, least: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the documents of the `count` highest scores, and these.

        Documents below `least` may be left out.
        """
        tokens = [self.vocabulary[word] for word in query if word in self.vocabulary]
        times = collections.Counter(tokens)
        most = {word: float(self._bounds[word]) * number for word, number in times.items()}
        order = sorted(times, key=lambda word: (-most[word], word))
        # What a document can score at most by its words from each place on; rounded up.
        rest = np.cumsum([0.0, *(most[word] for word in reversed(order))])[::-1] * (1 + _ROUNDING)
        lists = [self.column(word)[0] for word in order]
        sizes = np.cumsum([len(rows) for rows in lists])
        first = max(1, int(np.searchsorted(sizes, FIRST))) if order else 0  # read all at once
        found = np.unique(np.concatenate([np.empty(0, np.int32), *lists[:first]]))
        found, scores = _best(found, self.score(found, tokens), count)
        for place in range(first, len(order)):
            if len(scores) == count:
                least = max(least, float(scores[-1]))
            if rest[place] < least:
                break
            new = self._promising(order[place:], times, rest[place + 1 :], least)
            new = new[~np.isin(new, found)]
            scores = np.concatenate([scores, self.score(new, tokens)])
            found, scores = _best(np.concatenate([found, new]), scores, count)
        return found, scores

    def _promising(
        self, order: list[int], times: Mapping[int, int], rest: np.ndarray, least: float
    ) -> np.ndarray:
        """Returns the documents of the first word whose score by these words may reach `least`.

        Args:
            order: The words.
            times: How often each is in the query.
            rest: What the words after each add at most.
            least: Score to reach.
        """
        documents, data = self.column(order[0])
        if least <= 0:
            return documents
        sums = data * np.float32(times[order[0]])
        for place, most in enumerate(rest):
            keep = sums >= (least - most) * (1 - _ROUNDING)
            documents, sums = documents[keep], sums[keep]
            if len(documents) <= _FEW or place + 1 == len(order):
                break
            word = order[place + 1]
            sums += self._summands(word, documents) * np.float32(times[word])
        return documents

    def score(self, documents: np.ndarray, tokens: list[int]) -> np.ndarray:
        """Returns the scores of some documents, summed in the order of the query."""
        scores = np.zeros(len(documents), np.float32)
        if len(documents):
            parts = {word: self._summands(word, documents) for word in dict.fromkeys(tokens)}
            for word in tokens:
                scores += parts[word]
        return scores

    def _summands(self, word: int, documents: np.ndarray) -> np.ndarray:
        """Returns the summands of a word for sorted documents, 0 where it does not occur."""
        if (table := self._table(word)) is not None:
            return table[documents]
        rows, data = self.column(word)
        if len(rows) > len(documents):
            places = np.minimum(np.searchsorted(rows, documents), len(rows) - 1)
            return np.where(rows[places] == documents, data[places], np.float32(0))
        places = np.minimum(np.searchsorted(documents, rows), len(documents) - 1)
        there = documents[places] == rows
        out = np.zeros(len(documents), np.float32)
        out[places[there]] = data[there]
        return out

    def _table(self, word: int) -> np.ndarray | None:
        """Returns the summands of a common word by document; None for others."""
        if word not in self._tables:
            rows, data = self.column(word)
            if len(rows) < _COMMON * self.size or len(self._tables) >= _MAX_TABLES:
                return None
            table = np.zeros(self.size, np.float32)
            table[rows] = data
            self._tables[word] = table
        return self._tables[word]


def _best(documents: np.ndarray, scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the `count` highest scores, equal ones by the number of their document."""
    if len(scores) > count:
        least = np.partition(scores, -count)[-count]
        keep = scores >= least
        documents, scores = documents[keep], scores[keep]
    order = np.lexsort((documents, -scores))[:count]
    return documents[order], scores[order]


class Index:
    """The opened index of a memory.

    Args:
        memory: The memory.
        config: Constants that it was built with.

    Raises:
        InputError: if the memory has no index, or one of other documents, constants or version, or
            it is damaged.
    """

    def __init__(self, memory: memory_lib.Memory, config: BM25Config):
        self.memory, self.config = memory, config
        folder = folder_of(memory, config)
        if not folder.is_dir():
            raise InputError(_describe_missing(memory, config))
        header = files.read_json(folder / HEADER, "index")
        expected = {"format": FORMAT, "version": VERSION, "memory": memory.checksum}
        for name, value in (expected | dataclasses.asdict(config)).items():
            require(
                header.get(name) == value,
                f"index {folder} must have the {name} {value!r}, got {header.get(name)!r:.80}; "
                f"delete it and run mimir-jax index --out {memory.folder}",
            )
        self._shards, self._idfs = [], {}
        with memory_lib.whole(folder, "index"):
            self.mean_length = float(header["mean_length"])
            for entry, shard in zip(header["shards"], memory.shards, strict=True):
                place = folder / entry["name"]
                sizes = {name: x["bytes"] for name, x in entry["files"].items()}
                memory_lib.check_sizes(place, sizes, "index")
                self._shards.append(Shard(place, shard.start, shard.size))

    def search(self, query: Sequence[str], count: int) -> Hits:
        """Returns the best documents for the words of a query; those without any are left out.

        Args:
            query: Words, as `documents.words` splits a text.
            count: How many documents, at least 1.
        """
        best = np.empty(0, np.int64), np.empty(0, np.float32)
        for shard in self._shards:
            least = float(best[1][-1]) if len(best[1]) == count else 0.0
            numbers, scores = shard.search(query, count, least)
            numbers = np.concatenate([best[0], shard.start + numbers.astype(np.int64)])
            best = _best(numbers, np.concatenate([best[1], scores]), count)
        return Hits(*best)

    def relevance(self, query: Sequence[str], text: Sequence[str]) -> float:
        """Returns the score that a text of these words has, or would have as a document."""
        config = self.config
        length = config.k1 * (1 - config.b + config.b * len(text) / self.mean_length)
        counts = ((self._idf(word), text.count(word)) for word in query)
        return sum((idf * n / (n + length) for idf, n in counts if n), 0.0)

    def _idf(self, word: str) -> float:
        if word not in self._idfs:
            containing = sum(shard.containing(word) for shard in self._shards)
            self._idfs[word] = idf(len(self.memory), containing)
        return self._idfs[word]


def _describe_missing(memory: memory_lib.Memory, config: BM25Config) -> str:
    others = sorted(path.name for path in memory.folder.glob("index-*"))
    got = "none"
    if others:
        stale = memory.checksum[:12] not in others[0]
        got = f"{'one of other documents' if stale else 'one of other constants'} ({others[0]})"
    return (
        f"memory {memory.folder} must have an index of its {len(memory)} documents with "
        f"k1={config.k1:g} and b={config.b:g}, got {got}; run mimir-jax index --out "
        f"{memory.folder} --k1={config.k1:g} --b={config.b:g}"
    )
