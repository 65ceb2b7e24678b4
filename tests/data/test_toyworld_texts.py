# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Toyworld: exact texts."""

import itertools
import re

import numpy as np
import pytest

from mimir_jax.data import toyworld
from mimir_jax.data.toyworld import captions, vocabulary

SIGNS = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}


@pytest.fixture(scope="module")
def texts(every_scene):
    """All texts, as (scene, style, text)."""
    return [(scene, style, text) for scene in every_scene for style, text in every_text(scene)]


def every_text(scene):
    """All captions and answers of a scene, paraphrases in three wordings."""
    for style in toyworld.STYLES:
        count = toyworld.num_templates(style)
        for number in range(count):
            for variant in (0, 12345, 987654321) if style == "paraphrase" else (0,):
                yield style, toyworld.caption(scene, style, number + count * variant)
    for text in toyworld.answers(scene):
        yield "answer", text


def test_captions_name_every_group_exactly(every_scene):
    for scene in every_scene:
        for number in range(toyworld.num_templates("long")):
            text = toyworld.caption(scene, "long", number).lower()
            for group in scene.groups:
                name = f"{group.size} {group.colour} {vocabulary.SHAPES[group.shape][0][0]}"
                if group.count == 1:
                    pattern = rf"\ba {name}\b"
                else:
                    name = name.removesuffix(group.shape) + vocabulary.SHAPES[group.shape][0][1]
                    pattern = rf"\b{vocabulary.NUMBERS[group.count]} {name}\b"
                assert re.search(pattern, text), (pattern, text)


@pytest.mark.slow
def test_texts_mention_nothing_else(texts):
    for scene, style, text in texts:
        colours = {group.colour for group in scene.groups}
        kinds = {group.shape for group in scene.groups}
        verbs = {action.verb for action in scene.actions}
        wrong = [
            word
            for name, c in vocabulary.COLOURS.items()
            if name not in colours
            for word in c.words
        ]
        for table, shown in ((vocabulary.SHAPES, kinds), (vocabulary.VERBS, verbs)):
            for name in table.keys() - shown:
                wrong += itertools.chain(*table[name])
        padded = f" {re.sub('[^a-z-]+', ' ', text.lower())} "
        assert not [word for word in wrong if f" {word} " in padded], (style, text)


def test_long_captions_tell_everything(every_scene):
    for scene in every_scene:
        for number in range(toyworld.num_templates("long")):
            text = toyworld.caption(scene, "long", number).lower()
            assert vocabulary.LIGHT_SENTENCES[scene.light][0] in text
            assert vocabulary.CAMERA[scene.camera][0] in text
            assert (scene.background.tone or scene.background.kind.split()[0][:4]) in text
            for group in scene.groups:
                if group.arrangement is not None:
                    assert vocabulary.ARRANGEMENTS[group.arrangement] in text
            for relation in scene.relations if scene.layout != "line" else ():
                assert vocabulary.RELATIONS[relation.name][0] in text
            if scene.place is not None:
                assert vocabulary.PLACES[scene.place] in text
            position = 0
            for action in scene.actions:
                count = scene.groups[action.group].count
                form = vocabulary.VERBS[action.verb][0][count != 1].split()[-1]
                position = text.rfind(f" {form}", position)
                assert position > 0, (form, text)
            assert ("then" in text.replace("and then", "then").split()) or scene.timing != "then"


def test_captions_state_true_relations(scenes):
    """Reads the relation of a pair back from its short caption."""
    words = {name: forms[0] for name, forms in vocabulary.RELATIONS.items()}
    for scene in scenes["train"]:
        if scene.layout != "pair":
            continue
        text = toyworld.caption(scene, "short", 0)
        (name,) = [name for name, form in words.items() if f" {form} " in text]
        before, after = text.split(f" {words[name]} ", 1)
        subject, other = (
            next(
                group
                for group in scene.groups
                if re.search(rf"\b{group.colour} {group.shape}", part.split(";")[0])
            )
            for part in (before, after)
        )
        axis, sign = SIGNS[name]
        assert subject != other
        offset = np.mean(subject.positions, 0)[axis] - np.mean(other.positions, 0)[axis]
        assert sign * offset > 0, text


@pytest.mark.slow
def test_texts_are_grammatical(texts):
    plurals = "|".join(noun[1] for nouns in vocabulary.SHAPES.values() for noun in nouns)
    many_a = re.compile(rf"\b([Aa]n?|[Oo]ne) (\w+ ){{0,2}}({plurals})\b|\bis (two|three|four)\b")
    for _, style, text in texts:
        assert "  " not in text and not re.search(r"\s[,.;]", text), text
        for article, noun in re.findall(r"\b([Aa]n?) ([a-z-]+)", text):
            assert (article.lower() == "an") == (noun[0] in "aeiou"), text
        phrase = style in ("short", "coarse", "paraphrase") and not text.endswith(".")
        assert phrase or style not in ("short", "coarse"), text
        for start in re.findall(r"(?:^|\. )(\S)", text):
            assert start.isupper() != phrase, (style, text)
        for part in re.split("[,.;:]| and | of | to ", text):
            assert not many_a.search(part), text


def test_texts_have_bounded_length(texts):
    limits = {"short": captions.MAX_SHORT, "long": 60, "coarse": 16, "paraphrase": 48, "answer": 48}
    for _, style, text in texts:
        assert 1 < len(text.split()) <= limits[style], text


def test_answers_count_objects(every_scene):
    for scene in every_scene:
        objects, attributes, place, time = toyworld.answers(scene)
        total = vocabulary.NUMBERS[scene.num_objects]
        assert objects.startswith(("There is ", "There are ")) and f" {total} object" in objects
        assert all(group.colour in attributes for group in scene.groups)
        assert vocabulary.LIGHT_SENTENCES[scene.light][0] in time.lower()
        assert place.endswith(".")


def test_variants_select_templates_and_synonyms(scenes):
    for style, least in (("short", 3), ("long", 3), ("coarse", 3), ("paraphrase", 12)):
        texts = {
            toyworld.caption(scenes["train"][1], style, variant) for variant in range(0, 997, 7)
        } | {toyworld.caption(scenes["train"][0], style, variant) for variant in range(0, 997, 7)}
        assert toyworld.num_templates(style) >= 3 and len(texts) >= least, (style, texts)
    with pytest.raises(ValueError, match="style must be one of"):
        toyworld.caption(scenes["train"][0], "rhyme")


def test_expansions_pair_short_with_long(scenes):
    for short, long in toyworld.expansions(scenes["train"][5]):
        assert len(short.split()) < len(long.split())
