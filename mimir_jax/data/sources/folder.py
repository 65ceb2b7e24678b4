# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A folder of videos with captions as a data source."""

import functools
import itertools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from absl import logging
from jaxtyping import UInt8

from mimir_jax import files as files_lib
from mimir_jax import hashing
from mimir_jax.data import clips, video_io
from mimir_jax.errors import InputError

CAPTIONS = "captions.jsonl"


class VideoFolder(clips.ClipSource):
    """Videos under a folder, each with a caption.

    Captions come from `captions.jsonl` in the folder, one JSON object a line:
    `{"file": "cats/a.mp4", "caption": "a cat"}`, where `caption` may also be a list to draw from.
    Without that file, `cats/a.txt` captions `cats/a.mp4`. Hidden files are ignored.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        split: Literal["all", "train", "heldout"] = "all",
        **geometry: Any,
    ):
        """Lists and checks the folder; opens videos only until a split has one it can read.

        Args:
            folder: Where the videos are.
            split: `heldout` is one clip in twenty by a hash of its path, so that it stays held out
                when clips are added, or the first by hash if none of these can be read; `train` is
                the rest.
            **geometry: `frames`, `height`, `width`, `fps`, `start`, `short` of `ClipSource`.

        Raises:
            ValueError: for a missing or empty folder, a bad line, a clip and caption that do not
                pair up, or a split without a readable clip.
        """
        super().__init__(**geometry)
        self.folder = pathlib.Path(folder)
        self._require(
            self.folder.is_dir(),
            f"needs an existing folder, got {str(folder)!r}; pass the one that holds the videos",
        )
        self.files = _list_videos(self.folder)
        self._require(
            bool(self.files),
            f"needs at least one video ({' '.join(video_io.SUFFIXES)}), found none under "
            f"{str(folder)!r}; add videos or pass another folder",
        )
        captions = _read_captions(self.folder, self.files)
        if split != "all":
            self.files = self._choose(split)
        self._captions = [captions[file] for file in self.files]
        self._digest = _digest(self.folder, self.files, self._captions)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Returns the path of a clip inside the folder."""
        return self.files[index]

    def _identity(self) -> str:
        return f"digest={self._digest!r}"

    def _load(
        self, index: int, pick: video_io.Pick
    ) -> tuple[UInt8[np.ndarray, "f h w 3"], tuple[str, ...]]:
        video = video_io.read_clip(self.folder / self.files[index], pick, self._fit)
        return video, self._captions[index]

    def _choose(self, split: Literal["train", "heldout"]) -> list[str]:
        """Returns the files of a split, at least one of which can be read."""
        is_readable = functools.cache(self._is_readable)
        codes = {f: int(hashing.sha256(f)[:8], 16) for f in self.files}
        order = sorted(self.files, key=codes.get)
        heldout = [file for file in order if codes[file] % 20 == 0]
        if not any(is_readable(file) for file in heldout):
            others = (file for file in order if codes[file] % 20)
            heldout += itertools.islice(filter(is_readable, others), 1)
        rest = [file for file in self.files if file not in heldout]
        chosen = rest if split == "train" else sorted(heldout)
        self._require(
            any(is_readable(file) for file in chosen),
            f"needs at least two readable videos, to hold one out, got fewer of {len(order)} in "
            f"{str(self.folder)!r}; add videos, repair them or change frames, fps or short",
        )
        return chosen

    def _is_readable(self, file: str) -> bool:
        try:
            video_io.read_clip(self.folder / file, lambda line: self._pick(line, None), self._fit)
        except video_io.UnreadableClip as error:
            logging.warning("clip passed over: %s: %s", file, error)
            return False
        return True


def _list_videos(folder: pathlib.Path) -> list[str]:
    paths = [
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.suffix.lower() in video_io.SUFFIXES and path.is_file()
    ]
    return sorted(p.as_posix() for p in paths if not any(part[0] == "." for part in p.parts))


def _digest(folder: pathlib.Path, files: Sequence[str], captions: Sequence[tuple[str, ...]]) -> str:
    """Hashes names, sizes and captions, so that a moved folder is the same and a changed is not."""
    sizes = [(folder / file).stat().st_size for file in files]
    content = json.dumps([list(files), sizes, list(captions)])
    return hashing.sha256(content)[:16]


def _read_captions(folder: pathlib.Path, files: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the captions of every clip, after checking that both sides pair up."""
    if (folder / CAPTIONS).exists():
        captions, where = _read_lines(folder / CAPTIONS)
        videos = set(files)
        orphans = [f"{file!r} ({where[file]})" for file in captions if file not in videos]
        remedy = f"add a line to {CAPTIONS} or remove the clip"
    else:
        captions = _read_texts(folder, files)
        stems = {file.rpartition(".")[0] for file in files}
        texts = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.txt"))
        texts = [text for text in texts if not any(p[0] == "." for p in text.split("/"))]
        orphans = [repr(text) for text in texts if text.removesuffix(".txt") not in stems]
        remedy = f"write {CAPTIONS} or a .txt with text beside the clip"
    if orphans:
        raise InputError(
            f"every caption in {str(folder)!r} needs its clip, found none for {_some(orphans)}; "
            "add the clip or remove the caption"
        )
    if silent := [repr(file) for file in files if file not in captions]:
        raise InputError(
            f"every clip in {str(folder)!r} needs a caption, found none for {_some(silent)}; "
            + remedy
        )
    return captions


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _read_lines(path: pathlib.Path) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Returns the captions of `captions.jsonl` and the line that gave each."""
    captions: dict[str, tuple[str, ...]] = {}
    where: dict[str, str] = {}
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            entry = None
        file = entry.get("file") if isinstance(entry, dict) else None
        texts = entry.get("caption") if isinstance(entry, dict) else None
        texts = [texts] if isinstance(texts, str) else texts
        good = isinstance(texts, list) and texts and all(isinstance(t, str) for t in texts)
        if not isinstance(file, str) or not good or not all(t.strip() for t in texts):
            raise InputError(
                f"a line of {CAPTIONS} must be an object with a file and a non-empty caption, got "
                f"{line.strip()[:80]!r} in {str(path)!r} line {number}; "
                'write {"file": "clip.mp4", "caption": "a cat"}'
            )
        if file in captions:
            raise InputError(
                f"a file may appear once in {CAPTIONS}, got {file!r} again in {str(path)!r} line "
                f'{number} ({where[file]} before); give one line a list as "caption"'
            )
        captions[file] = tuple(text.strip() for text in texts)
        where[file] = f"line {number}"
    return captions, where


def _read_texts(folder: pathlib.Path, files: Sequence[str]) -> dict[str, tuple[str, ...]]:
    captions = {}
    for file in files:
        path = (folder / file).with_suffix(".txt")
        if path.is_file() and (text := _read_text(path).strip()):
            captions[file] = (text,)
    return captions


def _read_text(path: pathlib.Path) -> str:
    return files_lib.read_text(path, "caption file")
