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

import array
import collections
import dataclasses
import json
import math
import pathlib
import shutil
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from mimir_jax import files
from mimir_jax.errors import InputError, require
from mimir_jax.retrieval import memory as memory_lib
from mimir_jax.retrieval.config import BM25Config
from mimir_jax.retrieval.documents import words

VERSION = 1
_FORMAT = "mimir_jax index"
_HEADER = "index.json"
_DATA, _ROWS, _STARTS = (f"{name}.csc.index.npy" for name in ("data", "indices", "indptr"))
_VOCABULARY, _PARAMS, _BOUNDS = "vocab.index.json", "params.index.json", "bounds.npy"
_BM25S = "0.3"  # version whose files these are
_FIRST = 4096  # documents of rare words that are scored at once
_FEW = 64  # documents that are scored without trying to leave some out
_ROUNDING = 1e-5  # relative error that sums of float32 stay below


class Hits(NamedTuple):
    """Documents by falling score.

    Attributes:
        numbers: Their numbers in the memory.
        scores: Their scores, above 0.
    """

    numbers: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class _Counts:
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


def build(memory: memory_lib.Memory, config: BM25Config) -> "Index":
    """Writes the index of a memory into its folder and opens it; older ones are deleted.

    Needs the memory of about 20 bytes per word of the largest shard.

    Raises:
        InputError: for an empty memory, or a folder that cannot be written.
    """
    require(len(memory) > 0, f"memory {memory.folder} must hold a document, got none; append some")
    folder = _place(memory, config)
    if not folder.exists():
        with files.atomic_directory(folder) as temporary:
            _write(temporary, memory, config)
    for other in memory.folder.glob("index-*"):
        if other != folder:
            shutil.rmtree(other)
    return Index(memory, config)


def _write(folder: pathlib.Path, memory: memory_lib.Memory, config: BM25Config) -> None:
    """Counts the words of each shard, then scores them with the statistics of all."""
    containing: dict[str, int] = {}
    total = 0
    for shard in memory.shards:
        counts = _count(shard.texts())
        total += int(counts.lengths.sum())
        for (word, _), number in zip(
            counts.vocabulary.items(), np.diff(counts.starts).tolist(), strict=True
        ):
            containing[word] = containing.get(word, 0) + number
        _save_counts(folder / shard.folder.name, counts)
    mean, entries = total / len(memory), []
    for shard in memory.shards:
        place = folder / shard.folder.name
        _score(place, containing, len(memory), mean, config)
        entries.append({"name": place.name, "files": memory_lib.describe_files(place)})
    header = {
        "format": _FORMAT,
        "version": VERSION,
        "memory": memory.checksum,
        "documents": len(memory),
        "mean_length": mean,
        **dataclasses.asdict(config),
        "shards": entries,
    }
    files.write_json(folder / _HEADER, header)


def _count(texts: Iterable[str]) -> _Counts:
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
    return _Counts(vocabulary, starts, rows, frequencies.astype(np.int32), sizes)


def _save_counts(place: pathlib.Path, counts: _Counts) -> None:
    place.mkdir()
    files.write_text(place / _VOCABULARY, json.dumps(counts.vocabulary, ensure_ascii=False))
    np.save(place / _STARTS, counts.starts.astype(np.int64))
    np.save(place / _ROWS, counts.rows)
    np.save(place / "frequencies.npy", counts.frequencies)
    np.save(place / "lengths.npy", counts.lengths)


def _score(
    place: pathlib.Path, containing: dict[str, int], total: int, mean: float, config: BM25Config
) -> None:
    """Turns the counts of a shard into summands, rounded as `bm25s` rounds them."""
    vocabulary = json.loads((place / _VOCABULARY).read_text())
    starts, rows = np.load(place / _STARTS), np.load(place / _ROWS)
    frequencies, lengths = (np.load(place / f"{name}.npy") for name in ("frequencies", "lengths"))
    idf = np.float32([_idf(total, containing[word]) for word in vocabulary])
    norms = config.k1 * (1 - config.b + config.b * lengths / mean)
    shares = frequencies / (norms[rows] + frequencies)
    data = (np.repeat(idf, np.diff(starts)) * shares).astype(np.float32)
    np.save(place / _DATA, data)
    np.save(place / _BOUNDS, np.maximum.reduceat(data, starts[:-1]))
    params = {
        "k1": config.k1, "b": config.b, "delta": 0.5, "method": "lucene", "idf_method": "lucene",
        "dtype": "float32", "int_dtype": "int32", "num_docs": len(lengths), "version": _BM25S,
        "backend": "numpy",
    }  # fmt: skip
    files.write_json(place / _PARAMS, params)
    for name in ("frequencies", "lengths"):
        (place / f"{name}.npy").unlink()


def _idf(total: int, containing: int) -> float:
    return math.log(1 + (total - containing + 0.5) / (containing + 0.5))


