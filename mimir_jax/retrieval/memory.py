# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Documents on disk: append-only, in shards, with checksums.

    memory.json                       version, shards with sizes and checksums of their files
    shard-00000/documents.jsonl       a document per line
    shard-00000/offsets.npy           where each line begins, and the end of the file
    shard-00000/names.npy             hashes of the ids, sorted
    images/                           images that were made for the memory
    index-<checksum>/                 see `index`

A shard is complete or absent, and never changes; `memory.json` names those that count. Appending
writes further shards, one process at a time (`lock`). The checksum of a memory is one of its
documents in order, however they are split into shards.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mimir_jax import files, hashing, image_files, lock
from mimir_jax.errors import InputError, reason, require
from mimir_jax.retrieval.documents import Document

VERSION = 1
_FORMAT = "mimir_jax memory"
_HEADER = "memory.json"
_DOCUMENTS, _OFFSETS, _NAMES = "documents.jsonl", "offsets.npy", "names.npy"
SHARD_SIZE = 1_000_000
"""Documents of a shard, unless told otherwise."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A run of documents.

    Attributes:
        folder: Its files.
        start: Number of its first document in the memory.
        size: Its documents.
    """

    folder: pathlib.Path
    start: int
    size: int

    @functools.cached_property
    def _offsets(self) -> np.ndarray:
        return np.load(self.folder / _OFFSETS, mmap_mode="r").view(np.ndarray)

    @functools.cached_property
    def _lines(self) -> np.ndarray:
        return np.memmap(self.folder / _DOCUMENTS, np.uint8, "r").view(np.ndarray)

    def read(self, number: int) -> Document:
        """Returns a document by its number in the shard."""
        with whole(self.folder, "memory"):
            begin, end = self._offsets[number : number + 2].tolist()
            return Document(**json.loads(self._lines[begin:end].tobytes()))

    def texts(self) -> Iterator[str]:
        """Yields the texts in order."""
        with (self.folder / _DOCUMENTS).open("rb") as lines:
            for line in lines:
                yield json.loads(line)["text"]

    def has_names(self, hashes: np.ndarray) -> np.ndarray:
        """Returns which hashes of ids (n,) the shard holds."""
        names = np.load(self.folder / _NAMES, mmap_mode="r")
        places = np.minimum(np.searchsorted(names, hashes), self.size - 1)
        return names[places] == hashes


class Memory:
    """A memory; documents count from 0 in the order in which they were appended.

    Args:
        folder: Its folder.
        header: Content of its `memory.json`; see `open_memory` and `create`.

    Raises:
        InputError: if the header or a file is damaged, or a file absent.
    """

    def __init__(self, folder: pathlib.Path, header: dict[str, Any]):
        self.folder, self._header = folder, header
        self.shards: list[Shard] = []
        with whole(folder / _HEADER, "memory"):
            for entry in header["shards"]:
                sizes = {name: x["bytes"] for name, x in entry["files"].items()}
                check_sizes(folder / entry["name"], sizes, "memory")
                shard = Shard(folder / entry["name"], len(self), int(entry["documents"]))
                self.shards.append(shard)
            _ = self.checksum[:12]

    def __len__(self) -> int:
        return sum(shard.size for shard in self.shards)

    @property
    def checksum(self) -> str:
        """Checksum of the documents in order."""
        return self._header["checksum"]

    def __getitem__(self, number: int) -> Document:
        """Returns a document by its number."""
        for shard in self.shards:
            if shard.start <= number < shard.start + shard.size:
                return shard.read(number - shard.start)
        raise IndexError(f"document must be within 0..{len(self) - 1}, got {number}")

    def read_image(self, document: Document) -> image_files.RGBImage | None:
        """Reads the image of a document; None where it has none.

        Raises:
            InputError: if it cannot be read.
        """
        return None if document.image is None else image_files.read(self.folder / document.image)

    def verify(self) -> None:
        """Reads all files and compares their checksums.

        Raises:
            InputError: naming the first that differs.
        """
        for entry in self._header["shards"]:
            for name, stored in entry["files"].items():
                path = self.folder / entry["name"] / name
                require(
                    hashing.sha256_file(path) == stored["sha256"],
                    f"memory file {path} must have its checksum, got another; make the memory "
                    "again",
                )

    def append(self, documents: Iterable[Document], *, shard_size: int = SHARD_SIZE) -> int:
        """Adds documents in further shards, all or none; returns their number.

        They come after those that other processes have appended since the memory was opened.

        Args:
            documents: The documents.
            shard_size: Documents of a shard.

        Raises:
            InputError: for an id that the memory has already, a folder that cannot be written, or
                one that another process is appending to.
        """
        with files.writing(self.folder, "memory"):
            self.folder.mkdir(parents=True, exist_ok=True)
        with lock.hold(self.folder, "memory"):
            latest = create(self.folder)
            self._header, self.shards = latest._header, latest.shards
            return self._append(documents, shard_size)

    def _append(self, documents: Iterable[Document], shard_size: int) -> int:
        checksum, before = self.checksum, len(self)
        shards, entries = list(self.shards), list(self._header["shards"])
        try:
            for group in _groups(documents, shard_size):
                self._check_names(group, shards)
                lines = [_line(document) for document in group]
                checksum = functools.reduce(_continue, lines, checksum)
                entries.append(_write_shard(self.folder, len(shards), group, lines))
                start = sum(shard.size for shard in shards)
                shards.append(Shard(self.folder / entries[-1]["name"], start, len(group)))
            header = self._header | {"checksum": checksum, "shards": entries}
            files.write_json(self.folder / _HEADER, header)
        except BaseException:
            for shard in shards[len(self.shards) :]:
                shutil.rmtree(shard.folder, ignore_errors=True)
            raise
        self._header, self.shards = header, shards
        return len(self) - before

    def _check_names(self, group: list[Document], shards: list[Shard]) -> None:
        hashes = _hashes(group)
        found = functools.reduce(
            np.logical_or, (shard.has_names(hashes) for shard in shards), np.zeros(len(group), bool)
        )
        first = np.unique(hashes, return_index=True)[1]
        found[np.setdiff1d(np.arange(len(group)), first)] = True
        if found.any():
            name = group[int(np.argmax(found))].id
            raise InputError(
                f"documents of memory {self.folder} must have ids of their own, got {name!r} "
                "twice; append other documents, or rename them"
            )


