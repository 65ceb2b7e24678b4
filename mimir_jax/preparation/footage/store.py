# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a folder of prepared clips holds, and how many processes share the work on it.

    clips/                 what training reads: clips, and captions.jsonl
    decisions.jsonl        a line for each clip: what every rule measured and decided
    quarantine.jsonl       videos that cannot be read, with the reason
    report.html            funnel, histograms, contact sheets
    work/settings.json     the config; a folder of another one is refused
    work/measured/ID.json  clips of a video and their measures
    work/exported/ID.json  its clips that were written, and their captions
    work/pictures/ID.jpg   frames of its clips
    work/claims/           which process works on what

A file is complete or absent, and every file is a function of the raw videos and the config. A
claim is a lock of the kernel, which ends with its process: another process then takes the share.
Where a file system has no locks, two processes may do the same work and write the same file.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from mimir_jax import files, hashing
from mimir_jax.config import bridge
from mimir_jax.errors import InputError
from mimir_jax.preparation.footage.config import FootageConfig

MEASURED, EXPORTED = "measured", "exported"
_FOLDERS = ("clips", "work/measured", "work/exported", "work/pictures", "work/claims")


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
            if self.folder.exists() and any(self.folder.iterdir()):
                raise InputError(
                    f"OUT must be new, empty or of an earlier preparation, got {self.folder} with "
                    "other files; choose another"
                )
            return None
        return bridge.from_values(FootageConfig, files.read_json(path, "settings"))

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
        if not path.is_file():
            files.write_json(path, dataclasses.asdict(config))

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        """Returns a record, None if it is absent."""
        path = self.work / kind / f"{key}.json"
        return files.read_json(path, "record") if path.is_file() else None

    def write(self, kind: str, key: str, record: dict[str, Any]) -> None:
        """Writes a record."""
        files.write_json(self.work / kind / f"{key}.json", record, indent=0)

    @contextlib.contextmanager
    def claim(self, kind: str, key: str) -> Iterator[int | None]:
        """Claims a share of the work until the context ends.

        Yields:
            How many processes have ended while they worked on it; None if another process does.
        """
        path = self.work / "claims" / f"{kind}-{key}"
        with files.writing(path, "claim"), path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            except OSError:  # a file system without locks
                pass
            file.seek(0)
            ended = len(file.read())
            file.write(".")
            file.flush()
            try:
                yield ended
            finally:
                path.unlink(missing_ok=True)


def video_key(video: str) -> str:
    """Returns the key of a video's records, from its path below RAW."""
    return hashing.sha256(video)[:12]


def write_lines(path: pathlib.Path, records: list[dict[str, Any]]) -> None:
    """Writes JSONL."""
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    files.write_text(path, "".join(f"{line}\n" for line in lines))


def stamp(path: pathlib.Path) -> list[int]:
    """Returns size and time of change of a raw video; a record of another one is made again."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def _lookup(config: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        config = getattr(config, name)
    return config
