# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import collections
import math

import numpy as np
import pytest

from mimir_jax.config import BM25Config
from mimir_jax.errors import InputError
from mimir_jax.retrieval import building
from mimir_jax.retrieval import index as index_lib
from mimir_jax.retrieval import memory as memory_lib
from mimir_jax.retrieval.documents import Document, words

CONFIG = BM25Config()
WORDS = [f"w{i}" for i in range(60)]
ODDS = 1 / np.arange(1, 61) ** 1.1  # a few words are in most documents, as in a language
ODDS /= ODDS.sum()


def texts_of(count, seed=0):
    """Random texts; some are equal."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 12), p=ODDS)) for _ in range(count)]
    texts[count // 2] = texts[3]
    return texts


TEXTS = texts_of(400)
QUERIES = [text.split() for text in texts_of(40, seed=1)]


def build(folder, texts, shard_size=10**6, config=CONFIG):
    """An index over documents with these texts."""
    memory = memory_lib.create(folder)
    memory.append((Document(f"d{i}", text) for i, text in enumerate(texts)), shard_size=shard_size)
    return building.build(memory, config)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return build(tmp_path_factory.mktemp("memory") / "m", TEXTS)


def by_formula(texts, query, config):
    """Scores of all texts in float64, as the reference writes them."""
    split = [text.split() for text in texts]
    mean = sum(map(len, split)) / len(split)
    scores = np.zeros(len(texts))
    for word in query:
        containing = sum(word in text for text in split)
        idf = math.log(1 + (len(texts) - containing + 0.5) / (containing + 0.5))
        for i, text in enumerate(split):
            f = collections.Counter(text)[word]
            scores[i] += idf * f / (f + config.k1 * (1 - config.b + config.b * len(text) / mean))
    return scores


@pytest.mark.parametrize("config", [BM25Config(), BM25Config(k1=0.9, b=0.4)], ids=str)
def test_scores_are_those_of_the_formula(tmp_path, config):
    index = build(tmp_path / "m", TEXTS, config=config)
    for query in QUERIES[:15]:
        expected = by_formula(TEXTS, query, config)
        hits = index.search(query, len(TEXTS))
        assert len(hits.numbers) == (expected > 0).sum()
        np.testing.assert_allclose(hits.scores, expected[hits.numbers], rtol=2e-6)
        assert (np.diff(hits.scores) <= 0).all()
        text = TEXTS[hits.numbers[0]].split()
        assert index.relevance(query, text) == pytest.approx(hits.scores[0], rel=1e-6)


def test_words_are_split_at_everything_but_letters_and_digits():
    assert words("A red-green Ball, 3 times: Übung_x!") == [
        "a", "red", "green", "ball", "3", "times", "übung", "x",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 5, 20, 400])
def test_the_search_is_exact(whole, count, monkeypatch):
    monkeypatch.setattr(index_lib, "_MAX_TABLES", 2)
    monkeypatch.setattr(index_lib, "FIRST", 5)
    monkeypatch.setattr(index_lib, "_FEW", 2)
    for query in QUERIES:
        every = whole.search(query, len(TEXTS))
        order = np.lexsort((every.numbers, -every.scores))
        hits = whole.search(query, count)
        assert np.array_equal(hits.numbers, every.numbers[order][:count])
        assert np.array_equal(hits.scores, every.scores[order][:count])


def test_common_words_are_not_scored_for_nothing(tmp_path, monkeypatch):
    texts = [f"the cat w{i % 200}" for i in range(300)]
    index = build(tmp_path / "m", texts)
    scored, plain = [], index_lib.Shard.score

    def record(self, documents, tokens):
        scored.extend(documents.tolist())
        return plain(self, documents, tokens)

    monkeypatch.setattr(index_lib, "FIRST", 1)
    monkeypatch.setattr(index_lib.Shard, "score", record)
    assert index.search(["the", "cat", "w7"], 1).numbers.tolist() == [7]
    assert scored == [7, 207]


@pytest.mark.parametrize("size", [1, 7, 150, 400])
def test_shards_do_not_change_a_bit(whole, tmp_path, size):
    build(tmp_path / "m", TEXTS[:40] if size == 1 else TEXTS, shard_size=size)
    again = index_lib.Index(memory_lib.open_memory(tmp_path / "m"), BM25Config())  # after a restart
    if size == 1:
        whole = build(tmp_path / "whole", TEXTS[:40])
    assert again.memory.checksum == whole.memory.checksum
    for query in QUERIES:
        ours, expected = again.search(query, 10), whole.search(query, 10)
        assert np.array_equal(ours.numbers, expected.numbers)
        assert ours.scores.tobytes() == expected.scores.tobytes()


@pytest.mark.filterwarnings("ignore")
def test_bm25s_opens_an_index_and_agrees(whole, tmp_path):
    bm25s = pytest.importorskip("bm25s")
    (folder,) = whole.memory.folder.glob("index-*/shard-00000")
    opened = bm25s.BM25.load(folder)
    theirs = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    theirs.index([text.split() for text in TEXTS], show_progress=False)
    for query in QUERIES:
        hits = whole.search(query, len(TEXTS))
        scores = np.zeros(len(TEXTS), np.float32)
        scores[hits.numbers] = hits.scores
        assert np.array_equal(opened.get_scores(query), scores)
        np.testing.assert_allclose(theirs.get_scores(query), scores, rtol=1e-6, atol=1e-6)


def test_unknown_words_find_nothing(whole):
    assert len(whole.search(["nowhere"], 5).numbers) == len(whole.search([], 5).numbers) == 0


def test_an_index_of_other_documents_is_refused(tmp_path):
    index = build(tmp_path / "m", TEXTS[:5])
    memory = index.memory
    with pytest.raises(InputError, match=r"k1=2 and b=0.75, got one of other constants \(index-"):
        index_lib.Index(memory, BM25Config(k1=2.0))
    memory.append([Document("new", "a new text")])
    message = r"must have an index of its 6 documents with .*, got one of other documents \(index-"
    with pytest.raises(InputError, match=message):
        index_lib.Index(memory_lib.open_memory(tmp_path / "m"), BM25Config())
    building.build(memory, BM25Config())
    assert len(list((tmp_path / "m").glob("index-*"))) == 1
    assert index_lib.Index(memory, BM25Config()).search(["new"], 3).numbers.tolist() == [5]


def test_damaged_indexes_are_refused(tmp_path):
    memory = build(tmp_path / "m", TEXTS[:5]).memory
    (folder,) = (tmp_path / "m").glob("index-*")
    header = (folder / "index.json").read_text()
    (folder / "index.json").write_text(header.replace('"version": 1', '"version": 9'))
    with pytest.raises(InputError, match="must have the version 1, got 9; delete it and run"):
        index_lib.Index(memory, BM25Config())
    (folder / "index.json").write_text(header.replace(memory.checksum, "another"))
    with pytest.raises(InputError, match="must have the memory '.*', got 'another'; delete it"):
        index_lib.Index(memory, BM25Config())
    (folder / "index.json").write_text(header.replace("mean_length", "mean"))
    with pytest.raises(InputError, match="must be whole, reading it gave KeyError: 'mean_length'"):
        index_lib.Index(memory, BM25Config())
    (folder / "index.json").write_text(header)
    starts = folder / "shard-00000" / index_lib.STARTS
    content = starts.read_bytes()
    starts.write_bytes(content[::-1])
    with pytest.raises(InputError, match="index .* must be whole, reading it gave"):
        index_lib.Index(memory, BM25Config())
    starts.write_bytes(content)
    (folder / "shard-00000" / "bounds.npy").write_bytes(b"")
    with pytest.raises(InputError, match="bounds.npy must have .* bytes, got 0; copy the folder"):
        index_lib.Index(memory, BM25Config())


def test_an_empty_memory_is_refused(tmp_path):
    with pytest.raises(InputError, match="must hold a document, got none"):
        building.build(memory_lib.create(tmp_path / "m"), BM25Config())
