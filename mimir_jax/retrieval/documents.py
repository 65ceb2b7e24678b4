# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents of a memory, and where they come from: JSONL, folders, scenes of Toyworld."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from PIL import Image

from mimir_jax import files
from mimir_jax.data.toyworld import invented, renderer, vocabulary
from mimir_jax.data.toyworld.source import ToyworldSource
from mimir_jax.errors import InputError, require

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
_METADATA = "metadata.jsonl"
_WORD = re.compile(r"[^\W_]+")


@dataclasses.dataclass(frozen=True)
class Document:
    """A text with an image.

    Attributes:
        id: Name, unique in a memory.
        text: The text, with at least one word.
        image: File of the image, absolute or relative to the memory; None has none.
        source: Record that the document was made from, such as a video of the training data; its
            own caption never gets it. None where there is none.

    Raises:
        InputError: for a text without a word.
    """

    id: str
    text: str
    image: str | None = None
    source: str | None = None

    def __post_init__(self):
        require(
            bool(words(self.text)),
            f"document {self.id!r} must have a text with a word, got {self.text[:80]!r}; leave it "
            "out",
        )


def words(text: str) -> list[str]:
    """Splits a text for BM25: lower case, at everything but letters and digits (V-U4)."""
    return _WORD.findall(text.lower())


def from_path(path: pathlib.Path) -> Iterator[Document]:
    """Yields the documents of a JSONL file, or of a folder with captioned images.

    Raises:
        InputError: if it is neither, or a document is incomplete.
    """
    if path.is_dir():
        return from_folder(path)
    require(
        path.is_file() and path.suffix in (".jsonl", ".json"),
        f"documents {path} must be a .jsonl file or a folder with images, got "
        f"{'another file' if path.exists() else 'nothing there'}; choose another",
    )
    return from_jsonl(path)


def from_jsonl(path: pathlib.Path) -> Iterator[Document]:
    """Yields the document of each line: `text`, and `id`, `image` and `source` where it has them.

    Images are relative to the file; an id is by default the name of the file and the line.
    """
    for number, raw in _lines(path):
        yield _document(path, number, raw, f"{path.stem}:{number}", path.parent)


def from_folder(folder: pathlib.Path) -> Iterator[Document]:
    """Yields a document for each image below a folder, in order of their names.

    Its text stands in `metadata.jsonl` of the folder (`file_name`, `text`), or in a `.txt` beside
    it; its id is its path below the folder.
    """
    metadata = folder / _METADATA
    if metadata.is_file():
        for number, raw in _lines(metadata):
            name = raw.get("file_name")
            if not isinstance(name, str):
                raise InputError(f"{metadata} line {number} must give file_name, got {name!r}")
            yield _document(metadata, number, raw | {"image": name}, name, folder)
        return
    found = files.list_below(folder, SUFFIXES)
    require(bool(found), f"folder {folder} must hold images, found none; choose another")
    for image in found:
        caption = image.with_suffix(".txt")
        require(
            caption.is_file(),
            f"image {image} must have its text in {caption.name} beside it, or all of them in "
            f"{_METADATA}; write it",
        )
        text = " ".join(files.read_text(caption, "text").split())
        name = image.relative_to(folder).as_posix()
        yield Document(name, text, str(image.absolute()))


def from_toyworld(
    memory: pathlib.Path, source: ToyworldSource, scenes: range
) -> Iterator[Document]:
    """Renders the first frame of scenes into the folder `images` of a memory.

    Args:
        memory: Folder of the memory.
        source: The scenes with their captions; ids hold its split and seed.
        scenes: Numbers of the scenes.
    """
    with files.writing(memory, "memory"):
        (memory / "images").mkdir(parents=True, exist_ok=True)
    for number in scenes:
        name = scene_id(source, number)
        frame = renderer.render(source.scene(number), 1, source.height, source.width)[0]
        with files.atomic_file(memory / "images" / f"{name}.png") as temporary:
            Image.fromarray(frame).save(temporary)
        yield Document(name, source.text(number), f"images/{name}.png", source=name)


def from_invented_names(memory: pathlib.Path) -> Iterator[Document]:
    """Renders an image for each invented name that no training prompt has (V-U20).

    Args:
        memory: Folder of the memory, which gets the images in `images`.
    """
    with files.writing(memory, "memory"):
        (memory / "images").mkdir(parents=True, exist_ok=True)
    shapes = list(vocabulary.SHAPES)
    for number, name in enumerate(invented.NAMES["heldout"]):
        shown = invented.render_image(shapes[number % len(shapes)], number)
        with files.atomic_file(memory / "images" / f"{name}.png") as temporary:
            Image.fromarray(shown).save(temporary)
        yield Document(f"name-{name}", invented.explanation(name), f"images/{name}.png")


def scene_id(source: ToyworldSource, number: int) -> str:
    """Returns the id of the document of a scene, which is also its `source`."""
    return f"{source.split}-{source.seed}-{number:06d}"


def _lines(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with files.reading(path, "documents"), path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                raw = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path} line {number} must be JSON: {error}") from None
            if not isinstance(raw, dict):
                raise InputError(f"{path} line {number} must be a JSON object, got {line[:40]!r}")
            yield number, raw


def _document(
    path: pathlib.Path, number: int, raw: dict[str, Any], name: str, folder: pathlib.Path
) -> Document:
    fields = {"id": name, **raw}
    for key in ("id", "text", "image", "source"):
        value = fields.get(key)
        optional = key in ("image", "source") and value is None
        if not optional and (not isinstance(value, str) or not value):
            raise InputError(f"{path} line {number} must give {key} as text, got {value!r}")
    image = fields.get("image")
    if image is not None:
        image = str((folder / image).absolute())
    try:
        return Document(fields["id"], fields["text"], image, fields.get("source"))
    except InputError as error:
        raise InputError(f"{path} line {number}: {error}") from None
