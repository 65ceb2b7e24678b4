# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders in remote storage, named by addresses such as `gs://bucket/run` and `s3://bucket/run`.

Any storage works whose fsspec implementation is installed (gcsfs, s3fs, adlfs, ...). Object stores
neither rename nor append, so nothing is written there in place: files are made locally and copied
whole. A checkpoint counts as complete when its last file, `MARKER`, is there.
"""

import atexit
import contextlib
import functools
import pathlib
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mimir_jax import threads
from mimir_jax.errors import InputError

MARKER = "_CHECKPOINT_METADATA"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):/+", re.IGNORECASE)  # gs://bucket, and gs:/bucket
_CHECKPOINT = re.compile(r"checkpoints/[^/]+/")
_LEFT_OUT = ("samples/", "tensorboard/")  # what no reader of a run needs
_ANSWER_SECONDS = 30.0
_origins: dict[pathlib.Path, str] = {}


def is_address(text: str) -> bool:
    """Whether `text` names remote storage rather than a path of a file system."""
    return _SCHEME.match(text) is not None


def normal(address: str) -> str:
    """Returns an address with two slashes, of which path libraries may make one."""
    return _SCHEME.sub(lambda match: f"{match[1].lower()}://", address, count=1).rstrip("/")


class Store:
    """The files below an address.

    Attributes:
        address: The address.
    """

    def __init__(self, address: str):
        """Opens the storage.

        Raises:
            InputError: if its library is not installed, or it does not answer.
        """
        self.address = normal(address)
        with self._asking("be of storage whose library is installed"):
            import fsspec  # imports in 0.3 s

            self._fs, self._root = fsspec.core.url_to_fs(self.address, use_listings_cache=False)

    def probe(self) -> None:
        """Writes, reads and removes a small file.

        Raises:
            InputError: if that is refused, or takes more than half a minute.
        """
        name, content = f".probe-{secrets.token_hex(4)}", b"mimir_jax"

        def work() -> None:
            self.write(name, content)
            if self.read(name) != content:
                raise InputError(f"storage {self.address} must return what was written to it")
            self.remove([name])

        self.within(work)

    def within(self, work: Callable[[], Any]) -> Any:
        """Returns what `work` does, which storage must answer within half a minute."""
        try:
            return threads.submit(work).result(_ANSWER_SECONDS)
        except TimeoutError:
            raise InputError(
                f"storage {self.address} must answer within {_ANSWER_SECONDS:.0f} s; check network "
                "and credentials"
            ) from None

    def sizes(self) -> dict[str, int]:
        """Returns the bytes of every file by its name below the address."""
        with self._asking("be readable"):
            try:
                found = self._fs.find(self._root, detail=True)
            except FileNotFoundError:
                return {}
        start = f"{self._root.rstrip('/')}/"
        return {n.removeprefix(start): x["size"] for n, x in found.items() if n.startswith(start)}

    def read(self, name: str) -> bytes | None:
        """Returns the content of a file, None if there is none."""
        with self._asking("be readable"):
            try:
                return self._fs.cat_file(self._path(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole."""
        with self._asking("be writable"):
            self._fs.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(self._path(name), content)

    def upload(self, file: pathlib.Path, name: str) -> None:
        """Copies a local file to the storage."""
        with self._asking("be writable"):
            self._fs.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(file), self._path(name))

    def download(self, name: str, file: pathlib.Path) -> None:
        """Copies a file of the storage to a new local one."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._asking("be readable"):
            self._fs.get_file(self._path(name), str(file))

    def remove(self, names: Iterable[str]) -> None:
        """Removes files; those that are gone already do not matter."""
        for name in names:
            with self._asking("be writable"), contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextlib.contextmanager
    def _asking(self, rule: str) -> Iterator[None]:
        """Turns whatever a library of storage raises into one line."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # each library has errors of its own
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise InputError(
                f"storage {self.address} must {rule}: {reason}; install the library, check address "
                "and credentials, or use a local folder"
            ) from error


def is_complete(name: str, names: Iterable[str]) -> bool:
    """Whether a file is none of a checkpoint that lacks its last file."""
    match = _CHECKPOINT.match(name)
    return match is None or f"{match[0]}{MARKER}" in names


def pull(store: Store, folder: pathlib.Path) -> list[str]:
    """Copies what is complete to a local folder, without samples and curves; returns the names."""
    found = store.within(store.sizes)
    names = [n for n in found if is_complete(n, found) and not n.startswith(_LEFT_OUT)]
    for name in names:
        if pathlib.PurePosixPath(name).is_absolute() or ".." in name.split("/"):
            raise InputError(f"storage {store.address} must hold plain names, got {name!r}")
        store.download(name, folder / name)
    return names


@functools.lru_cache(maxsize=16)
def fetch(address: str) -> pathlib.Path:
    """Returns a local copy of what an address holds, made once per process and removed at its end.

    Raises:
        InputError: if there is nothing, or it cannot be read.
    """
    store = Store(address)
    home = pathlib.Path(tempfile.mkdtemp(prefix="mimir-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    folder = home / store.address.rpartition("/")[2]
    if not pull(store, folder):
        raise InputError(
            f"storage {store.address} must be a folder of files, found none; check the address"
        )
    _origins[folder] = store.address
    return folder


def origin(folder: pathlib.Path) -> str:
    """Returns the address that a folder is a copy of, or its path."""
    return _origins.get(folder, str(folder))
