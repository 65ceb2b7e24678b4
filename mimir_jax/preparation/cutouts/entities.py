# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Words of a caption that name single visible things, as they stand there."""

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from mimir_jax.data import cutouts
from mimir_jax.encoders import chat_answers
from mimir_jax.errors import InputError
from mimir_jax.preparation import plugins
from mimir_jax.preparation.cutouts.config import EntitiesConfig

KINDS = ("subject", "object", "background")


class Entity(NamedTuple):
    """A thing that a caption names.

    Attributes:
        words: Part of the caption, letter by letter.
        kind: `subject`, what the caption is about; `object`; or `background`.
    """

    words: str
    kind: Literal["subject", "object", "background"]


Finder = Callable[[str], Sequence[tuple[str, str]]]
"""Maps a caption to words and their kinds."""

_PHRASE = re.compile(
    r"(?:\b(in front of|in|on|at|inside|near|above|below|over|under)\s+)?"
    r"\b(an?|one|the|his|her|its|their|this|that)\s+([^.,;:!?]+)",
    re.IGNORECASE,
)
_STOPS = frozenset(
    "is are was were has have had can will with and or but while as who which that whose in on at "
    "over under above below by near behind beside between inside along across through into onto "
    "to from of for up down then a an one the his her its their this".split()
)
_PLURALS = ("people", "men", "women", "children")
_MOST_WORDS = 4
_PLACES = ("in", "on", "at", "inside", "in front of")


def read(finder: Finder, config: EntitiesConfig, caption: str) -> list[Entity]:
    """Returns the things of a caption, the first subject first; none without a subject.

    Words that are not in the caption, and those that overlap earlier ones, are left out.

    Raises:
        InputError: if the plug-in returns anything but pairs of texts.
    """
    answer = finder(caption)
    found: list[Entity] = []
    taken: list[tuple[int, int]] = []
    for pair in answer if isinstance(answer, list | tuple) else [answer]:
        fine = isinstance(pair, list | tuple) and len(pair) == 2
        if not fine or not all(isinstance(text, str) for text in pair) or pair[1] not in KINDS:
            raise InputError(
                f"entities.finder={config.finder} must return pairs of words and one of "
                f"{', '.join(KINDS)}, got {str(pair)[:60]!r}; repair the plug-in, the same command "
                "goes on"
            )
        words, kind = pair
        place = cutouts.find_words(caption, words.strip())
        if place and all(place[1] <= start or end <= place[0] for start, end in taken):
            taken.append(place)
            found.append(Entity(caption[slice(*place)], kind))
    if not any(entity.kind == "subject" for entity in found):
        return []
    found.sort(key=lambda entity: KINDS.index(entity.kind))
    things = [entity for entity in found if entity.kind != "background"][: config.max_things]
    return things + [entity for entity in found if entity.kind == "background"][:1]


def rules(config: EntitiesConfig) -> Finder:
    """Returns the finder of noun phrases: what follows an article, up to a verb or preposition.

    The first is the subject; the last, behind `in`, `on` or `at`, the background. It knows no
    grammar beyond that: use an LLM for captions that people wrote.
    """
    del config

    def find(caption: str) -> list[tuple[str, str]]:
        phrases, start = [], 0
        while match := _PHRASE.search(caption, start):
            words = _noun_phrase(match[3])
            start = match.start(3) + len(words)
            if words:
                phrases.append((words, (match[1] or "").lower()))
        if not phrases or _is_plural(phrases[0][0]):
            return []
        kinds = ["subject", *["object"] * (len(phrases) - 1)]
        if len(phrases) > 1 and phrases[-1][1] in _PLACES:
            kinds[-1] = "background"
        return [
            (words, kind)
            for (words, _), kind in zip(phrases, kinds, strict=True)
            if kind == "background" or not _is_plural(words)
        ]

    return find


def llm(config: EntitiesConfig) -> Finder:
    """Returns the finder that asks an LLM.

    Raises:
        InputError: without a folder, or for one that holds no LLM with a chat template.
    """
    folder = plugins.require_folder("entities", config.folder, "an LLM with a chat template")
    reader = chat_answers.ChatAnswers(folder, max_new_tokens=config.max_tokens)

    def find(caption: str) -> list[tuple[str, str]]:
        answer = reader.answer(config.prompt.replace("{caption}", caption))
        return parse(answer)

    return find


def parse(answer: str) -> list[tuple[str, str]]:
    """Reads the lines `kind: words` of an answer; others are ignored."""
    found = []
    for line in answer.splitlines():
        kind, colon, words = line.strip(" -*").partition(":")
        if colon and kind.strip().lower() in KINDS:
            found.append((words.strip(" .`\"'"), kind.strip().lower()))
    return found


def _noun_phrase(text: str) -> str:
    """Returns the beginning of a text up to a verb, preposition or conjunction."""
    words: list[str] = []
    for word in text.split()[: _MOST_WORDS + 1]:
        plain = word.lower()
        verb = bool(words) and re.fullmatch(r".*(?:[^su]s|ing|ed|ly)", plain) is not None
        if plain in _STOPS or verb:
            break
        words.append(word)
    return " ".join(words[:_MOST_WORDS])


def _is_plural(words: str) -> bool:
    first, *_, last = words.lower().split() * 2
    return re.search(r"[^sui]s$", first) is not None or last in _PLURALS
