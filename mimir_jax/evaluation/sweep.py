# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Sweeps: variants (cells) of one config, each with several seeds, trained and judged alike.

    OUT/settings.json          config and cells; another config is refused, more cells are added
    OUT/claims                 runs that processes are working on
    OUT/features/HASH          precomputed features, shared by all runs with equal encoders
    OUT/start                  judged clips of the initial parameters
    OUT/runs/CELL-SEED         a work directory, with its clips in `judge`
    OUT/clips.csv, table.csv   all scores; shares by cell, wording or condition, and category
    OUT/report.md, *.png       tables, predictions, plots and a contact sheet

The same command resumes, and several commands share the runs. A run whose scores are in `clips.csv`
needs no work directory, so a folder of `settings.json` and `clips.csv` alone can be continued
elsewhere with more seeds or cells.
"""

import contextlib
import csv
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mimir_jax
from mimir_jax import evaluation, files, hashing
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.data.toyworld import sampling
from mimir_jax.errors import InputError
from mimir_jax.evaluation import before_after, results
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation import judging as judging_lib
from mimir_jax.preparation import claims as claims_lib
from mimir_jax.preparation import precompute
from mimir_jax.systems.ablations import START
from mimir_jax.training import loop
from mimir_jax.weights import runs

LOOK_SECONDS = 10.0
"""Time after which a process looks again for runs that others have left."""

CLIPS = "clips.csv"
"""Every verdict: cell, seed, scene, wording or condition, and 1 or 0 for each category."""

_CELL = "cell "
_WAIT_SECONDS = 0.1  # for another process that writes the settings
_MARKS = {"0": False, "1": True}

Say = Callable[[str], None]

Clips = dict[int, list[clips_lib.JudgedClip]]
"""Judged clips of a cell by seed."""


def apply(config: TrainConfig, overrides: Mapping[str, Any]) -> TrainConfig:
    """Returns `config` with the values of dotted fields.

    Raises:
        InputError: for a value that does not fit.
    """
    values = json.loads(bridge.to_json(config))
    for name, value in overrides.items():
        *parents, last = name.split(".")
        node = values
        for parent in parents:
            node = node[parent]
        node[last] = value
    return bridge.from_values(TrainConfig, values)


def run_sweep(
    config: TrainConfig,
    cells: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    out: pathlib.Path,
    say: Say = print,
    *,
    demos: Sequence[str] = (),
) -> None:
    """Trains and judges every cell with every seed; runs only what `out` lacks.

    Several processes can share the work, also on machines that share only `out`; each returns when
    all runs are done. The initial parameters of the first cell are judged as the start.

    Args:
        config: What all runs share; `judge.scenes` held-out scenes are judged in every wording or
            condition.
        cells: Name to dotted overrides.
        seeds: Seeds of data order, noise and new parameters.
        out: Folder of the sweep.
        say: Told what happens.
        demos: As in `Ablation`.

    Raises:
        InputError: if `out` holds a sweep of another config or a cell of that name with other
            overrides, or a cell cannot run or be judged; nothing is overwritten.
    """
    left = {
        (name, seed): apply(config, {**overrides, "seed": seed})
        for seed in seeds
        for name, overrides in cells.items()
    }
    judging = judging_lib.make_judging(demos)
    claims = _claim_folder(out, _settings(config, demos), cells)
    sweep = _Sweep(config, next(iter(cells)), len(left), out, judging, claims, say)
    while left:
        waiting = {run: variant for run, variant in left.items() if not sweep.finish(*run, variant)}
        if len(waiting) == len(left):
            time.sleep(LOOK_SECONDS)
        left = waiting


class _Sweep:
    """The runs of a sweep, as one of several processes sees them.

    Args:
        config: What all runs share.
        first: The cell whose initial parameters are the start.
        total: Number of runs.
        out: Folder of the sweep.
        judging: Videos to judge, and how.
        claims: What processes work on.
        say: Told what happens.
    """

    def __init__(
        self,
        config: TrainConfig,
        first: str,
        total: int,
        out: pathlib.Path,
        judging: judging_lib.Judging,
        claims: claims_lib.Claims,
        say: Say,
    ):
        self._config, self._first, self._total, self._out = config, first, total, out
        self._judging, self._claims, self._say = judging, claims, say
        self._count = len(judging.plan(config))
        self._known = _read_csv(out, judging.kind)
        self._finished = 0

    def finish(self, name: str, seed: int, variant: TrainConfig) -> bool:
        """Trains and judges a run, and the start with it, where that is not done.

        Returns:
            Whether all of it is done; not, where another process works on it.
        """
        workdir = _workdir(self._out, name, seed)
        needs_run = not self._is_judged(name, seed, workdir)
        needs_start = name == self._first and not self._start_is_judged()
        if needs_run or needs_start:
            start = self._claims.claim(START) if needs_start else contextlib.nullcontext()
            with self._claims.claim(workdir.name) as claimed, start as start_claimed:
                if claimed is None or (start_claimed is None and not needs_run):
                    return False
                before_after.check_config(variant)
                self._say(f"{self._finished + 1}/{self._total}: {name}, seed {seed}")
                features = self._out / "features"
                variant = with_features(variant, self._config, features, self._say)
                folder = None if start_claimed is None else self._out / START
                train_and_judge(variant, workdir, folder, self._judging, self._say)
            if needs_start and start_claimed is None:
                return False  # until the other process has judged it
        self._finished += 1
        return True

    def _is_judged(self, name: str, seed: int, workdir: pathlib.Path) -> bool:
        folder = judged_folder(workdir, self._config)
        return seed in self._known.get(name, ()) or _complete(folder, self._count)

    def _start_is_judged(self) -> bool:
        return START in self._known or _complete(self._out / START, self._count)


def train_and_judge(
    variant: TrainConfig,
    workdir: pathlib.Path,
    start: pathlib.Path | None,
    judging: judging_lib.Judging,
    say: Say,
) -> None:
    """Trains and judges a run, and what it starts from.

    Args:
        variant: The run.
        workdir: Its work directory.
        start: Folder for the clips of the initial parameters; None leaves these out.
        judging: Videos to judge, and how.
        say: Told the held-out losses.

    Raises:
        KeyboardInterrupt: if training was asked to stop.
    """
    if not runs.has_checkpoint(workdir) or runs.latest_step(workdir) < variant.steps:
        result = loop.train(variant, workdir)
        if result.interrupted:
            raise KeyboardInterrupt
        say(f"held-out loss {result.before['loss']:.4f} -> {result.after['loss']:.4f}")
    samples = judging.plan(variant)
    sides = before_after.open_sides(workdir)
    for side, folder in zip(sides, (start, judged_folder(workdir, variant)), strict=True):
        if folder is not None:
            before_after.judge_side(
                samples,
                side,
                folder,
                batch_size=variant.judge.batch_size,
                progress=lambda done, total: None,
                judge=judging.judge,
            )


def _workdir(out: pathlib.Path, name: str, seed: int) -> pathlib.Path:
    return out / "runs" / f"{name}-{seed}"


def judged_folder(workdir: pathlib.Path, config: TrainConfig) -> pathlib.Path:
    """Returns the folder of the judged clips of a run that has taken all steps of `config`."""
    return workdir / before_after.FOLDER / str(config.steps)


def _settings(config: TrainConfig, demos: Sequence[str]) -> dict[str, Any]:
    """Returns what a sweep depends on, flat, so that a message can name what differs."""
    flat: dict[str, Any] = {
        "suite": "sweep",
        "version": mimir_jax.__version__,
        "world": sampling.VERSION,
        "steps": config.steps,
        **({"demos": list(demos)} if demos else {}),
    }

    def walk(values: Any, prefix: str) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")
            elif prefix + name != "seed":
                flat[f"config.{prefix}{name}"] = value

    walk(json.loads(bridge.to_json(config)), "")
    return flat


def _claim_folder(
    out: pathlib.Path, settings: dict[str, Any], cells: Mapping[str, Mapping[str, Any]]
) -> claims_lib.Claims:
    """Creates the folder, or adds cells to one of the same config; returns its claims."""
    if not (out / results.SETTINGS).is_file():
        results.require_new(out)
    with files.writing(out, "--out"):
        (out / results.CLAIMS).mkdir(parents=True, exist_ok=True)
    claims = claims_lib.Claims(out / results.CLAIMS)
    while True:
        with claims.claim(results.SETTINGS) as claimed:
            if claimed is not None:
                _write_settings(out, settings, cells)
                return claims
        time.sleep(_WAIT_SECONDS)


def _write_settings(
    out: pathlib.Path, settings: dict[str, Any], cells: Mapping[str, Mapping[str, Any]]
) -> None:
    ours = {f"{_CELL}{name}": dict(overrides) for name, overrides in cells.items()}
    path = out / results.SETTINGS
    known = {}
    if path.is_file():
        found = files.read_json(path, "settings of a sweep")
        known = {name: value for name, value in found.items() if name.startswith(_CELL)}
    results.claim_results(out, settings | {k: ours.get(k, v) for k, v in known.items()})
    with files.writing(out, "--out"):
        if ours.keys() - known.keys():
            files.write_json(path, settings | known | ours)


def with_features(
    variant: TrainConfig, config: TrainConfig, folder: pathlib.Path, say: Say
) -> TrainConfig:
    """Returns the run on precomputed features, which runs with the same encoders share.

    Args:
        variant: The run.
        config: What all runs of the sweep share.
        folder: Holds the features of the sweep.
        say: Told what is written.
    """
    system = variant.system.features_beside(config.system)
    whole = dataclasses.replace(variant, system=system)
    read = [variant.system.feature_settings, dataclasses.asdict(whole.data), variant.seed]
    key = hashing.content_key(json.dumps(read)).hex()[:12]
    path = folder / key
    made = precompute.write_features(whole, path)
    if made.made:
        say(f"features of {made.manifest.records} clips: {path}")
    return dataclasses.replace(variant, data=dataclasses.replace(variant.data, features=str(path)))


def _complete(folder: pathlib.Path, count: int) -> bool:
    path = folder / clips_lib.CLIPS
    return path.is_file() and len(clips_lib.read_clips(folder)) == count


def read_judged(
    out: pathlib.Path, settings: Mapping[str, Any], order: Sequence[str], kind: str
) -> dict[str, Clips]:
    """Returns judged clips by cell, the start first, from work directories and `clips.csv`."""
    judged = _read_csv(out, kind)
    if (out / START / clips_lib.CLIPS).is_file():
        judged[START] = {0: clips_lib.read_clips(out / START)}
    count = len(judged.get(START, {}).get(0, []))
    for workdir in sorted((out / "runs").glob("*-*")):
        name, _, seed = workdir.name.rpartition("-")
        folder = workdir / before_after.FOLDER / str(settings["steps"])
        if _complete(folder, count):
            judged.setdefault(name, {})[int(seed)] = clips_lib.read_clips(folder)
    if START not in judged or len(judged) < 2:
        raise InputError(f"sweep {out} must hold a judged run, found none; run it first")
    place = {name: number for number, name in enumerate((START, *order))}
    names = sorted(judged, key=lambda name: place.get(name, len(place)))
    return {name: dict(sorted(judged[name].items())) for name in names}


def _read_csv(out: pathlib.Path, kind: str) -> dict[str, Clips]:
    """Returns the judged clips of `clips.csv`, without names and prompts; none without the file.

    Args:
        out: Folder of the sweep.
        kind: Column of the style of a clip.
    """
    judged: dict[str, Clips] = {}
    path = out / CLIPS
    if not path.is_file():
        return judged
    text = files.read_text(path, "verdicts of a sweep")
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        try:
            marks = {name: row[name] for name in evaluation.CATEGORIES}
            cell, seed, scene = row["cell"], int(row["seed"]), int(row["scene"])
            style = row[kind]
            scores = {k: {"passed": _MARKS[x]} for k, x in marks.items() if x != ""}
        except (KeyError, ValueError, TypeError):
            raise InputError(
                f"{path} line {number} must hold cell, seed, scene, {kind} and 0 or 1 for each "
                "category; restore the file, or delete it to judge again"
            ) from None
        clip = {"index": scene, "style": style, "scores": scores}
        judged.setdefault(cell, {}).setdefault(seed, []).append(clip)
    return judged
