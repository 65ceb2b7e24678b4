# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import itertools
import pathlib
import re

import jaxtyping
import pytest

from mimir_jax.data import toyworld as world
from mimir_jax.data.toyworld import captions, language, replies, vocabulary, wording
from mimir_jax.data.toyworld import meaning as meaning_lib
from mimir_jax.evaluation.judge import prompt_coverage
from tests import quick

MEANINGS = [(kind, value) for kind, row in language.TABLE.items() for value in row]


def scenes(number, split="validation", scenery="varied"):
    return [world.sample(3, split, index, scenery) for index in range(number)]


def forms(phrases):
    return [f for p in phrases for f in (p if isinstance(p, tuple) else (p,))]


def parts(phrase):
    """The word sequences of a phrase between its gaps."""
    return [part.strip(" ,") for part in re.split(r"\{\w*\}", phrase) if part.strip(" ,")]


def holds(text, words):
    return re.search(rf"(?<![\w-]){re.escape(words)}(?![\w-])", text) is not None


def vocabulary_texts():
    """Every phrase that the templates of narrow captions are filled with."""
    found = [w for colour in vocabulary.COLOURS.values() for w in colour.words]
    for table in (vocabulary.SHAPES, vocabulary.VERBS):
        found += [form for row in table.values() for pair in row for form in pair]
    for table in (
        vocabulary.SIZES, vocabulary.RELATIONS, vocabulary.LIGHT, vocabulary.LIGHT_SENTENCES,
        vocabulary.CAMERA, vocabulary.LANDSCAPES,
    ):  # fmt: skip
        found += [phrase for row in table.values() for phrase in row]
    for row in vocabulary.PATTERNS.values():
        found += [p.format(tone) for p in row for tone in vocabulary.TONES]
    return [*found, *vocabulary.ARRANGEMENTS.values(), *vocabulary.PLACES.values()]


def test_table_covers_the_vocabulary_in_six_ways_or_more():
    assert set(language.TABLE["colour"]) == set(vocabulary.COLOURS)
    assert set(language.TABLE["shape"]) == set(vocabulary.SHAPES)
    assert set(language.TABLE["verb"]) == {*vocabulary.VERBS, "none"}
    assert set(language.TABLE["light"]) == set(vocabulary.LIGHT)
    assert set(language.TABLE["camera"]) == set(vocabulary.CAMERA)
    assert set(language.TABLE["tone"]) == set(vocabulary.TONES)
    assert set(language.TABLE["pattern"]) == set(vocabulary.PATTERNS)
    assert set(language.TABLE["landscape"]) == set(vocabulary.LANDSCAPES)
    assert set(language.TABLE["place"]) == {" ".join(place) for place in vocabulary.PLACES}
    for kind, value in MEANINGS:
        new = language.TABLE[kind][value]
        assert len(set(new)) == len(new) >= 6, (kind, value)
        assert len(language.phrases(kind, value, "reserved")) == 2, (kind, value)
        assert len(language.phrases(kind, value, "wide")) >= 4, (kind, value)


def test_a_phrase_has_one_meaning_and_no_other_phrase_inside():
    texts = {}
    for kind, value in MEANINGS:
        for form in forms(language.TABLE[kind][value]):
            assert texts.setdefault(form, (kind, value)) == (kind, value), form
    for (a, of_a), (b, of_b) in itertools.permutations(texts.items(), 2):
        if "{" not in a and of_a != of_b:
            assert not holds(b, a), f"{a!r} of {of_a} is inside {b!r} of {of_b}"


@pytest.mark.slow
def test_no_new_phrase_is_in_a_narrow_caption():
    new = {p for kind, value in MEANINGS for f in forms(language.TABLE[kind][value]) for p in [f]}
    new = {phrase: parts(phrase) for phrase in new}
    narrow = " | ".join(
        captions.caption(scene, style, variant).lower()
        for scene in scenes(30, "train")
        for style in captions.STYLES
        for variant in (0, 1, 2, 3, 17, 34)
    )
    narrow += " | " + " | ".join(vocabulary_texts())
    for phrase, pieces in new.items():
        leaks = [piece for piece in pieces if holds(narrow, piece)]
        assert len(leaks) < len(pieces), phrase


