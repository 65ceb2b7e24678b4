# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompts of text and images in order, and the layouts of VIMI (arXiv 2407.06304).

    first stage            document text, document image, caption
    subject-driven         instruction, "A <img> is playing in a <img>."
    video prediction       instruction, caption, first frame
    text-to-video          instruction, document text, document image, caption

Instructions, texts and images of a document, and captions stand on lines of their own.
"""

import contextlib
import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2

from mimir_jax import hashing
from mimir_jax.config import MultimodalConfig
from mimir_jax.encoders import chat as chat_lib
from mimir_jax.encoders import tokenizers
from mimir_jax.errors import InputError, require
from mimir_jax.image_files import RGBImage

MARK = "<img>"
"""What stands for an image in a text."""


@dataclasses.dataclass(frozen=True)
class Text:
    """Text of a prompt.

    Attributes:
        text: The text.
        cut: Where a prompt is too long, texts are cut from their ends, those of the highest number
            first; 0 is never cut.
    """

    text: str
    cut: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """Text and images in the order in which the LLM reads them.

    Attributes:
        segments: The parts, all of which the LLM reads.
        caption: The caption alone, without marks, instruction and document: what a text encoder
            beside the LLM reads.
        words: The caption with words for what images tell; None where that is `caption`.
        first_frame: The image that is the first frame of the video, if one is.
    """

    segments: tuple[Text | RGBImage, ...]
    caption: str = ""
    words: str | None = None
    first_frame: RGBImage | None = None

    @property
    def images(self) -> list[RGBImage]:
        """The images in order."""
        return [part for part in self.segments if not isinstance(part, Text)]

    def with_text_alone(self, text: str) -> "Prompt":
        """Returns a prompt of which the LLM reads a text alone; its first frame stays."""
        return dataclasses.replace(self, segments=(Text(text),), caption=text, words=None)

    def key(self) -> bytes:
        """Returns a digest of what the LLM reads."""
        parts = [p.text if isinstance(p, Text) else p for p in self.segments]
        return hashing.content_key(*parts)


class Document(NamedTuple):
    """A retrieved text with its image.

    Attributes:
        text: The text; "" gives the image alone.
        image: The image, RGB in 0..255; None gives the text alone.
    """

    text: str
    image: RGBImage | None


def parse(text: str, images: Sequence[RGBImage]) -> tuple[Text | RGBImage, ...]:
    """Splits a text at its marks `<img>` and puts the images there.

    Raises:
        InputError: for fewer or more images than marks.
    """
    texts = text.split(MARK)
    require(
        len(texts) == len(images) + 1,
        f"prompt must have a mark {MARK} for each image, got {len(texts) - 1} for "
        f"{len(images)} images: {text[:80]!r}; give as many images as marks",
    )
    parts: list[Text | RGBImage] = [Text(texts[0])]
    for image, after in zip(images, texts[1:], strict=True):
        parts += [image, Text(after)]
    return tuple(part for part in parts if not isinstance(part, Text) or part.text)


def without_marks(text: str) -> str:
    """Returns a text without its marks `<img>` and the spaces before them."""
    return re.sub(rf"\s*{MARK}", "", text).strip() if MARK in text else text


def pretraining(
    cfg: MultimodalConfig, caption: str, document: Document | None, draw: int = 0
) -> Prompt:
    """Returns the prompt of the first stage; without a document, the caption alone."""
    head = cfg.pretraining_instruction and document is not None
    lines = [_instruction(cfg.retrieval, draw)] if head else []
    return _join([*lines, *_document(document), (Text(caption),)], caption)


def retrieved(
    cfg: MultimodalConfig, caption: str, document: Document | None, draw: int = 0
) -> Prompt:
    """Returns the prompt of text-to-video; without a document, the caption alone."""
    lines = [] if document is None else [_instruction(cfg.retrieval, draw), *_document(document)]
    return _join([*lines, (Text(caption),)], caption)


def subjects(cfg: MultimodalConfig, text: str, images: Sequence[RGBImage], draw: int = 0) -> Prompt:
    """Returns the prompt of subject-driven generation.

    Args:
        cfg: Has the instructions.
        text: Text with a mark `<img>` for each image.
        images: Subjects and places in the order of their marks.
        draw: Which instruction, counted round.

    Raises:
        InputError: for fewer or more images than marks.
    """
    return _join([_instruction(cfg.subject, draw), parse(text, images)], without_marks(text))


def prediction(cfg: MultimodalConfig, caption: str, first_frame: RGBImage, draw: int = 0) -> Prompt:
    """Returns the prompt of video prediction."""
    lines = [_instruction(cfg.prediction, draw), (Text(caption),), (first_frame,)]
    return dataclasses.replace(_join(lines, caption), first_frame=first_frame)


def compose(
    cfg: MultimodalConfig,
    text: str,
    *,
    images: Sequence[RGBImage] = (),
    first_frame: RGBImage | None = None,
    document: Document | None = None,
) -> Prompt:
    """Returns the prompt of a request by what it holds: the task follows from it.

    Args:
        cfg: Has the instructions, of which each task takes its first.
        text: The prompt; with a mark `<img>` for each of `images`.
        images: Subjects and places, `Request.images`.
        first_frame: Frame to continue, `Request.first_frame`.
        document: What was retrieved for the prompt.

    Raises:
        InputError: for images that do not fit the marks, or inputs of several tasks.
    """
    given = {
        "images": bool(images) or MARK in text,
        "first_frame": first_frame is not None,
        "a retrieved document": document is not None,
    }
    tasks = [name for name, there in given.items() if there]
    require(
        len(tasks) <= 1,
        f"a prompt must have one of images, first_frame and a retrieved document, got "
        f"{' and '.join(tasks)}; leave one out",
    )
    if given["images"]:
        return subjects(cfg, text, images)
    if first_frame is not None:
        return prediction(cfg, text, first_frame)
    return retrieved(cfg, text, document)


def _instruction(texts: Sequence[str], draw: int) -> tuple[Text]:
    return (Text(texts[draw % len(texts)], cut=0),)


def _document(document: Document | None) -> list[tuple[Text | RGBImage, ...]]:
    """Returns the lines of a document, whose text is the first to be cut."""
    if document is None:
        return []
    text = [(Text(document.text, cut=2),)] if document.text else []
    return [*text, *([] if document.image is None else [(document.image,)])]


def _join(lines: Sequence[tuple[Text | RGBImage, ...]], caption: str) -> Prompt:
    """Returns the lines as one prompt, with line ends between them."""
    parts: list[Text | RGBImage] = []
    for number, line in enumerate(lines):
        parts += [Text("\n", cut=0)] if number else []
        parts += line
    return Prompt(tuple(parts), caption)


@dataclasses.dataclass(frozen=True)
class Tokenization:
    """How a prompt becomes token ids.

    Attributes:
        tokenizer: Tokenizer of the LLM.
        image_token: Id of the image token, a special token of the tokenizer.
        tokens_per_image: Positions of an image.
        turn: Whether the prompt is the user's turn of a chat, or plain.

    Raises:
        InputError: for a tokenizer that lacks the token, or a chat template.
    """

    tokenizer: Any
    image_token: int
    tokens_per_image: int
    turn: str = "chat"

    def __post_init__(self):
        token = self.mark
        require(
            self.image_token in self.tokenizer.added_tokens_decoder,
            f"tokenizer must have the image token {self.image_token} of the LLM as a special "
            f"token, got {token!r}; use the tokenizer that belongs to the LLM",
        )
        require(
            self.turn == "plain" or bool(self.tokenizer.chat_template),
            "tokenizer must have a chat template for turn='chat', got none; set turn to plain",
        )

    @property
    def mark(self) -> str | None:
        """The image token as text."""
        return self.tokenizer.convert_ids_to_tokens(self.image_token)

    def ids(self, prompt: Prompt, *, answer: bool = False) -> list[int]:
        """Returns the tokens of a prompt of any length, tokenised as one text.

        Args:
            prompt: The prompt.
            answer: Whether the turn of the assistant begins behind that of the user.

        Raises:
            InputError: for a text that holds the image token.
        """
        for part in prompt.segments:
            if isinstance(part, Text) and self.mark in part.text:
                raise InputError(
                    f"prompt must not hold the token {self.mark!r}, got {part.text[:80]!r}; write "
                    f"{MARK} where an image is meant"
                )
        text = "".join(p.text if isinstance(p, Text) else self.mark for p in prompt.segments)
        if self.turn == "chat":
            text = self.render(text, answer=answer)
        begun = self.tokenizer.bos_token is not None and text.startswith(self.tokenizer.bos_token)
        ids = self._ids(text, special=not begun)
        count = {self.image_token: self.tokens_per_image}
        return [token for token in ids for _ in range(count.get(token, 1))]

    def fit(self, prompt: Prompt, length: int) -> tuple[Prompt, list[str]]:
        """Cuts the texts of a prompt until it fits.

        Args:
            prompt: The prompt.
            length: Tokens that there is room for.

        Returns:
            The prompt that fits, and the ends of texts that were cut off.

        Raises:
            InputError: if instruction and images alone are too long.
        """
        segments, rests = list(prompt.segments), []
        texts = [(part.cut, i) for i, part in enumerate(segments) if isinstance(part, Text)]
        for _, i in sorted(texts, reverse=True):
            if len(self.ids(Prompt(tuple(segments)))) <= length:
                break
            if not segments[i].cut:
                continue

            def excess(text: str, i: int = i) -> int:
                changed = dataclasses.replace(segments[i], text=text)
                return len(self.ids(Prompt((*segments[:i], changed, *segments[i + 1 :])))) - length

            kept, rest = tokenizers.cut_until(self.tokenizer, segments[i].text, excess)
            segments[i] = dataclasses.replace(segments[i], text=kept)
            rests += [rest] if rest else []
        fitting = Prompt(tuple(segments))
        least = len(self.ids(fitting))
        require(
            least <= length,
            f"prompt must fit {length} tokens with its {len(prompt.images)} images of "
            f"{self.tokens_per_image}, got {least} without its text; give fewer images or raise "
            "the length",
        )
        return fitting, rests

    def render(self, text: str, *, answer: bool = False) -> str:
        """Returns a user's turn; templates take its content as text, or as a list of parts.

        Those of LLaVA put images before all text, so images enter as a part of the text.
        """
        for content in (text, [{"type": "text", "text": text}]):
            chat = [{"role": "user", "content": content}]
            with contextlib.suppress(TypeError, jinja2.TemplateError):
                turn = chat_lib.apply_template(self.tokenizer, chat, add_generation_prompt=answer)
                if text.strip() in turn:
                    return turn
        raise InputError(
            "the chat template of the tokenizer must show the text of a user's turn, got none of "
            "it; set turn to plain"
        )

    def _ids(self, text: str, special: bool = False) -> list[int]:
        return self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
