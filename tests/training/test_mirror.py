# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import os
import socket
import subprocess
import sys
import time

import fsspec
import jax
import numpy as np
import pytest

from mimir_jax import files, lock, remote, weights
from mimir_jax.errors import InputError
from mimir_jax.training import loop, mirror
from tests.training.line_runs import final_state, line_run
from tests.training.test_saving import stop_at

__all__ = ["line_run"]

ADDRESS = "memory://bucket/run"


@pytest.fixture(autouse=True)
def bucket():
    """An empty object store in memory."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield remote.Store(ADDRESS)
    store.store.clear()


def checkpoint(folder, step):
    place = folder / "checkpoints" / str(step)
    for name in (remote.MARKER, "state/d/part", "sums/metadata"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"{name} of {step}")
    return place


def test_a_run_is_copied_whole_and_its_marker_last(bucket, monkeypatch):
    uploads = []
    upload = remote.Store.upload

    def recorded(self, file, name):
        uploads.append(name)
        upload(self, file, name)

    monkeypatch.setattr(remote.Store, "upload", recorded)
    with mirror.mirrored(ADDRESS) as copy:
        folder = copy.folder
        first = checkpoint(folder, 3)
        checkpoint(folder, "4.orbax-checkpoint-tmp")
        (folder / ".hidden").touch()
        (folder / "config.json").write_text("{}")
        copy.push()
        assert uploads[-1] == f"checkpoints/3/{remote.MARKER}" and len(uploads) == 4
        assert lock.FILE in bucket.sizes()
        checkpoint(folder, 5)
        for file in sorted(first.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    assert not folder.exists()
    assert {n.split("/")[1] for n in bucket.sizes() if n.startswith("checkpoints")} == {"5"}
    assert lock.FILE not in bucket.sizes() and "config.json" in bucket.sizes()

    with mirror.mirrored(ADDRESS) as copy:  # the next process
        assert copy.folder.name == "run"
        assert (copy.folder / "checkpoints" / "5" / "sums" / "metadata").is_file()
        del uploads[:]
        copy.push()
        assert not uploads


def test_a_checkpoint_that_was_cut_off_is_not_read_and_removed(bucket):
    bucket.write("checkpoints/7/state/d/part", b"half")
    bucket.write("config.json", b"{}")
    assert not (remote.fetch(f"{ADDRESS}/") / "checkpoints").exists()
    with mirror.mirrored(ADDRESS, writes=False) as copy:
        assert [file.name for file in copy.folder.iterdir()] == ["config.json"]
    assert len(bucket.sizes()) == 2
    with mirror.mirrored(ADDRESS):
        assert set(bucket.sizes()) == {"config.json", lock.FILE}
    remote.fetch.cache_clear()


def test_one_process_writes(bucket):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        now = time.time()
        for host, pid, beat, held in (
            (socket.gethostname(), other.pid, 0, True),
            (socket.gethostname(), os.getpid(), now, False),
            (socket.gethostname(), 2**22 + 1, now, False),
            ("elsewhere", 1, now, True),
            ("elsewhere", 1, now - 61, False),
        ):
            bucket.write(lock.FILE, json.dumps({"host": host, "pid": pid, "beat": beat}).encode())
            if held:
                with pytest.raises(InputError, match=f"run must have one writer, process {pid} on"):
                    with mirror.mirrored(ADDRESS):
                        pass
            else:
                with mirror.mirrored(ADDRESS):
                    pass
        other.communicate(b"\n")
    bucket.write(lock.FILE, b'{"torn')
    with mirror.mirrored(ADDRESS):
        pass


def test_the_lock_is_held_and_renewed_while_files_are_copied(bucket, monkeypatch):
    monkeypatch.setattr(mirror, "_SECONDS", 0.01)
    pull, upload, write = remote.pull, remote.Store.upload, remote.Store.write
    beats, renewed = [], []

    def pulled(store, folder):
        assert lock.FILE in store.sizes()
        return pull(store, folder)

    def written(self, name, content):
        write(self, name, content)
        beats.extend([name] if name == lock.FILE else [])

    def slow(self, file, name):
        seen, deadline = len(beats), time.monotonic() + 60
        while len(beats) < seen + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        renewed.append(len(beats) >= seen + 2)
        upload(self, file, name)

    monkeypatch.setattr(remote, "pull", pulled)
    monkeypatch.setattr(remote.Store, "write", written)
    monkeypatch.setattr(remote.Store, "upload", slow)
    with mirror.mirrored(ADDRESS) as copy:
        checkpoint(copy.folder, 1)
    assert renewed == [True] * 3
    assert lock.FILE not in bucket.sizes()


def test_errors_name_the_address_and_a_failed_copy_ends_the_run(monkeypatch):
    with pytest.raises(InputError, match="folder memory://bucket/run/x is odd"):
        with mirror.mirrored(ADDRESS) as copy:
            raise InputError(f"folder {copy.folder}/x is odd")
    monkeypatch.setattr(mirror, "_SECONDS", 0.01)
    with pytest.raises(InputError, match="storage memory://bucket/run must be writable: no space"):
        with mirror.mirrored(ADDRESS) as copy:

            def refuse(*args, **kwargs):
                raise OSError("no space")

            monkeypatch.setattr(type(fsspec.filesystem("memory")), "put_file", refuse)
            checkpoint(copy.folder, 1)
            while True:
                copy.check()
                time.sleep(0.01)


def test_storage_whose_library_is_missing_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for address in ("gs://bucket/run", "gs:/bucket/run", "wings://bucket"):
        with pytest.raises(InputError, match=r"storage (gs|wings)://bucket\S* must be of storage"):
            remote.Store(address)
    with pytest.raises(InputError, match="must be of a file system here"):
        files.expand_path("s3://bucket/run")


def test_weights_and_runs_are_read_from_an_address(bucket, tmp_path):
    folder = weights.resolve("package:tiny/t5")
    for file in folder.rglob("*"):
        if file.is_file():
            bucket.upload(file, file.relative_to(folder).as_posix())
    found = weights.resolve(ADDRESS)
    assert remote.origin(found) == ADDRESS and weights.open_weights(ADDRESS).family.kind == "t5"
    with pytest.raises(InputError, match="must be a folder of files, found none"):
        weights.resolve("memory://bucket/other")
    remote.fetch.cache_clear()


def test_a_run_goes_on_from_remote_storage_to_the_bit(line_run, tmp_path):
    loop.train(line_run, tmp_path / "whole")
    for step in (2, None):
        with mirror.mirrored(ADDRESS) as copy:
            loop.train(line_run, copy.folder, report=stop_at(step))
    (state, position), (other, other_position) = (
        final_state(line_run, folder) for folder in (tmp_path / "whole", remote.fetch(ADDRESS))
    )
    jax.tree.map(np.testing.assert_array_equal, state, other)
    assert position == other_position
    remote.fetch.cache_clear()
