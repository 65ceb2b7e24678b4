# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Turns of rows of text and clips, for training and answers (arXiv 2412.04432; its public code).

pretrain   <vid> clips </vid> caption               caption <vid> clip </vid>
instruct   [INST] <vid> clips </vid> question [/INST]\\n answer \\n[INST] question [/INST]\\n ...
           [INST] Generate a video of caption [/INST]\\n <vid> clip </vid>
story      [INST] Tell a story about ... [/INST]\\n text <vid> clip </vid> text ...
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mimir_jax.config import ClipSequenceConfig
from mimir_jax.models.divot.sequences import InputTurn, Kind, OutputTurn, TextTurn, Turn

ASK = "Generate a {} of"
"""How inference asks for a video or an image, before its caption."""

DESCRIBE = "Describe the {}."
"""The question whose answer is the caption."""

OPEN, CLOSE, NEXT = "[INST] ", " [/INST]\n", "\n[INST] "

_WISHES = ("I'd like to see", "I'd love to see", "I'd like to view", "I want to see",
           "I would like to see")  # fmt: skip
_PLEASE = ("show me", "create", "produce", "generate")
_ORDERS = ("Show me", "Generate", "Create", "Produce")
_IMAGE_NOUNS = ("image", "picture", "photo", "photograph", "painting", "drawing", "illustration")


@dataclasses.dataclass(frozen=True)
class RowMaker:
    """Turns of text and clips as token ids.

    Attributes:
        tokenizer: Of the text.
        cfg: Shape of the rows.
        kind: `image` for videos of one frame.
    """

    tokenizer: Any
    cfg: ClipSequenceConfig
    kind: Kind = "video"

    def comprehension(
        self,
        clips: Float[np.ndarray, "n q d"],
        question: str,
        answer: str,
        more: Sequence[tuple[str, str]] = (),
    ) -> list[Turn]:
        """Returns the turns of a video, a question ("" to pretrain) and the answer to learn.

        In a conversation, `more` questions and answers to learn follow.
        """
        turns = [*self.asked(clips, question), TextTurn(ids=self.encode(answer), learn=True)]
        for question, answer in more:
            turns.append(TextTurn(ids=self.encode(NEXT + question + CLOSE)))
            turns.append(TextTurn(ids=self.encode(answer), learn=True))
        return turns

    def asked(
        self, clips: Float[np.ndarray, "n q d"], question: str, kind: Kind | None = None
    ) -> list[Turn]:
        """Returns the turns before an answer about clips of another `kind`, or of that of rows."""
        video = InputTurn(tokens=clips, kind=kind or self.kind)
        if not question:
            return [video]
        return [
            TextTurn(ids=self.encode(OPEN)),
            video,
            TextTurn(ids=self.encode(question + CLOSE)),
        ]

    def generation(self, clip: Float[np.ndarray, "q d"], request: str, caption: str) -> list[Turn]:
        """Returns the turns of a request ("" to pretrain), a caption and the clip to learn.

        A caption that leaves no room for the clip is cut.
        """
        ids = self._cut(request, caption)
        write = OutputTurn(tokens=clip, kind=self.kind, learn_delimiters=bool(request))
        return [TextTurn(ids=ids), write]

    def story(
        self, clips: Float[np.ndarray, "n q d"], request: str, texts: Sequence[str]
    ) -> list[Turn]:
        """Returns the turns of a story up to one of its clips, the one to learn.

        Args:
            clips: The clips of the story; the one behind the last of `texts` is learned, those
                before it are read.
            request: What asks for the story.
            texts: The text before each clip, all of them learned.
        """
        turns: list[Turn] = [TextTurn(ids=self.encode(f"{OPEN}{request}{CLOSE}"))]
        for number, text in enumerate(texts):
            turns.append(TextTurn(ids=self.encode(text), learn=True))
            if number < len(texts) - 1:
                turns.append(InputTurn(tokens=clips[number][None], kind=self.kind))
        return [*turns, OutputTurn(tokens=clips[len(texts) - 1], kind=self.kind)]

    def request(self, request: str, caption: str) -> list[int]:
        """Returns the tokens that ask for a clip."""
        return self.encode(f"{OPEN}{request} {caption}{CLOSE}" if request else caption)

    def _cut(self, request: str, caption: str) -> list[int]:
        """Returns the tokens of `request`, the caption cut to leave room for the clip in a row."""
        ids, room = self.request(request, caption), self.cfg.max_length - self.cfg.num_queries - 6
        if len(ids) <= room:
            return ids
        head = self.encode(f"{OPEN}{request}") if request else []
        tail = self.encode(CLOSE) if request else []
        return [*head, *self.encode(caption)[: max(room - len(head) - len(tail), 1)], *tail]

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of text alone."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def requests(kind: Kind) -> tuple[str, ...]:
    """Returns how instructions ask for a video (17 ways) or an image (22; D-U16)."""
    please, orders, nouns = _PLEASE, _ORDERS, ("video",)
    if kind == "image":
        please, orders, nouns = (*please, "draw"), (*orders, "Draw", "Make"), _IMAGE_NOUNS
    texts = (
        *(f"Please {order} a {{}} of" for order in please),
        *(f"{wish} a {{}} of" for wish in _WISHES),
        *(f"{order} a {{}} of" for order in orders),
        *(f"{order} a {{}}:" for order in orders),
    )
    pairs = zip(texts, itertools.cycle(nouns), strict=False)
    return tuple(text for words, noun in pairs for text in fill([words], noun))


def fill(texts: Sequence[str], noun: str) -> tuple[str, ...]:
    """Returns texts with a noun, such as the name of a kind."""
    article = "an" if noun[0] in "aeiou" else "a"
    return tuple(text.replace("a {}", f"{article} {noun}").replace("{}", noun) for text in texts)
