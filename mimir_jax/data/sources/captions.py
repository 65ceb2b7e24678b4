# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions of a folder of videos, in our own layout or in that of another trainer; conversations.

    captions.jsonl                   ours: {"file": "cats/a.mp4", "caption": "a cat"}
    metadata.jsonl, metadata.csv     diffusers, finetrainers: file_name, caption (or text, prompt)
    videos2caption.json              FastVideo: [{"path": "a.mp4", "cap": ["a cat"]}, ...]
    videos.txt, prompts.txt          CogVideo, finetrainers: line by line
    conversations.json, .jsonl       LLaVA, Video-ChatGPT: {"video": "a.mp4", "conversations":
                                     [{"from": "human", "value": "<video>\\nWhat is shown?"},
                                      {"from": "gpt", "value": "a cat"}, ...]}
    labels/a.txt for videos/a.mp4    CogVideo (SAT): a folder of captions beside one of videos
    a.txt for a.mp4

The first that is there counts. Conversations beside other captions are read too.
"""

import csv
import io
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from mimir_jax import files as files_lib
from mimir_jax.data import frame_folder
from mimir_jax.errors import InputError

OWN = "captions.jsonl"
FOLDERS = ("captions", "labels", "prompts", "texts", "txt")
"""Names of a folder of captions beside one of videos."""

_FILE_FIELDS = ("file", "file_name", "path", "video", "video_path", "filename")
_CAPTION_FIELDS = ("caption", "text", "prompt", "cap")
_LINE_LISTS = ("prompts.txt", "captions.txt", "prompt.txt")  # beside videos.txt
_TALKS = ("conversations.json", "conversations.jsonl")
_SUBJECT = "caption file"
_MARK = re.compile(r"\s*<(?:video|image)>\s*")  # where files say that the video stands

Captions = dict[str, tuple[str, ...]]
Conversation = tuple[tuple[str, str], ...]
"""Questions about a video with their answers, in order."""
Conversations = dict[str, tuple[Conversation, ...]]


class _Entry(NamedTuple):
    """Captions of one video, or a conversation, and where they stand for messages."""

    file: str
    captions: tuple[Any, ...]
    path: pathlib.Path
    place: str


_MakeEntry = Callable[[Any, str, pathlib.Path, str], _Entry]


def read(folder: pathlib.Path, files: Sequence[str]) -> Captions:
    """Returns the captions of every video, the first answers where it has conversations alone.

    Names are compared in one normal form: composed characters, forward slashes, no `./`.

    Args:
        folder: The folder.
        files: Its videos, relative to it.

    Raises:
        InputError: for a bad entry, or a video and caption that do not pair up.
    """
    for name, reader in _LISTS:
        if (folder / name).is_file():
            found, orphans = _by_file(reader(folder / name), folder, files, name in _TALKS)
            if name in _TALKS:
                found = {file: tuple(_caption(talk) for talk in found[file]) for file in found}
            remedy = f"add a line to {name} or remove the clip"
            break
    else:
        found, orphans = _read_texts(folder, files)
        remedy = f"write {OWN} or a .txt with text beside the clip"
    if orphans:
        raise _orphaned(folder, orphans)
    if silent := [repr(file) for file in files if file not in found]:
        raise InputError(
            f"every clip in {str(folder)!r} needs a caption, found none for {_some(silent)}; "
            + remedy
        )
    return found


def read_conversations(folder: pathlib.Path, files: Sequence[str]) -> Conversations:
    """Returns the conversations about each video that has some.

    Args:
        folder: The folder.
        files: Its videos, relative to it.

    Raises:
        InputError: for a bad entry, or one without its video.
    """
    for name, reader in _LISTS:
        if name in _TALKS and (folder / name).is_file():
            found, orphans = _by_file(reader(folder / name), folder, files, several=True)
            if orphans:
                raise _orphaned(folder, orphans)
            return found
    return {}


def is_list(path: pathlib.PurePath) -> bool:
    """Whether a file at the top of the folder lists captions or belongs to such a list."""
    return path.name in {name for name, _ in _LISTS} | set(_LINE_LISTS)


def _orphaned(folder: pathlib.Path, orphans: Sequence[str]) -> InputError:
    return InputError(
        f"every caption in {str(folder)!r} needs its clip, found none for {_some(orphans)}; "
        "add the clip or remove the caption"
    )


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _by_file(
    entries: Iterator[_Entry], folder: pathlib.Path, files: Sequence[str], several: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Returns captions by video, and what names no video; a video may have `several` entries."""
    known = {files_lib.plain_name(file): file for file in files} | {file: file for file in files}
    places = [
        f"{files_lib.plain_name(str(folder))}/",
        f"{files_lib.plain_name(os.path.abspath(folder))}/",
    ]
    captions: dict[str, Any] = {}
    first: dict[str, str] = {}
    orphans = []
    for entry in entries:
        key = files_lib.plain_name(entry.file)
        for place in places:
            key = key.removeprefix(place)
        options = (entry.file, key, f"videos/{key}")
        file = next((known[option] for option in options if option in known), None)
        if file is None:
            orphans.append(f"{entry.file!r} ({entry.place})")
            continue
        if file in captions and not several:
            raise InputError(
                f"a file may appear once in {entry.path.name}, got {entry.file!r} again in "
                f"{str(entry.path)!r} {entry.place} ({first[file]} before); give one line a list "
                'as "caption"'
            )
        captions[file] = captions.get(file, ()) + entry.captions
        first[file] = entry.place
    return captions, orphans


