# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Share of a language model's replies that are exactly right, by kind of caption.

The expected replies are those of `toyworld.replies`: four answers and an elaboration, each a
function of the caption's meaning. A reply counts only if every word is right.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mimir_jax import tables
from mimir_jax.config import TextConfig
from mimir_jax.data.toyworld import language, sampling, wording
from mimir_jax.data.toyworld import replies as exact
from mimir_jax.encoders import chat
from mimir_jax.evaluation import confidence

REQUESTS = ("objects", "attributes", "layout", "actions", "elaboration")
"""What a model is asked for: by the four instructions in order, and by the caption's own turn."""

Ask = Callable[[Sequence[chat.Chat]], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Question:
    """One request about one caption.

    Attributes:
        kinds: Number of kinds of objects in the scene, one to three.
    """

    wording: language.Wording
    kinds: int
    request: str
    caption: str
    chat: chat.Chat
    reply: str


def questions(number: int, *, split: str = "heldout", seed: int = 1) -> list[Question]:
    """Draws `number` captions for each wording and number of kinds, with all five requests.

    Every third scene is of `single` scenery; those and the others are drawn from `split` in order.
    """
    asked = []
    for words in language.WORDINGS:
        for kinds in (1, 2, 3):
            scenes = _scenes(kinds, split, seed)
            for index in range(number):
                found = wording.caption(next(scenes), words, index)
                asked += _requests(found, kinds)
    return asked


def score(asked: Sequence[Question], ask: Ask) -> list[dict[str, Any]]:
    """Asks the model; returns a line for each question with its reply and whether it is exact."""
    replies = ask([question.chat for question in asked])
    return [
        {
            "wording": question.wording,
            "kinds": question.kinds,
            "request": question.request,
            "caption": question.caption,
            "expected": question.reply,
            "reply": reply,
            "exact": reply == question.reply,
        }
        for question, reply in zip(asked, replies, strict=True)
    ]


def summarise(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns exact shares with Wilson intervals by wording, kinds and request.

    `kinds` 0 stands for all captions of a wording.
    """
    lines = list(lines)
    cells = []
    for words in language.WORDINGS:
        for kinds in (1, 2, 3, 0):
            for request in REQUESTS:
                exact = [
                    line["exact"]
                    for line in lines
                    if line["wording"] == words
                    and line["request"] == request
                    and kinds in (0, line["kinds"])
                ]
                if exact:
                    share = sum(exact) / len(exact)
                    cells.append(
                        {
                            "wording": words,
                            "kinds": kinds,
                            "request": request,
                            "captions": len(exact),
                            "exact": share,
                            "interval": confidence.wilson_interval(share, len(exact)),
                        }
                    )
    return cells


def markdown(cells: Sequence[Mapping[str, Any]]) -> str:
    """Lays out a summary: a row for each wording and number of kinds, a column for each request."""
    found = {(cell["wording"], cell["kinds"], cell["request"]): cell for cell in cells}
    rows = [["wording", "kinds", "captions", *REQUESTS], ["---"] * (3 + len(REQUESTS))]
    for words, kinds in dict.fromkeys((cell["wording"], cell["kinds"]) for cell in cells):
        row = [found[words, kinds, request] for request in REQUESTS]
        rows.append([words, str(kinds or "all"), str(row[0]["captions"]), *map(_share, row)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def text(cells: Sequence[Mapping[str, Any]]) -> str:
    """Lays out a summary for a terminal: the rows of all kinds alone."""
    found = {(cell["wording"], cell["request"]): cell for cell in cells if not cell["kinds"]}
    rows = [["exact, %", *REQUESTS]]
    for words in dict.fromkeys(name for name, _ in found):
        rows.append([words, *(f"{100 * found[words, r]['exact']:.1f}" for r in REQUESTS)])
    return tables.align(rows)


def _share(cell: Mapping[str, Any]) -> str:
    low, high = cell["interval"]
    return f"{100 * cell['exact']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _scenes(kinds: int, split: str, seed: int) -> Iterator[Any]:
    index = 0
    while True:
        scenery = "single" if kinds == 1 and index % 3 == 2 else "varied"
        scene = sampling.sample(seed, split, index, scenery)
        index += 1
        if len(scene.groups) == kinds:
            yield scene


def _requests(found: wording.Caption, kinds: int) -> list[Question]:
    config = TextConfig()
    chats = [
        *chat.instruction_turns(found.text, config),
        chat.caption_turn(found.text, config),
    ]
    return [
        Question(found.wording, kinds, request, found.text, chat, reply)
        for request, chat, reply in zip(REQUESTS, chats, exact.every(found.meaning), strict=True)
    ]
