# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A work directory in remote storage: a local folder that is copied from there and back.

At the start the run is copied to a temporary folder. While it trains, a thread copies back what has
changed, each checkpoint whole and its marker last, and removes what the run has removed. What was
copied last is what a killed run goes on from.
"""

import contextlib
import pathlib
import tempfile
import threading
from collections.abc import Callable, Iterator

from absl import logging

from mimir_jax import lock, remote
from mimir_jax.errors import InputError
from mimir_jax.parallel import distributed
from mimir_jax.weights import runs

_SECONDS = 10.0
_TRIALS = 3
_PARTIAL = "orbax-checkpoint-tmp"  # in the names of folders that Orbax has not finished


class Mirror:
    """A local folder and its copy in remote storage.

    Attributes:
        folder: The local folder.
        address: Where the copy is.
    """

    def __init__(self, store: remote.Store, folder: pathlib.Path):
        self.folder, self.address, self._store = folder, store.address, store
        self._known: dict[str, tuple[int, int]] = {}  # name -> time and size of what is there
        self._failures: list[InputError] = []
        self._copies: _Repeated | None = None
        self._beats: _Repeated | None = None

    def lock(self) -> None:
        """Takes the lock and begins to renew it, however long a copy takes."""
        self._store.write(lock.FILE, lock.owner())
        self._beats = _Repeated(self._beat, "beat")

    def pull(self, *, clean: bool) -> None:
        """Copies the run here; `clean` removes checkpoints there that were never completed."""
        for name in remote.pull(self._store, self.folder):
            if name != lock.FILE:
                self._known[name] = _stamp(self.folder / name)
        if clean:
            found = self._store.sizes()
            self._store.remove([name for name in found if not remote.is_complete(name, found)])

    def start(self) -> None:
        """Starts copying back."""
        self._copies = _Repeated(self._copy, "mirror")

    def check(self) -> None:
        """Raises `InputError` if several attempts to copy in a row have failed."""
        if len(self._failures) >= _TRIALS:
            raise self._failures[-1]

    def close(self) -> None:
        """Copies what is left and gives the lock back."""
        try:
            if self._copies is not None:
                self._copies.close()
                self.push()
        finally:
            if self._beats is not None:
                self._beats.close()
        if self._beats is not None:
            self._store.remove([lock.FILE])

    def push(self) -> None:
        """Copies what has changed since the last time."""
        if not self.folder.is_dir():
            if self._known:
                raise InputError(f"the local copy {self.folder} of {self.address} must stay")
            return
        found = dict(_files(self.folder))
        for name in sorted(found, key=_order):
            stamp = found[name]
            if self._known.get(name) != stamp:
                with contextlib.suppress(FileNotFoundError):  # a checkpoint that is removed
                    self._upload(name)
                    self._known[name] = stamp
        gone = [name for name in self._known if name not in found]
        self._store.remove(sorted(gone, key=_order, reverse=True))  # markers first
        for name in gone:
            del self._known[name]

    def _upload(self, name: str) -> None:
        file = self.folder / name
        try:
            self._store.upload(file, name)
        except InputError:
            if not file.exists():
                raise FileNotFoundError(name) from None
            raise

    def _copy(self) -> None:
        try:
            self.push()
            self._failures.clear()
        except InputError as error:
            self._failures.append(error)
            logging.warning("%s; trying again", error)

    def _beat(self) -> None:
        with contextlib.suppress(InputError):  # copies tell of storage that refuses
            self._store.write(lock.FILE, lock.owner())


class _Repeated:
    """A thread that does some work every few seconds."""

    def __init__(self, work: Callable[[], None], name: str):
        self._work, self._stop = work, threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after its current work."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_SECONDS):
            self._work()


@contextlib.contextmanager
def mirrored(address: str, *, writes: bool = True, locked: bool = True) -> Iterator[Mirror]:
    """Opens a folder in remote storage as a local one.

    Args:
        address: Where it is; may hold nothing yet.
        writes: Whether what changes is copied back.
        locked: Whether there is one writer at a time, as for runs.

    Raises:
        InputError: in one line, if the storage refuses, another process writes there, or there are
            several processes.
    """
    if distributed.gather(None)[1:]:
        raise InputError(
            f"workdir {address} must be on storage that all processes share, remote storage takes "
            "one process; mount it"
        )
    store = remote.Store(address)
    if writes:
        store.probe()
        if locked:
            lock.require_ended(store.read(lock.FILE), store.address)
    with tempfile.TemporaryDirectory(prefix="mimir-") as home:
        folder = pathlib.Path(home) / (store.address.rpartition("/")[2] or "run")
        mirror = Mirror(store, folder)
        try:
            with _closing(mirror):
                if writes and locked:
                    mirror.lock()
                mirror.pull(clean=writes)
                if writes:
                    mirror.start()
                yield mirror
        except InputError as error:
            raise type(error)(str(error).replace(str(folder), store.address)) from error


@contextlib.contextmanager
def _closing(mirror: Mirror) -> Iterator[None]:
    """Closes a mirror; what failed before is not hidden by a copy that fails too."""
    try:
        yield
    except BaseException:
        try:
            mirror.close()
        except InputError as error:
            logging.warning("%s", error)
        raise
    mirror.close()


def _files(folder: pathlib.Path) -> Iterator[tuple[str, tuple[int, int]]]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.name.startswith(".") or _PARTIAL in name or name == lock.FILE:
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield name, _stamp(path)


def _stamp(path: pathlib.Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _order(name: str) -> int:
    """Returns when a file is copied: markers after checkpoints, a config after its checksum."""
    return 2 if name.endswith(f"/{remote.MARKER}") else int(name == runs.CONFIG_FILE)