def _read_jsonl(path: pathlib.Path, entry: _MakeEntry | None = None) -> Iterator[_Entry]:
    for number, line in files_lib.read_lines(path, _SUBJECT):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):  # also a number of thousands of digits
            content = None
        yield (entry or _entry)(content, line, path, f"line {number}")


def _read_json(path: pathlib.Path, entry: _MakeEntry | None = None) -> Iterator[_Entry]:
    text = files_lib.read_text(path, _SUBJECT)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{_SUBJECT} {path} must be JSON: {error}; write it again") from None
    if isinstance(content, dict):  # {"a.mp4": "a cat"} or {"a.mp4": {"cap": ...}}
        content = [
            value | {"path": name} if isinstance(value, dict) else {"path": name, "cap": value}
            for name, value in content.items()
        ]
    if not isinstance(content, list):
        kind = type(content).__name__
        raise InputError(f"{_SUBJECT} {path} must be a JSON list, got a {kind}; write it again")
    for number, item in enumerate(content, 1):
        yield (entry or _entry)(item, json.dumps(item), path, f"entry {number}")


def _read_csv(path: pathlib.Path) -> Iterator[_Entry]:
    content = io.StringIO(files_lib.read_text(path, _SUBJECT), newline="")
    reader = csv.DictReader(content, strict=True)
    try:
        header = reader.fieldnames or ()
        if not all(any(name in header for name in f) for f in (_FILE_FIELDS, _CAPTION_FIELDS)):
            raise InputError(
                f"{_SUBJECT} {path} must be CSV with a header that names file_name and caption, "
                f"split by commas, got {','.join(header)[:80]!r}; write it again"
            )
        for row in reader:
            if None in row:
                raise InputError(
                    f"{_SUBJECT} {path} must have the {len(header)} cells of its header in every "
                    f"row, got {len(row[None])} more in line {reader.line_num}; put text with a "
                    "comma into double quotes"
                )
            yield _entry(row, str(row), path, f"line {reader.line_num}")
    except csv.Error as error:
        raise InputError(
            f"{_SUBJECT} {path} must be CSV with a header, got {error} in line {reader.line_num}; "
            "write it again"
        ) from None


def _read_pair(path: pathlib.Path) -> Iterator[_Entry]:
    """Reads videos.txt beside a file of as many captions."""
    texts = next((p for n in _LINE_LISTS if (p := path.with_name(n)).is_file()), None)
    if texts is None:
        raise InputError(f"{path} must have {' or '.join(_LINE_LISTS)} beside it, found none")
    names, captions = (list(files_lib.read_lines(p, _SUBJECT)) for p in (path, texts))
    if len(names) != len(captions):
        raise InputError(
            f"{texts} must have a line for each of the {len(names)} lines of {path.name}, got "
            f"{len(captions)}; add or remove lines"
        )
    for (number, name), (_, caption) in zip(names, captions, strict=True):
        yield _entry({"file": name, "caption": caption}, caption, texts, f"line {number}")