def _place(memory: memory_lib.Memory, config: BM25Config) -> pathlib.Path:
    return memory.folder / f"index-{memory.checksum[:12]}-k{config.k1:g}-b{config.b:g}"


class _Shard:
    """The index of one shard; its arrays stay on disk until they are read."""

    def __init__(self, folder: pathlib.Path, start: int, size: int):
        self.start, self.size = start, size
        self.vocabulary: dict[str, int] = json.loads((folder / _VOCABULARY).read_text())
        self.starts = np.load(folder / _STARTS)
        self.bounds = np.load(folder / _BOUNDS)
        arrays = (np.load(folder / name, mmap_mode="r") for name in (_ROWS, _DATA))
        self._rows, self._data = (x.view(np.ndarray) for x in arrays)  # whose slices are cheap

    def column(self, word: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns documents and summands of a word."""
        part = slice(self.starts[word], self.starts[word + 1])
        return self._rows[part], self._data[part]

    def containing(self, word: str) -> int:
        """Returns how many documents hold a word."""
        column = self.vocabulary.get(word)
        return 0 if column is None else int(self.starts[column + 1] - self.starts[column])

    def search(
        self, query: Sequence[str], count: int, least: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the documents of the `count` highest scores, and these.

        Documents below `least` may be left out.
        """
        tokens = [self.vocabulary[word] for word in query if word in self.vocabulary]
        times = collections.Counter(tokens)
        most = {word: float(self.bounds[word]) * number for word, number in times.items()}
        order = sorted(times, key=lambda word: (-most[word], word))
        columns = [(*self.column(word), times[word]) for word in order]
        # What a document can score at most by its words from each place on; rounded up.
        rest = np.cumsum([0.0, *(most[word] for word in reversed(order))])[::-1] * (1 + _ROUNDING)
        sizes = np.cumsum([len(rows) for rows, *_ in columns])
        first = max(1, int(np.searchsorted(sizes, _FIRST))) if order else 0  # read all at once
        found = np.unique(np.concatenate([np.empty(0, np.int32), *(c[0] for c in columns[:first])]))
        found, scores = _best(found, self._sum(found, order, columns, tokens), count)
        for place in range(first, len(order)):
            if len(scores) == count:
                least = max(least, float(scores[-1]))
            if rest[place] < least:
                break
            new = _promising(columns[place:], rest[place + 1 :], least)
            new = new[~np.isin(new, found)]
            scores = np.concatenate([scores, self._sum(new, order, columns, tokens)])
            found, scores = _best(np.concatenate([found, new]), scores, count)
        return found, scores

    def _sum(
        self, documents: np.ndarray, order: list[int], columns: list[tuple], tokens: list[int]
    ) -> np.ndarray:
        """Returns the scores of some documents, summed in the order of the query."""
        scores = np.zeros(len(documents), np.float32)
        if len(documents):
            parts = {
                word: _summands(documents, *column[:2])
                for word, column in zip(order, columns, strict=True)
            }
            for word in tokens:
                scores += parts[word]
        return scores


def _promising(columns: list[tuple], rest: np.ndarray, least: float) -> np.ndarray:
    """Returns the documents of the first column whose score may reach `least`.

    Args:
        columns: Documents, summands and number of occurrences of words.
        rest: What the words after each column add at most.
        least: Score to reach.
    """
    (documents, data, times), *others = columns
    if least <= 0:
        return documents
    sums = data * np.float32(times)
    for place in range(len(columns)):
        keep = sums >= (least - rest[place]) * (1 - _ROUNDING)
        documents, sums = documents[keep], sums[keep]
        if len(documents) <= _FEW or place == len(others):
            break
        rows, data, times = others[place]
        sums += _summands(documents, rows, data) * np.float32(times)
    return documents


def _summands(documents: np.ndarray, rows: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Returns the summands of a word for some documents, 0 where it does not occur."""
    places = np.minimum(np.searchsorted(rows, documents), len(rows) - 1)
    return np.where(rows[places] == documents, data[places], np.float32(0))


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
        folder = _place(memory, config)
        if not folder.is_dir():
            raise InputError(_describe_missing(memory, config))
        header = files.read_json(folder / _HEADER, "index")
        same = header.get("format") == _FORMAT and header.get("version") == VERSION
        require(
            same and header.get("memory") == memory.checksum,
            f"index {folder} must be of version {VERSION} and of this memory, got version "
            f"{header.get('version')!r}; delete it and run mimir-jax index --out {memory.folder}",
        )
        self.mean_length: float = header["mean_length"]
        self._shards, self._idfs = [], {}
        for entry, shard in zip(header["shards"], memory.shards, strict=True):
            place = folder / entry["name"]
            memory_lib.check_sizes(
                place, {name: x["bytes"] for name, x in entry["files"].items()}, "index"
            )
            self._shards.append(_Shard(place, shard.start, shard.size))

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
            self._idfs[word] = _idf(len(self.memory), containing)
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
