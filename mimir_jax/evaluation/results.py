# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A folder of results: settings first, then what was measured, so that a stopped run goes on."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mimir_jax import files
from mimir_jax.errors import InputError

SETTINGS = "settings.json"
RESULTS = "results.json"


def claim(folder: pathlib.Path, settings: Mapping[str, Any]) -> bool:
    """Creates `folder` for results under `settings`, or goes on in one that was made for the same.

    Returns:
        Whether it held these settings already.

    Raises:
        ValueError: if it holds anything else, or cannot be written.
    """
    settings = json.loads(json.dumps(settings))
    path = folder / SETTINGS
    try:
        held = path.is_file()
        if held:
            _require_same(folder, read_json(path), settings)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"--out {folder} must be a new or empty folder; choose another")
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(path, settings)  # also where it is there: what cannot be written shows now
    except OSError as error:
        raise InputError(
            f"--out {folder} must be writable: {error.strerror or error}; choose another"
        ) from None
    return held


def _require_same(folder: pathlib.Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    names = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
    if names:
        was = _short(old.get(names[0]))
        again = f"give --batch_size {was}, " if names == ["batch_size"] else ""
        raise InputError(
            f"--out {folder} holds results of another evaluation: {names[0]} is {was} there and "
            f"{_short(new.get(names[0]))} here; {again}choose another --out or delete that one"
        )


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ValueError: if it cannot be read, or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120]
        raise InputError(f"result file {path} must hold a JSON object: {reason}") from None
    return content


def find_results(place: pathlib.Path, suite: str) -> tuple[pathlib.Path, dict[str, Any]]:
    """Finds the results of `suite` in a folder of results, or the newest in the run they are of.

    Returns:
        Their folder and what results.json holds.

    Raises:
        ValueError: if there are none, or of another suite.
    """
    for folder in (place, *_in_run(place, suite)):
        if (folder / RESULTS).is_file():
            results = read_json(folder / RESULTS)
            if results.get("suite") != suite:
                raise InputError(
                    f"results in {folder} must be of the suite {suite}, got "
                    f"{_short(results.get('suite'))}; choose another folder"
                )
            return folder, results
    raise InputError(
        f"--compare {place} must hold results of the suite {suite}, found none; make them with "
        f"launch/evaluate.py --suite {suite} --checkpoint {place}"
    )


def default(run: pathlib.Path, suite: str, step: int | None, *, start: bool) -> pathlib.Path:
    """Returns the folder for results of a run: one a step, or of a pipeline, which has none."""
    suffix = "-start" if start else "" if step is None else f"-{step}"
    return run / "evaluation" / f"{suite}{suffix}"


def _in_run(run: pathlib.Path, suite: str) -> list[pathlib.Path]:
    """Lists the default folders of `suite`, the latest step first."""
    found = (run / "evaluation").glob(f"{suite}-*")
    steps = [int(step) for path in found if (step := path.name.rpartition("-")[2]).isdigit()]
    return [default(run, suite, step, start=False) for step in [*sorted(steps)[::-1], None]]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