def test_wide_captions_hold_nothing_reserved():
    reserved = [
        piece
        for kind, value in MEANINGS
        for phrase in forms(language.phrases(kind, value, "reserved"))
        for piece in parts(phrase)
        if kind not in ("sequence", "behind", "pattern", "frame")  # of words that wide ones share
    ]
    phrases = [
        form
        for kind, value in MEANINGS
        for phrase in forms(language.phrases(kind, value, "wide"))
        for form in [phrase]
    ]
    texts = [
        wording.caption(scene, "wide", number).text.lower()
        for number, scene in enumerate(scenes(80, "train"))
    ]
    text = " | ".join([*phrases, *map(language.british, texts)])
    for piece in reserved:
        assert not holds(text, piece), piece


@pytest.mark.parametrize("kind", quick.some(language.WORDINGS, "reserved"))
def test_the_reader_finds_what_a_caption_tells(kind):
    for number, scene in enumerate([*scenes(40), *scenes(20, "heldout", "single")]):
        found = wording.caption(scene, kind, number)
        expected = meaning_lib.categories(scene, found.meaning)
        assert prompt_coverage.mentioned_categories(scene, found.text) == expected, found


@pytest.mark.parametrize("kind", language.WORDINGS)
def test_meanings_agree_with_the_scene(kind):
    for number, scene in enumerate(scenes(40)):
        meaning = wording.caption(scene, kind, number).meaning
        assert meaning.total in (None, scene.num_objects)
        assert meaning.light in (None, scene.light) and meaning.camera in (None, scene.camera)
        assert meaning.place in (None, scene.place) and meaning.timing in (None, scene.timing)
        named = {(g.shape, g.colour): i for i, g in enumerate(scene.groups)}
        known = [named.get((t.shape, t.colour)) for t in meaning.things]
        if None in known:
            assert not meaning.relations or len(scene.groups) == 1
            continue
        for thing, index in zip(meaning.things, known, strict=True):
            group = scene.groups[index]
            assert thing.count == group.count and thing.size in (None, group.size)
            assert thing.arrangement in (None, group.arrangement)
        true = {(r.subject, r.name, r.object) for r in scene.relations}
        true |= {(r.inverse.subject, r.inverse.name, r.inverse.object) for r in scene.relations}
        for r in meaning.relations:
            assert (known[r.subject], r.name, known[r.object]) in true
        actions = [(known[index], verb) for index, verb in meaning.actions]
        assert not actions or actions == [(a.group, a.verb) for a in scene.actions]


@pytest.mark.slow
def test_replies_say_what_is_told_and_what_is_not():
    for scene in scenes(100):
        for variant in range(3):
            meaning = meaning_lib.narrow_meaning(scene, "long", variant)
            assert replies.elaboration(meaning) == captions.caption(scene, "long", 2)
            for ours, exact in zip(replies.answers(meaning), captions.answers(scene), strict=True):
                assert ours == exact or exact.endswith("is alone.")
    told = meaning_lib.Meaning((meaning_lib.Thing(None, colour="red"),))
    assert replies.elaboration(told) == "The video shows several red shapes."
    assert replies.answers(told) == (
        "There are several objects: several shapes. The number is not told. The shapes are not "
        "told.",
        "Several shapes are red. The sizes are not told. The background is not told.",
        "The arrangement is not told.",
        "The actions are not told. The light is not told. The camera is not told.",
    )


def test_equal_draws_give_equal_captions_and_both_spellings():
    scene = world.sample(0, "train", 4)
    assert wording.caption(scene, "wide", 7) == wording.caption(scene, "wide", 7)
    assert wording.caption(scene, "wide", 7) != wording.caption(scene, "wide", 8)
    assert (
        language.american("a grass-coloured orb dead centre") == "a grass-colored orb dead center"
    )
    for british in language.AMERICAN:
        assert language.british(language.american(british)) == british


def test_the_page_holds_the_table():
    page = (pathlib.Path(__file__).parents[2] / "docs/language.md").read_text()
    assert page.endswith(language.markdown())


@pytest.mark.slow
def test_videos_are_captioned_with_narrow_and_wide_words_alone():
    wide = world.ToyworldSource("train", caption_style="wide", num_scenes=9)
    both = world.ToyworldSource("train", caption_style="both", num_scenes=40)
    mixed = world.ToyworldSource("train", num_scenes=40)
    same = [both.text(index) == mixed.text(index) for index in range(40)]
    assert wide.text(4) == wide[4]["caption"] and 4 < sum(same) < 22
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="'reserved'"):
        world.ToyworldSource("train", caption_style="reserved")
