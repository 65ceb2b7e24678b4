# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A folder of videos with captions as a data source."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from absl import logging
from jaxtyping import UInt8

from mimir_jax import files as files_lib
from mimir_jax import hashing, image_files
from mimir_jax.data import clip_worker, clips, frame_folder, video_io
from mimir_jax.data.sources import captions as captions_lib
from mimir_jax.data.sources import splits

_TEXTS = (".txt", ".json", ".jsonl", ".csv")


class VideoFolder(clips.ClipSource):
    """Videos under a folder, each with a caption; also folders of frames (see `frame_folder`).

    Captions come from `captions.jsonl` in the folder, one JSON object a line:
    `{"file": "cats/a.mp4", "caption": "a cat"}`, where `caption` may also be a list to draw from;
    from the lists of other trainers (see `data.sources.captions`); or `cats/a.txt` captions
    `cats/a.mp4`. Conversations about videos are in `conversations.json`, as those of LLaVA. Hidden
    files are ignored.

    Attributes:
        files: The videos, by their paths in the folder.
        captions: Captions of each of them.
        has_conversations: Whether there are conversations about videos.
        left_out: Other files and linked folders, with the reason.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        split: Literal["all", "train", "heldout"] = "all",
        images: bool = False,
        **geometry: Any,
    ):
        """Lists and checks the folder; opens videos only until a split has one it can read.

        Args:
            folder: Where the videos are.
            split: `heldout` is one clip in twenty by a hash of its path, so that it stays held out
                when clips are added, or the first by hash if none of these can be read; `train` is
                the rest.
            images: Whether images are clips too, of one frame.
            **geometry: `frames`, `height`, `width`, `fps`, `start`, `short`, `windows` and so on of
                `ClipSource`.

        Raises:
            ValueError: for a missing or empty folder, a bad line, a clip and caption that do not
                pair up, or a split without a readable clip.
        """
        super().__init__(**geometry)
        self.folder = files_lib.expand_path(folder)
        self._require(
            self.folder.is_dir(),
            f"needs an existing folder, got {str(folder)!r}; pass the one that holds the videos",
        )
        self.files, self.left_out = list_videos(self.folder, images)
        self._require(
            bool(self.files),
            f"needs at least one video ({' '.join(video_io.SUFFIXES)}), found none under "
            f"{str(folder)!r}; add videos or pass another folder",
        )
        captions = captions_lib.read(self.folder, self.files)
        talks = captions_lib.read_conversations(self.folder, self.files)
        if split != "all":
            self.files = self._choose(split)
        self.captions = [captions[file] for file in self.files]
        self._talks = {file: talks[file] for file in self.files if file in talks}
        self.has_conversations = bool(self._talks)
        self._digest = _digest(self.folder, self.files, self.captions, self._talks)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Returns the path of a clip inside the folder."""
        return self.files[index]

    def conversations(self, index: int) -> tuple[captions_lib.Conversation, ...]:
        """Returns the conversations about a clip, questions with their answers."""
        return self._talks.get(self.files[index], ())

    def _identity(self) -> str:
        return f"digest={self._digest!r}"

    def _load(
        self, index: int, pick: video_io.Pick
    ) -> tuple[UInt8[np.ndarray, "f h w 3"], tuple[str, ...]]:
        return self._decode(self.files[index], pick), self.captions[index]

    def _measure(self, index: int) -> tuple[video_io.Timeline, tuple[float, float]]:
        return clip_worker.measure_clip(self.folder / self.files[index], **self._limits)

    def _decode(self, file: str, pick: video_io.Pick) -> UInt8[np.ndarray, "f h w 3"]:
        return clip_worker.read_clip(
            self.folder / file,
            pick,
            height=self.height,
            width=self.width,
            limits=self._frame_limits,
            **self._limits,
        )

    def _choose(self, split: Literal["train", "heldout"]) -> list[str]:
        """Returns the files of a split, at least one of which can be read."""
        codes = np.array([splits.code(file) for file in self.files], np.uint32)
        chosen = splits.choose(codes, split, lambda number: self._is_readable(self.files[number]))
        self._require(
            len(chosen) > 0,
            f"needs at least two readable videos, to hold one out, got fewer of {len(self.files)} "
            f"in {str(self.folder)!r}; add videos, repair them or change frames, fps or short",
        )
        return [self.files[number] for number in chosen.tolist()]

    def _is_readable(self, file: str) -> bool:
        try:
            self._decode(file, lambda line: self._pick(line, None))
        except video_io.UnreadableClip as error:
            logging.warning("clip passed over: %s: %s", file, error)
            return False
        return True


def list_videos(folder: pathlib.Path, images: bool = False) -> tuple[list[str], dict[str, str]]:
    """Returns the videos below a folder, and what is left out with its reason.

    Hidden files are passed over; so are texts and lists, which captions may be in. A folder of
    numbered images with a rate is one video.
    """
    videos, left_out = [], {}
    for place, folders, names in os.walk(folder, onerror=lambda error: left_out.update(
        {os.path.relpath(error.filename, folder): f"cannot be read: {error.strerror}"}
    )):  # fmt: skip
        here = pathlib.Path(place)
        for name in folders:
            if not name.startswith(".") and (here / name).is_symlink():
                left_out[(here / name).relative_to(folder).as_posix()] = "is a linked folder"
        folders[:] = [name for name in folders if not name.startswith(".")]
        clips_here = [name for name in folders if frame_folder.is_clip(here / name)]
        videos += [(here / name).relative_to(folder).as_posix() for name in clips_here]
        folders[:] = [name for name in folders if name not in clips_here]
        for name in names:
            path = here / name
            file = path.relative_to(folder).as_posix()
            if name.startswith(".") or path.suffix.lower() in _TEXTS:
                continue
            known = video_io.SUFFIXES + (image_files.SUFFIXES if images else ())
            if path.suffix.lower() not in known:
                left_out[file] = f"has the unknown suffix {path.suffix!r}"
            elif not path.is_file():
                left_out[file] = "is no file"
            else:
                videos.append(file)
    return sorted(videos), dict(sorted(left_out.items()))


def _digest(
    folder: pathlib.Path,
    files: Sequence[str],
    captions: Sequence[tuple[str, ...]],
    talks: captions_lib.Conversations,
) -> str:
    """Hashes names, sizes and texts, so that a moved folder is the same and a changed is not."""
    sizes = [_size(folder / file) for file in files]
    content = json.dumps([list(files), sizes, list(captions), *([talks] if talks else [])])
    return hashing.sha256(content)[:16]


def _size(video: pathlib.Path) -> int:
    """Returns the bytes of a video file, or of all files of a folder of frames."""
    parts = [p for p in video.iterdir() if p.is_file()] if video.is_dir() else [video]
    return sum(part.stat().st_size for part in parts)
