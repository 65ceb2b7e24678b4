# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a folder of prepared clips holds, and how many processes share the work on it.

    clips/                 what training reads: clips, and captions.jsonl
    shards/                the same clips in shards, where asked for (`data.clip_shards`)
    decisions.jsonl        a line for each clip: what every rule measured and decided
    quarantine.jsonl       videos that cannot be read, or cut into clips, with the reason
    report.html            funnel, histograms, contact sheets
    work/settings.json     the config; a folder of another one is refused
    work/measured/ID.json  clips of a video and their measures
    work/selected/         which clips are kept, and which look like which
    work/exported/ID.json  its clips that were written, and their captions
    work/pictures/ID.jpg   frames of its clips
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
import time
from typing import Any

from mimir_jax import files, hashing
from mimir_jax.config import bridge
from mimir_jax.errors import InputError
from mimir_jax.preparation import claims
from mimir_jax.preparation.footage.config import FootageConfig

MEASURED, SELECTED, EXPORTED = "measured", "selected", "exported"
_FOLDERS = (  # that of claims first, which tells a new folder from one of something else
    *(f"work/{name}" for name in ("claims", MEASURED, SELECTED, EXPORTED, "pictures")),
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

    def settings(self) -> FootageConfig | None:
        """Returns the config of the folder, None of a new one.

        Raises:
            InputError: for a folder of something else.
        """
        path = self.work / "settings.json"
        if not path.is_file():
            if self._is_of_something_else():
                raise InputError(
                    f"OUT must be new, empty or of an earlier preparation, got {self.folder} with "
                    "other files; choose another"
                )
            return None
        return bridge.from_values(FootageConfig, files.read_json(path, "settings"))

    def _is_of_something_else(self) -> bool:
        """Whether the folder holds files, and no process has begun to make it."""
        if self.folder.is_file():
            return True
        places = [place for place in (self.folder, self.work) if place.exists()]
        found = [path for place in places for path in place.iterdir() if path != self.work]
        return bool(found) and not (self.work / "claims").is_dir()  # which is made first

    def check(self, config: FootageConfig) -> None:
        """Raises `InputError` if the folder was made by other settings."""
        there = self.settings()
        if there is None:
            return
        if names := bridge.differences(there, config):
            one, other = (_lookup(settings, names[0]) for settings in (there, config))
            raise InputError(
                f"OUT {self.folder} must be of the same settings, {names[0]} is {one!r} there and "
                f"{other!r} here; choose another folder or leave --config.{names[0]} as it was"
            )

    def create(self, config: FootageConfig) -> None:
        """Makes the folder, or checks that it was made by the same settings."""
        self.check(config)
        with files.writing(self.folder, "OUT"):
            for name in _FOLDERS:
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        path = self.work / "settings.json"
        while not path.is_file():
            with self.claim("settings", "all") as mine:
                if mine is not None and not path.is_file():
                    files.write_json(path, dataclasses.asdict(config))
            time.sleep(0.0 if mine is not None else 0.1)
        self.check(config)  # which another process may have written

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
        return claims.Claims(self.work / "claims")


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


def _lookup(config: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        config = getattr(config, name)
    return config
