# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Captioned clips in few large files, for storage that lists and opens small ones slowly.

    FOLDER/manifest.json                        the shards: clips and bytes of each
    FOLDER/codes.npy                            a number for each clip, that splits data
    FOLDER/DIGEST-00003-of-00010.array_record   shard 3

A record is a line of JSON, `{"file": NAME, "captions": [...]}`, then the bytes of the video file.
Records are in the order of their names. A shard is complete or absent, and its name holds the
digest of all clips, so that processes that share only the folder can write it together. The
manifest, written last, makes the folder complete.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from array_record.python import array_record_data_source, array_record_module
from jaxtyping import UInt32

from mimir_jax import files, hashing
from mimir_jax.data import video_io
from mimir_jax.data.sources import splits
from mimir_jax.errors import InputError

FORMAT = "mimir_jax clip shards 1"
MANIFEST, CODES = "manifest.json", "codes.npy"
_SUFFIX = ".array_record"
_REMEDY = "copy it again, or write the shards again with mimir-jax prepare --shard_megabytes"


class Entry(NamedTuple):
    """A clip that is to be stored.

    Attributes:
        file: Its name, with the suffix of a video file.
        size: Bytes of the file.
        captions: Its captions.
    """

    file: str
    size: int
    captions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Clips divided into shards: a function of the clips and the size alone.

    Attributes:
        entries: The clips, by name.
        shard_bytes: Size from which a shard is full; the last may be smaller.
    """

    entries: tuple[Entry, ...]
    shard_bytes: int

    @functools.cached_property
    def digest(self) -> str:
        """Hash of everything here."""
        return hashing.sha256(json.dumps([FORMAT, self.shard_bytes, self.entries]))[:32]

    @functools.cached_property
    def parts(self) -> tuple[tuple[Entry, ...], ...]:
        """The clips of each shard."""
        parts: list[list[Entry]] = [[]]
        size = 0
        for entry in self.entries:
            if size >= self.shard_bytes:
                parts.append([])
                size = 0
            parts[-1].append(entry)
            size += entry.size
        return tuple(map(tuple, parts))

    def shard(self, number: int) -> str:
        """Returns the file name of a shard."""
        return _name(self.digest, number, len(self.parts))


def plan(entries: Sequence[Entry], shard_bytes: int) -> Plan:
    """Returns how clips are divided into shards."""
    return Plan(tuple(sorted(entries)), shard_bytes)


def write_shard(
    folder: pathlib.Path, planned: Plan, number: int, read: Callable[[str], bytes]
) -> None:
    """Writes a shard, which is complete or absent.

    Args:
        folder: Of the shards.
        planned: All of them.
        number: Which one.
        read: Returns the content of a file.

    Raises:
        InputError: for a clip that has another size now.
    """
    with files.atomic_file(folder / planned.shard(number)) as temporary:
        writer = array_record_module.ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
        try:
            for entry in planned.parts[number]:
                content = read(entry.file)
                if len(content) != entry.size:
                    raise InputError(
                        f"clip {entry.file} must have {entry.size} bytes, as when it was written, "
                        f"has {len(content)}; delete its record in OUT/work/exported, the same "
                        "command writes it again"
                    )
                header = json.dumps({"file": entry.file, "captions": entry.captions})
                writer.write(b"".join([header.encode(), b"\n", content]))
        finally:
            writer.close()


def complete(folder: pathlib.Path, planned: Plan) -> None:
    """Writes the manifest of a folder that has all shards, and removes those of another plan."""
    names = [planned.shard(number) for number in range(len(planned.parts))]
    codes = np.array([splits.code(entry.file) for entry in planned.entries], np.uint32)
    with files.atomic_file(folder / CODES) as temporary, temporary.open("wb") as file:
        np.save(file, codes)
    shards = [
        {"clips": len(part), "bytes": (folder / name).stat().st_size}
        for part, name in zip(planned.parts, names, strict=True)
    ]
    content = {"format": FORMAT, "digest": planned.digest, "shards": shards}
    files.write_json(folder / MANIFEST, content, indent=0)
    for path in folder.glob(f"*{_SUFFIX}"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def is_complete(folder: pathlib.Path, planned: Plan) -> bool:
    """Whether a folder holds these shards already."""
    if not (folder / MANIFEST).is_file():
        return False
    try:
        return Reader(folder).digest == planned.digest
    except InputError:  # some are missing or damaged
        return False


class Reader:
    """The records of a folder of shards.

    Attributes:
        digest: Hash of all clips.
        codes: Number of each clip that decides on its split.
    """

    def __init__(self, folder: pathlib.Path):
        """Opens a folder; reads no shard.

        Raises:
            InputError: for one without a manifest of this version, or with a shard that is missing
                or has another size.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise InputError(
                f"clip shards {folder} must hold a {MANIFEST}, found none; pass the folder that "
                "mimir-jax prepare --shard_megabytes has completed"
            )
        content = files.read_json(path, "manifest")
        if (found := content.get("format")) != FORMAT:
            raise InputError(
                f"clip shards {folder} must be of format {FORMAT!r}, got {found!r}; write them "
                "again with this version"
            )
        try:
            self.digest = str(content["digest"])
            counts = [(int(shard["clips"]), int(shard["bytes"])) for shard in content["shards"]]
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, f"it lacks {error}") from None
        self._paths = [
            folder / _name(self.digest, number, len(counts)) for number in range(len(counts))
        ]
        for shard, (_, size) in zip(self._paths, counts, strict=True):
            there = shard.stat().st_size if shard.is_file() else None
            if there != size:
                what = "is missing" if there is None else f"has {there}"
                raise _damaged(shard, f"must have {size} bytes, {what}")
        self.codes = _read_codes(folder / CODES, sum(count for count, _ in counts))
        self._ends = np.cumsum([count for count, _ in counts])
        self._records = array_record_data_source.ArrayRecordDataSource(
            [f"{shard}[0:{count}]" for shard, (count, _) in zip(self._paths, counts, strict=True)]
        )

    def __len__(self) -> int:
        return len(self.codes)

    def where(self, number: int) -> str:
        """Returns where a record is, for a message."""
        return f"{self._paths[np.searchsorted(self._ends, number, 'right')].name} record {number}"

    def read(self, number: int) -> tuple[video_io.Stored, tuple[str, ...]]:
        """Returns a clip and its captions.

        Raises:
            UnreadableClip: for a damaged record.
        """
        try:
            data = self._records[number]
            header, _, content = data.partition(b"\n")
            facts: dict[str, Any] = json.loads(header)
            return video_io.Stored(str(facts["file"]), content), tuple(map(str, facts["captions"]))
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise video_io.unreadable(error) from error


def _read_codes(path: pathlib.Path, count: int) -> UInt32[np.ndarray, "n"]:
    try:
        codes = np.load(path, allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        raise _damaged(path, " ".join(str(error).split())[:160]) from None
    if codes.shape != (count,) or codes.dtype != np.uint32:
        raise _damaged(path, f"must hold {count} numbers, has {codes.size}")
    return codes


def _name(digest: str, number: int, count: int) -> str:
    return f"{digest[:16]}-{number:05d}-of-{count:05d}{_SUFFIX}"


def _damaged(path: pathlib.Path, reason: str) -> InputError:
    return InputError(f"file {path} of clip shards must be whole: {reason}; {_REMEDY}")
