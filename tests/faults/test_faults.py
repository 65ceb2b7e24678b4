# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Kills, signals, damaged files and refused writes, tried on the real program.

`pytest -m faults -n 0` tries a tenth of the full counts, with FAULTS_SCALE=1 all of them.
"""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from mimir_jax import weights
from mimir_jax.errors import InputError
from mimir_jax.weights import runs
from tests import processes
from tests.faults.program import SMALL, STEPS, Training, count, error_of, losses, train

pytestmark = pytest.mark.faults

FULL_KILLS, FULL_PAIRS, FULL_SIGNALS, FULL_FLIPS = 30, 10, 12, 200


def assert_equal_runs(workdir, other):
    """The end states are equal to the bit, and the metrics are complete and equal."""
    assert runs.latest_step(workdir) == runs.latest_step(other) == STEPS
    found, expected = (runs.open_params(folder).read_all() for folder in (workdir, other))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert list(losses(workdir)) == list(range(1, STEPS + 1))
    assert losses(workdir) == losses(other)


def test_kills_at_random_moments(whole, tmp_path, tried, rng):
    reference, seconds = whole
    left, number = count(FULL_KILLS), 0
    while left:
        workdir, number = tmp_path / str(number), number + 1
        for _ in range(min(left, 3)):
            with Training(workdir) as training:
                time.sleep(rng.uniform(0, seconds))
                training.process.kill()
            left -= 1
            tried("SIGKILL at a random moment")
        code, _, err = train(workdir)
        assert code == 0, err
        assert_equal_runs(workdir, reference)


def pair(workdir):
    """Starts the training in two processes."""

    def command(address, index):
        place = ["--coordinator", address, "--num_processes", "2", "--process_id", str(index)]
        return ["-m", "mimir_jax.cli.main", "train", *SMALL, "--workdir", str(workdir), *place]

    return processes.Pair(command, workdir.parent)


def test_a_kill_of_one_of_two_processes(tmp_path, tried, rng):
    begun = time.monotonic()
    with pair(tmp_path / "whole") as both:
        ends = both.wait()
    assert [code for code, _, _ in ends] == [0, 0], ends
    seconds = time.monotonic() - begun
    for number in range(count(FULL_PAIRS)):
        workdir = tmp_path / str(number)
        with pair(workdir) as both:
            time.sleep(rng.uniform(0, seconds))
            killed = number % 2
            both.all[killed].kill()
            both.all[1 - killed].wait(400)  # JAX waits 300 s for a coordinator
        with pair(workdir) as both:
            ends = both.wait()
        assert [code for code, _, _ in ends] == [0, 0], ends
        assert_equal_runs(workdir, tmp_path / "whole")
        tried("SIGKILL of one of two processes")


@pytest.mark.parametrize("number", range(count(FULL_SIGNALS)))
def test_signals_save_and_the_run_goes_on(whole, tmp_path, tried, rng, number):
    name = ("SIGTERM", "SIGINT", "SIGHUP")[number % 3]
    with Training(tmp_path) as training:
        training.until_step(int(rng.integers(1, STEPS // 2)))
        training.process.send_signal(getattr(signal, name))
        code, out, err = training.end()
    assert code == 75, (out, err)
    step = runs.latest_step(tmp_path)
    assert f"stopped at step {step} and saved" in out and max(losses(tmp_path)) == step
    assert train(tmp_path)[0] == 0
    assert_equal_runs(tmp_path, whole[0])
    tried(f"{name} while training")


def test_signal_before_the_first_step_is_no_success(tmp_path, tried):
    with Training(tmp_path / "run") as training:
        time.sleep(1.0)
        training.process.send_signal(signal.SIGTERM)
        assert training.end()[0] != 0
    tried("SIGTERM before the first step")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's loops
def test_flipped_bits_are_noticed(whole, tmp_path, tried, rng):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    checkpoint = folder / runs.CHECKPOINTS / str(STEPS)
    known = runs.open_params(folder).read_all()
    files = sorted(f for f in checkpoint.rglob("*") if f.is_file() and f.stat().st_size)
    sizes = np.array([file.stat().st_size for file in files])
    for index in range(count(FULL_FLIPS)):
        chosen = (
            files[index % len(files)] if index % 2 else rng.choice(files, p=sizes / sizes.sum())
        )
        content = chosen.read_bytes()
        place = int(rng.integers(len(content)))
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        chosen.write_bytes(damaged)
        try:
            weights.verify(folder)
        except InputError as error:
            assert str(checkpoint) in str(error) and "\n" not in str(error)
            tried("flipped bit, named by --verify")
        else:  # a byte that no value depends on
            for name, value in runs.open_params(folder).read_all().items():
                np.testing.assert_array_equal(value, known[name])
            tried("flipped bit without effect, all values compared")
        chosen.write_bytes(content)


def largest(folder):
    return max(folder.rglob("d/*"), key=lambda file: file.stat().st_size)


def zero(file):
    file.write_bytes(bytes(file.stat().st_size))


DAMAGES = {
    "array file cut short": lambda c: os.truncate(largest(c), largest(c).stat().st_size // 2),
    "array file empty": lambda c: os.truncate(largest(c), 0),
    "array file gone": lambda c: largest(c).unlink(),
    "array file of zeros": lambda c: zero(largest(c)),
    "checksums gone": lambda c: shutil.rmtree(c / "sums"),
    "checksums no JSON": lambda c: (c / "sums/metadata").write_text("{"),
    "data position gone": lambda c: shutil.rmtree(c / "data"),
    "data position changed": lambda c: (c / "data/metadata").write_text('{"batch": 1}'),
    "state gone": lambda c: shutil.rmtree(c / "state"),
    "checkpoint empty": lambda c: [shutil.rmtree(p) if p.is_dir() else p.unlink()
                                   for p in c.iterdir()],
}  # fmt: skip


@pytest.mark.parametrize("kind", list(DAMAGES)[: count(len(DAMAGES))])
def test_damaged_newest_checkpoint(whole, tmp_path, tried, kind):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    DAMAGES[kind](folder / runs.CHECKPOINTS / str(STEPS))
    if kind.startswith("data"):  # which parameters do not depend on
        runs.open_params(folder).read_all()
    else:
        with pytest.raises(InputError):
            runs.open_params(folder).read_all()
    code, _, err = train(folder)
    assert code == 0, err
    assert f"it is now {STEPS}.damaged" in err and "Traceback" not in err
    assert_equal_runs(folder, whole[0])
    tried(f"damaged newest checkpoint: {kind}")


@contextlib.contextmanager
def mounted(folder, *options):
    """Mounts a file system in memory; skips the test where the system does not allow it."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def seconds_to_end(training):
    """Returns the outcome of a program, and how long it took to end."""
    begun = time.monotonic()
    return training.end(), time.monotonic() - begun


