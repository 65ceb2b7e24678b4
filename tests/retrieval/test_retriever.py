# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from mimir_jax.config import BM25Config, RetrievalConfig
from mimir_jax.data.toyworld.source import ToyworldSource
from mimir_jax.errors import InputError
from mimir_jax.retrieval import building
from mimir_jax.retrieval import memory as memory_lib
from mimir_jax.retrieval.documents import Document, words
from mimir_jax.retrieval.retriever import Retriever


def retriever_of(folder, documents, **policy):
    memory = memory_lib.create(folder)
    memory.append(documents)
    return Retriever(building.build(memory, BM25Config()), RetrievalConfig(**policy))


PETS = [
    Document("a", "a red cat sleeps on the mat", source="v1"),
    Document("b", "A red cat sleeps on the mat!", source="v2"),
    Document("c", "the red cat sleeps on a mat", source="v3"),
    Document("d", "a red cat runs over the street in the rain", source="v4"),
    Document("e", "a red cat runs over a street in the rain", source="v5"),
    Document("f", "one dog"),
    Document("g", "a blue cat sits in a tree", source="v6"),
]
CAPTION = "a red cat sleeps on the mat"


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    return retriever_of(tmp_path_factory.mktemp("pets") / "m", PETS)


def test_neither_the_query_nor_its_like_are_taken(pets):
    ids = [d.id for d in pets.rank(CAPTION, words(CAPTION), 10)]
    # a and b have the text of the query, c almost; e is almost d; f shares no word.
    assert ids == ["d", "g"] or ids == ["e", "g"]
    assert pets.first(CAPTION).id == ids[0]


def test_a_text_that_reaches_the_relevance_of_the_query_is_not_taken(tmp_path):
    turned = Document("h", "on the mat sleeps a red cat")
    found = retriever_of(tmp_path / "m", [turned, *PETS[3:]], near_duplicate=1.0)
    assert "h" not in [d.id for d in found.rank(CAPTION, words(CAPTION), 10)]


def test_excluded_records_are_not_taken(pets):
    first = pets.first(CAPTION)
    rest = pets.rank(CAPTION, words(CAPTION), 10, exclude=[first.source])
    assert first.id not in [d.id for d in rest] and len(rest) == 2
    assert pets.first(CAPTION, exclude=["d", "v5"]).id == "g"
    assert pets.first(CAPTION, exclude=["d", "e", "g"]) is None
    assert pets.first("two birds") is None


def test_any_document_is_drawn_but_the_own(pets):
    drawn = [pets.draw_any(CAPTION, number, exclude=["v4"]).id for number in range(60)]
    assert drawn == [pets.draw_any(CAPTION, number, exclude=["v4"]).id for number in range(60)]
    assert set(drawn) == {"c", "e", "f", "g"}  # also one that shares no word with it


def test_a_memory_of_the_query_alone_is_refused(tmp_path):
    alone = retriever_of(tmp_path / "m", PETS[:2])
    with pytest.raises(
        InputError, match="a document besides the query itself, got 2 of it: 'a red"
    ):
        alone.first(CAPTION)
    with pytest.raises(InputError, match="besides the query itself, got 2 of it"):
        alone.draw_any(CAPTION)
    assert alone.first("a dog").id in "ab"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    source = ToyworldSource("train", caption_style="short", scenery="single")
    texts = [Document(f"s{i}", source.text(i), source=f"s{i}") for i in range(300)]
    return retriever_of(tmp_path_factory.mktemp("scenes") / "m", texts), source


def test_draws_depend_on_their_number_alone(scenes):
    retriever, source = scenes
    text = source.text(5)
    drawn = [retriever.draw(text, i, exclude=["s5"]).id for i in range(30)]
    assert drawn == [retriever.draw(text, i, exclude=["s5"]).id for i in range(30)]
    assert len(set(drawn)) > 3
    other = Retriever(retriever.index, retriever.config, seed=1)
    assert drawn != [other.draw(text, i, exclude=["s5"]).id for i in range(30)]


def test_draws_come_from_the_best(scenes):
    retriever, source = scenes
    plain = Retriever(retriever.index, RetrievalConfig(top=3, drop_words=0.0))
    text = source.text(9)
    best = [d.id for d in plain.rank(text, words(text), 3, exclude=["s9"])]
    assert {plain.draw(text, i, exclude=["s9"]).id for i in range(40)} == set(best)
    assert plain.first(text, exclude=["s9"]).id == best[0]


def test_a_scene_never_gets_itself(scenes):
    retriever, source = scenes
    same_shape = []
    for i in range(60):
        found = retriever.first(source.text(i), exclude=[f"s{i}"])
        assert found is None or (found.id != f"s{i}" and words(found.text) != words(source.text(i)))
        if found is not None:
            shape = source.scene(i).groups[0].shape
            same_shape.append(source.scene(int(found.id[1:])).groups[0].shape == shape)
    assert np.mean(same_shape) > 0.5


def test_policies_are_checked():
    for changes, message in (
        ({"top": 0}, "top must be at least 1, got 0"),
        ({"drop_words": 1.0}, "drop_words must be at least 0 and below 1"),
        ({"near_duplicate": 0.0}, "near_duplicate must be above 0"),
    ):
        with pytest.raises(InputError, match=message):
            RetrievalConfig(**changes)
    with pytest.raises(InputError, match="b must be at least 0 and at most 1, got 2.0"):
        BM25Config(b=2.0)
