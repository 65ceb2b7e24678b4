# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a folder of prepared clips holds, and how many processes share the work on it.

    clips/                 what training reads: clips, and captions.jsonl
    shards/                the same clips in shards, where asked for (`data.clip_shards`)
    decisions.jsonl        a line for each clip: what every rule measured and decided
    quarantine.jsonl       videos that cannot be read, or cut into clips, with the reason
    report.html            funnel, histograms, contact sheets
    work/settings.json     config and networks; a folder of others is refused
    work/measured/ID.json  clips of a video and their measures
    work/selected/         which clips are kept, and which look like which
    work/exported/ID.json  its clips that were written, and their captions
    work/images/ID.jpg     frames of its clips
    work/claims/           which process works on what (`preparation.claims`)

A file is complete or absent, and every file is a function of the raw videos and the config, so
that it does not matter which process writes it, nor whether two do.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

from mimir_jax import files, hashing
from mimir_jax.errors import InputError
from mimir_jax.preparation import claims, settings
from mimir_jax.preparation.footage.config import FootageConfig

_WHAT = "an earlier preparation"
MEASURED, SELECTED, EXPORTED = "measured", "selected", "exported"
_FOLDERS = (  # that of claims first, which tells a new folder from one of something else
    *(f"work/{name}" for name in ("claims", MEASURED, SELECTED, EXPORTED, "images")),
    "clips",
)


@dataclasses.dataclass(frozen=True)
class Store:
    """A folder of prepared clips.

    Attributes:
        folder: The folder.
    """

    folder: pathlib.Path

    @property
    def clips(self) -> pathlib.Path:
        """Folder that training reads."""
        return self.folder / "clips"

    @property
    def shards(self) -> pathlib.Path:
        """Folder of the same clips in shards, where they were asked for."""
        return self.folder / "shards"

    def read_clip(self, file: str) -> bytes:
        """Returns the content of a kept clip."""
        try:
            return (self.clips / file).read_bytes()
        except OSError as error:
            raise InputError(
                f"clip {self.clips / file} must be readable to be packed: {files.reason(error)}; "
                "delete OUT/work/exported, the same command writes all clips again"
            ) from None

    @property
    def work(self) -> pathlib.Path:
        """Folder of the records that make the work resume."""
        return self.folder / "work"

    def check(self, config: FootageConfig) -> None:
        """Raises `InputError` if the folder was made by other settings."""
        settings.check(self.folder, config, _WHAT)

    def create(self, config: FootageConfig) -> None:
        """Makes the folder, or checks that it was made by the same settings."""
        self.check(config)
        with files.writing(self.folder, "OUT"):
            for name in _FOLDERS:
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        settings.create(self.folder, config, _WHAT, self.claims)

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        """Returns a record, None if it is absent."""
        path = self.work / kind / f"{key}.json"
        return files.read_json(path, "record") if path.is_file() else None

    def size(self, kind: str, video: str) -> int:
        """Returns the bytes of a video's record, 0 if it is absent."""
        path = self.work / kind / f"{video_key(video)}.json"
        return path.stat().st_size if path.is_file() else 0

    def write(self, kind: str, key: str, record: dict[str, Any]) -> None:
        """Writes a record."""
        files.write_json(self.work / kind / f"{key}.json", record, indent=0)

    def claim(self, kind: str, key: str) -> contextlib.AbstractContextManager[int | None]:
        """Claims a share of the work until the context ends; see `claims.Claims.claim`."""
        return self.claims.claim(f"{kind}-{key}")

    @functools.cached_property
    def claims(self) -> claims.Claims:
        """The claims of a folder that was created."""
        return claims.Claims(self.folder / settings.CLAIMS)


def video_key(video: str) -> str:
    """Returns the key of a video's records, from its path below RAW."""
    return hashing.sha256(video)[:12]


def write_lines(path: pathlib.Path, records: list[dict[str, Any]]) -> None:
    """Writes JSONL."""
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    files.write_text(path, "".join(f"{line}\n" for line in lines))


def stamp(path: pathlib.Path) -> list[int]:
    """Returns size and time of change of a raw video; a record of another one is made again."""
    with files.reading(path, "raw video"):
        status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