def test_full_disk(tmp_path, tried):
    with mounted(tmp_path / "disk", "-o", "size=24m") as disk:
        with Training(disk / "run", "--config.steps=100000") as training:
            training.until_step(15)
            kept = runs.steps(disk / "run")
            with contextlib.suppress(OSError), (disk / "rest").open("wb") as file:
                while True:
                    file.write(bytes(4096))
            outcome, seconds = seconds_to_end(training)
        assert "No space left on device" in error_of(outcome) and seconds < 60
        (disk / "rest").unlink()
        assert kept and set(kept) & set(runs.steps(disk / "run"))
        weights.verify(disk / "run")
        assert train(disk / "run", "--config.steps=200")[0] == 0
    tried("full disk while training")


def test_read_only_and_tiny_destinations_are_refused_first(tmp_path, tried):
    for name, options in {"read-only": "ro", "full from the start": "size=64k"}.items():
        with mounted(tmp_path / name, "-o", options) as disk:
            line = error_of(train(disk / "run"))
            assert "workdir" in line and "must be writable" in line
            assert list(disk.iterdir()) == []
        tried(f"{name} destination")
    line = error_of(train("/proc/mimir_jax/run"))
    assert "must be writable" in line
    tried("destination without permission")


def test_files_that_may_not_grow(tmp_path, tried):
    with Training(tmp_path / "run", "--config.steps=100000") as training:
        training.until_step(15)
        resource.prlimit(training.process.pid, resource.RLIMIT_FSIZE, (10_000, 10_000))
        line = error_of(training.end())
    weights.verify(tmp_path / "run")
    assert "must be writable: File too large" in line
    tried("save refused by a file size limit")


def test_vanished_folder(tmp_path, tried):
    with Training(tmp_path / "run", "--config.steps=100000") as training:
        training.until_step(15)
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        outcome, _ = seconds_to_end(training)
    assert "must be writable" in error_of(outcome)
    weights.verify(tmp_path / "elsewhere")
    tried("work directory moved away while training")


def test_two_runs_in_one_folder(tmp_path, tried):
    with Training(tmp_path / "run", "--config.steps=100000") as first:
        first.until_step(1)
        line = error_of(train(tmp_path / "run", "--config.steps=100000"))
        assert f"one writer, process {first.process.pid} on" in line
        first.process.kill()
        first.process.wait()
    with Training(tmp_path / "run", "--config.steps=100000") as second:
        step = max(losses(tmp_path / "run"))
        second.until_step(step + 5)
        assert second.process.poll() is None
    tried("second run in one folder, and one after a kill")