def _entry(content: Any, line: str, path: pathlib.Path, place: str) -> _Entry:
    """Returns the file and captions of a line, an entry or a row."""
    content = content if isinstance(content, dict) else {}
    file = next((content[n] for n in _FILE_FIELDS if content.get(n) is not None), None)
    texts = next((content[n] for n in _CAPTION_FIELDS if content.get(n) is not None), None)
    texts = [texts] if isinstance(texts, str) else texts
    good = (
        isinstance(texts, list) and texts and all(isinstance(t, str) and t.strip() for t in texts)
    )
    if not isinstance(file, str) or not good:
        raise InputError(
            f"a line of {path.name} must be an object with a file and a non-empty caption, got "
            f"{line.strip()[:80]!r} in {str(path)!r} {place}; "
            'write {"file": "clip.mp4", "caption": "a cat"}'
        )
    subject = f"caption in {str(path)!r} {place}"
    return _Entry(file, tuple(files_lib.clean_text(text, subject) for text in texts), path, place)


def _talk(content: Any, line: str, path: pathlib.Path, place: str) -> _Entry:
    """Returns the file of an entry, and its conversation without the marks of videos."""
    content = content if isinstance(content, dict) else {}
    file, said = content.get("video"), content.get("conversations")
    said = said if isinstance(said, list) and all(isinstance(x, dict) for x in said) else []
    texts = [x.get("value") for x in said]
    speakers = [x.get("from") for x in said]
    if (
        not isinstance(file, str)
        or not said
        or speakers != ["human", "gpt"] * (len(said) // 2)
        or not all(isinstance(text, str) for text in texts)
    ):
        raise InputError(
            f"an entry of {path.name} must be an object with a video and conversations from human "
            f"and gpt in turn, got {line.strip()[:80]!r} in {str(path)!r} {place}; correct it"
        )
    texts = [_MARK.sub("", text).strip() if n % 2 == 0 else text.strip() for n, text in
             enumerate(texts)]  # fmt: skip
    for text in texts:
        files_lib.clean_text(text, f"conversation in {str(path)!r} {place}")
    return _Entry(file, (tuple(zip(texts[::2], texts[1::2], strict=True)),), path, place)


def _caption(talk: Conversation) -> str:
    return " ".join(talk[0][1].split())


_LISTS: tuple[tuple[str, Callable[[pathlib.Path], Iterator[_Entry]]], ...] = (
    (OWN, _read_jsonl),
    ("metadata.jsonl", _read_jsonl),
    ("metadata.csv", _read_csv),
    ("videos2caption.json", _read_json),
    ("videos.txt", _read_pair),
    (_TALKS[0], lambda path: _read_json(path, _talk)),
    (_TALKS[1], lambda path: _read_jsonl(path, _talk)),
)


def _read_texts(folder: pathlib.Path, files: Sequence[str]) -> tuple[Captions, list[str]]:
    """Reads a text file for each video: beside it, or in a folder beside that of the videos."""
    stems: dict[str, list[str]] = {}
    for file in files:
        stems.setdefault(files_lib.plain_name(_stem(folder, file)), []).append(file)
    siblings = list(dict.fromkeys(stem.partition("/")[0] for stem in stems if "/" in stem))
    captions: Captions = {}
    orphans = []
    for path in files_lib.list_below(folder, (".txt",)):
        if path.name == frame_folder.RATE:
            continue
        text = path.relative_to(folder).as_posix()
        stem = files_lib.plain_name(text.rpartition(".")[0])
        clips = next((stems[s] for s in (stem, *_across(stem, siblings)) if s in stems), None)
        if clips is None:
            orphans.append(repr(text))
            continue
        content = files_lib.read_text(path, _SUBJECT)
        if content.strip():
            caption = files_lib.clean_text(content, f"caption file {path}")
            captions |= dict.fromkeys(clips, (caption,))
    for name in FOLDERS:  # where the folder of videos itself is named
        for stem, clips in stems.items() if (folder.parent / name).is_dir() else ():
            path = folder.parent / name / f"{stem}.txt"
            if clips[0] not in captions and path.is_file():
                content = files_lib.read_text(path, _SUBJECT)
                caption = files_lib.clean_text(content, f"caption file {path}")
                captions |= dict.fromkeys(clips, (caption,))
    return captions, orphans


def _stem(folder: pathlib.Path, file: str) -> str:
    """Returns the name of a video without its suffix, which a folder of frames has not."""
    return file if (folder / file).is_dir() else file.rpartition(".")[0]


def _across(stem: str, siblings: Sequence[str]) -> list[str]:
    """Returns what a text in a folder of captions may caption in the folders beside it."""
    top, _, rest = stem.partition("/")
    if top not in FOLDERS:
        return []
    return [f"{sibling}/{rest}" for sibling in siblings] + [rest]
