# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders of results: settings are written first, so that a stopped evaluation can continue."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from mimir_jax import files
from mimir_jax.errors import InputError
from mimir_jax.parallel import distributed

SETTINGS = "settings.json"
RESULTS = "results.json"
CLAIMS = "claims"
"""Folder of `preparation.claims`, made first where several processes share a folder of results."""


@dataclasses.dataclass(frozen=True)
class Report:
    """The outcome of a suite for people.

    Attributes:
        text: Tables and counts.
        folder: Folder of results; None if nothing was written.
        names: Files and folders in it, the most useful first.
    """

    text: str
    folder: pathlib.Path | None = None
    names: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[pathlib.Path, ...]:
        """Paths of `names`."""
        return tuple(self.folder / name for name in self.names) if self.folder else ()


@contextlib.contextmanager
def open_results(folder: pathlib.Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Claims a folder of results; removes a new one if the body fails before it writes anything.

    Of several processes, process 0 claims the folder; all must call this.

    Raises:
        InputError: see `claim_results`.
    """
    existed = distributed.from_first(lambda: claim_results(folder, settings))
    try:
        yield
    except BaseException:
        written = [p for p in folder.rglob("*") if p.is_file() and p.name != SETTINGS]
        if not existed and not written and distributed.is_first():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def claim_results(folder: pathlib.Path, settings: Mapping[str, Any]) -> bool:
    """Creates a folder for results under `settings`, or continues in one with the same settings.

    Returns:
        Whether the folder held these settings already.

    Raises:
        InputError: if it holds anything else, or cannot be written.
    """
    settings = json.loads(json.dumps(settings))
    path = folder / SETTINGS
    with files.writing(folder, "--out"):
        existed = path.is_file()
        if existed:
            _require_same(folder, files.read_json(path, "settings file"), settings)
        else:
            require_new(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(path, settings)  # also an existing one: a read-only folder fails early
    return existed


def require_new(folder: pathlib.Path) -> None:
    """Raises `InputError` for a folder that holds anything and that no process has begun."""
    holds = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if holds and not (folder / CLAIMS).is_dir():
        raise InputError(f"--out {folder} must be a new or empty folder; choose another")


def recover_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the JSON lines of a stopped evaluation and removes an incomplete last one."""
    if not path.exists():
        return []
    complete = files.read_text(path, "file of results").rpartition("\n")[0]
    files.write_text(path, complete and complete + "\n")
    return [json.loads(line) for line in complete.splitlines()]


def append_line(path: pathlib.Path, line: Mapping[str, Any]) -> None:
    """Appends a JSON line."""
    with files.writing(path, "file of results"), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def find_results(path: pathlib.Path, suite: str) -> tuple[pathlib.Path, dict[str, Any]]:
    """Finds results of `suite`: those in the folder `path`, or the newest of the run `path`.

    Returns:
        Their folder and the content of `results.json`.

    Raises:
        InputError: if there are none, or they are of another suite.
    """
    for folder in (path, *_default_folders(path, suite)):
        if (folder / RESULTS).is_file():
            results = files.read_json(folder / RESULTS, "result file")
            if results.get("suite") != suite:
                raise InputError(
                    f"results in {folder} must be of the suite {suite}, got "
                    f"{_short(results.get('suite'))}; choose another folder"
                )
            return folder, results
    raise InputError(
        f"{path} must hold results of the suite {suite}, found none; make them with "
        f"launch/evaluate.py {suite} --checkpoint {path}"
    )


def default_folder(run: pathlib.Path, suite: str, step: int | None, *, start: bool) -> pathlib.Path:
    """Returns the default folder for results of a run at a step, or of a pipeline without steps."""
    suffix = "-start" if start else "" if step is None else f"-{step}"
    return run / "evaluation" / f"{suite}{suffix}"


def _default_folders(run: pathlib.Path, suite: str) -> list[pathlib.Path]:
    """Returns the default folders of `suite`, the latest step first."""
    suffixes = [p.name.rpartition("-")[2] for p in (run / "evaluation").glob(f"{suite}-*")]
    steps = sorted((int(suffix) for suffix in suffixes if suffix.isdigit()), reverse=True)
    return [default_folder(run, suite, step, start=False) for step in [*steps, None]]


def _require_same(folder: pathlib.Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    names = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
    if names:
        was = _short(old.get(names[0]))
        again = f"give --batch_size {was}, " if names == ["batch_size"] else ""
        raise InputError(
            f"--out {folder} holds results of another evaluation: {names[0]} is {was} there and "
            f"{_short(new.get(names[0]))} here; {again}choose another --out or delete that one"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