def open_memory(folder: pathlib.Path) -> Memory:
    """Opens the memory in a folder.

    Raises:
        InputError: if there is none, or one of another version, or a damaged one.
    """
    path = folder / _HEADER
    require(
        path.is_file(),
        f"memory {folder} must be a folder with a {_HEADER}, found none; make it with mimir-jax "
        "index",
    )
    header = files.read_json(path, "memory")
    require(
        header.get("format") == _FORMAT and header.get("version") == VERSION,
        f"memory {folder} must have version {VERSION}, got {header.get('version')!r}; make it "
        "again with mimir-jax index",
    )
    return Memory(folder, header)


def create(folder: pathlib.Path) -> Memory:
    """Returns the memory in a folder; where there is none, an empty one that nothing is written
    of before documents are appended.
    """
    if (folder / _HEADER).exists():
        return open_memory(folder)
    header = {"format": _FORMAT, "version": VERSION, "checksum": hashing.sha256(""), "shards": []}
    return Memory(folder, header)


@contextlib.contextmanager
def whole(path: pathlib.Path, subject: str) -> Iterator[None]:
    """Turns what damaged files below `path` provoke into one line."""
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{subject} {path} must be whole, reading it gave {reason(error)}; copy it again or "
            "make it again with mimir-jax index"
        ) from None


def check_sizes(folder: pathlib.Path, sizes: dict[str, int], subject: str) -> None:
    """Raises `InputError` unless files are there with their sizes."""
    for name, size in sizes.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        require(
            found == size,
            f"{subject} file {path} must have {size} bytes, got {found}; copy the folder whole or "
            "make it again with mimir-jax index",
        )


def describe_files(folder: pathlib.Path) -> dict[str, Any]:
    """Returns size and checksum of each file of a folder."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": hashing.sha256_file(path)}
        for path in sorted(folder.iterdir())
    }


def _write_shard(
    folder: pathlib.Path, number: int, group: list[Document], lines: list[bytes]
) -> dict[str, Any]:
    name = f"shard-{number:05d}"
    shutil.rmtree(folder / name, ignore_errors=True)  # of a call that was stopped
    with files.atomic_directory(folder / name) as place:
        with (place / _DOCUMENTS).open("wb") as out:
            out.writelines(lines)
        np.save(place / _OFFSETS, np.cumsum([0, *map(len, lines)], dtype=np.int64))
        np.save(place / _NAMES, np.sort(_hashes(group)))
        described = describe_files(place)
    return {"name": name, "documents": len(group), "files": described}


def _groups(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    group: list[Document] = []
    for document in documents:
        group.append(document)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _line(document: Document) -> bytes:
    content = {name: x for name, x in vars(document).items() if x is not None}
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"


def _hashes(group: list[Document]) -> np.ndarray:
    digests = b"".join(hashing.content_key(document.id)[:8] for document in group)
    return np.frombuffer(digests, np.uint64)


def _continue(checksum: str, line: bytes) -> str:
    """Continues the checksum of a memory by a document."""
    return hashing.sha256(checksum.encode() + line)
