# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A table of runs: variants of one config, each with several seeds, trained and judged alike.

    OUT/settings.json          config and cells; another config is refused, more cells are added
    OUT/claims                 runs that processes work on now
    OUT/features/HASH          frozen features, shared by all runs that read the same
    OUT/start                  clips of what every run starts from, judged
    OUT/runs/CELL-SEED         a work directory, with its clips in `judge`
    OUT/clips.csv, table.csv   every verdict; shares by cell, wording and category
    OUT/report.md, *.png       tables, predictions, plots and a sheet

Every part is made once: the same command goes on after a stop, several share the runs, and a run
whose verdicts `clips.csv` holds needs no work directory. So a folder of `settings.json` and
`clips.csv` alone goes on with more seeds or cells, elsewhere.
"""

import csv
import dataclasses
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

import mimir_jax
from mimir_jax import evaluation, files, hashing, tables
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.data.toyworld import sampling
from mimir_jax.data.toyworld.language import WORDINGS
from mimir_jax.errors import InputError
from mimir_jax.evaluation import before_after, confidence, plots, results
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.preparation import claims as claims_lib
from mimir_jax.preparation import precompute
from mimir_jax.sampling import video as video_lib
from mimir_jax.systems.ablations import START, Ablation, Prediction
from mimir_jax.training import loop
from mimir_jax.weights import runs

CATEGORIES = ("object_class", "colour", "size", "count", "layout", "action")
"""Categories that the mean of a clip is over: what a prompt asks for, not how the picture looks."""

LOOK_SECONDS = 10.0
"""Time after which a process looks again for runs that others have left."""

_CELL = "cell "
_CLIPS = "clips.csv"
_MARKS = {"0": False, "1": True}

Say = Callable[[str], None]

Clips = dict[int, list[clips_lib.JudgedClip]]
"""Judged clips of a cell by seed."""

Shares = dict[str, tuple[float, float, float]]
"""Share that passes and its interval, in percent, by category."""


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
) -> None:
    """Trains and judges every cell with every seed; makes only what `out` lacks.

    Several processes may do so at once, also on machines that share `out` alone; each returns when
    all is done. The start is that of the first cell.

    Args:
        config: What all runs share; `judge.scenes` held-out scenes are judged in every wording.
        cells: Name to dotted overrides.
        seeds: Seeds of data order, noise and new parameters.
        out: Folder of the sweep.
        say: Told what happens.

    Raises:
        InputError: if `out` holds a sweep of another config or a cell of that name with other
            overrides, or a cell cannot run; nothing is overwritten.
    """
    left = {
        (name, seed): apply(config, {**overrides, "seed": seed})
        for seed in seeds
        for name, overrides in cells.items()
    }
    first, total = next(iter(cells)), len(left)
    count = len(before_after.plan(config.judge, config.data.toyworld.variety))
    _claim_folder(out, config, cells)
    claims = claims_lib.Claims(out / "claims")
    known = _read_csv(out)
    while left:
        before = len(left)
        for (name, seed), variant in list(left.items()):
            workdir = _workdir(out, name, seed)
            has_start = START in known or _complete(out / START, count)
            is_judged = seed in known.get(name, ()) or _complete(_judged(workdir, config), count)
            if not is_judged or (name == first and not has_start):
                with claims.claim(workdir.name) as claimed:
                    if claimed is None:  # another process works on it
                        continue
                    say(f"{total - len(left) + 1}/{total}: {name}, seed {seed}")
                    variant = _with_features(variant, config, out / "features", say)
                    _run(variant, workdir, None if name != first or has_start else out / START, say)
            del left[name, seed]
        if len(left) == before:
            time.sleep(LOOK_SECONDS)


def _run(variant: TrainConfig, workdir: pathlib.Path, start: pathlib.Path | None, say: Say) -> None:
    """Trains and judges a run, and what it starts from where a folder for its clips is given."""
    if not runs.has_checkpoint(workdir) or runs.latest_step(workdir) < variant.steps:
        result = loop.train(variant, workdir)
        if result.interrupted:
            raise KeyboardInterrupt
        say(f"held-out loss {result.before['loss']:.4f} -> {result.after['loss']:.4f}")
    samples = before_after.plan(variant.judge, variant.data.toyworld.variety)
    sides = before_after.open_sides(workdir)
    for side, folder in zip(sides, (start, _judged(workdir, variant)), strict=True):
        if folder is not None:
            before_after.judge_side(
                samples,
                side,
                folder,
                batch_size=variant.judge.batch_size,
                progress=lambda done, total: None,
            )


def _workdir(out: pathlib.Path, name: str, seed: int) -> pathlib.Path:
    return out / "runs" / f"{name}-{seed}"


def _judged(workdir: pathlib.Path, config: TrainConfig) -> pathlib.Path:
    return workdir / before_after.FOLDER / str(config.steps)


def write_report(out: pathlib.Path, ablation: Ablation) -> str:
    """Writes tables, plots and the verdict on each prediction from what is judged so far.

    Args:
        out: Folder of the sweep.
        ablation: Its predictions, and what is published.

    Returns:
        The report in Markdown.

    Raises:
        InputError: if no run is judged.
    """
    settings = files.read_json(out / results.SETTINGS, "settings of a sweep")
    judged = _read_judged(out, settings, list(ablation.cells))
    tables_of = {
        wording: {name: _shares(clips, wording) for name, clips in judged.items()}
        for wording in WORDINGS
    }
    _write_csv(out, judged, tables_of)
    parts = [_head(settings, judged)]
    for wording, shares in tables_of.items():
        parts.append(f"## {wording.capitalize()} wording\n\n{_format_shares(shares)}")
        plots.plot_bars(
            out / f"{wording}.png",
            {
                name: {k: tuple(v / 100 for v in cell) for k, cell in row.items()}
                for name, row in shares.items()
            },
            label=f"clips that pass, %, {wording} wording",
        )
    if ablation.predictions:
        parts.append(_format_predictions(ablation.predictions, judged))
    if ablation.published:
        rows = [["row", *ablation.columns]]
        rows += [[n, *(f"{x:g}" for x in row)] for n, row in ablation.published.items()]
        parts.append(f"## Published, {ablation.measured}\n\n{tables.markdown(rows)}")
    _draw_sheets(out, settings["steps"], list(judged))
    text = "\n\n".join(parts) + "\n"
    files.write_text(out / "report.md", text)
    return text


def mean_passed(
    clips: Clips, wording: str, categories: Sequence[str] = CATEGORIES
) -> Float[np.ndarray, "seeds scenes"]:
    """Returns the share of `categories` that each clip of a wording passes; NaN without any."""
    names = sorted({clip["index"] for run in clips.values() for clip in run})
    values = np.full((len(clips), len(names)), np.nan)
    for row, run in enumerate(clips.values()):
        for clip in run:
            scores = [clip["scores"][k]["passed"] for k in categories if k in clip["scores"]]
            if clip["style"] == wording and scores:
                values[row, names.index(clip["index"])] = np.mean(scores)
    return values


def check_prediction(
    prediction: Prediction, judged: Mapping[str, Clips], wording: str
) -> list[str]:
    """Returns difference, interval and verdict of a prediction as cells of a table.

    Cells are compared by the seeds that both have; the start has no seed and stands for each.
    """
    names = (prediction.cell, prediction.other)
    seeds = [set(judged.get(name, ())) for name in names if name != START]
    shared = sorted(set.intersection(*seeds))
    if not shared or not all(name in judged for name in names):
        return ["-", "-", "not run"]
    ours, other = (
        mean_passed(
            judged[name] if name == START else {seed: judged[name][seed] for seed in shared},
            wording,
        )
        for name in names
    )
    difference = 100 * (ours - other)
    middle = float(np.nanmean(difference))
    low, high = confidence.nested_bootstrap_interval(difference)
    if prediction.margin is None:
        verdict = "confirmed" if low > 0 else "refuted" if high < 0 else "undecided"
    else:
        inside = -prediction.margin <= low and high <= prediction.margin
        outside = low > prediction.margin or high < -prediction.margin
        verdict = "confirmed" if inside else "refuted" if outside else "undecided"
    return [f"{middle:+.1f}", f"{low:+.1f} to {high:+.1f}", verdict]


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Returns what a sweep depends on, flat, so that a message can name what differs."""
    flat: dict[str, Any] = {
        "suite": "sweep",
        "version": mimir_jax.__version__,
        "world": sampling.VERSION,
        "steps": config.steps,
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
    out: pathlib.Path, config: TrainConfig, cells: Mapping[str, Mapping[str, Any]]
) -> None:
    """Creates the folder, or adds cells to one of the same config."""
    settings = _settings(config)
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
        (out / "claims").mkdir(exist_ok=True)


def _with_features(
    variant: TrainConfig, config: TrainConfig, folder: pathlib.Path, say: Say
) -> TrainConfig:
    """Returns the run on prepared features, which runs with the same encoders share."""
    whole = variant
    if (text := getattr(variant.system, "text", None)) is not None:
        if len(text.instructions) == len(config.system.text.instructions):  # rows read parts of it
            system = dataclasses.replace(config.system, text=text)
            whole = dataclasses.replace(config, system=system, seed=variant.seed)
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


def _read_judged(
    out: pathlib.Path, settings: Mapping[str, Any], order: Sequence[str]
) -> dict[str, Clips]:
    """Returns judged clips by cell, the start first, from work directories and `clips.csv`."""
    judged = _read_csv(out)
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


def _read_csv(out: pathlib.Path) -> dict[str, Clips]:
    """Returns the judged clips of `clips.csv`, without names and prompts; none without the file."""
    judged: dict[str, Clips] = {}
    path = out / _CLIPS
    if not path.is_file():
        return judged
    text = files.read_text(path, "verdicts of a sweep")
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        try:
            marks = {name: row[name] for name in evaluation.CATEGORIES}
            cell, seed, scene = row["cell"], int(row["seed"]), int(row["scene"])
            scores = {k: {"passed": _MARKS[x]} for k, x in marks.items() if x != ""}
        except (KeyError, ValueError, TypeError):
            raise InputError(
                f"{path} line {number} must hold cell, seed, scene, wording and 0 or 1 for each "
                "category; restore the file, or delete it to judge again"
            ) from None
        clip = {"index": scene, "style": row["wording"], "scores": scores}
        judged.setdefault(cell, {}).setdefault(seed, []).append(clip)
    return judged


def _shares(clips: Clips, wording: str) -> Shares:
    """Returns share and interval in percent by category, and of the mean over them."""
    row = {}
    for name, categories in {
        "mean": CATEGORIES,
        **{k: (k,) for k in evaluation.CATEGORIES},
    }.items():
        values = mean_passed(clips, wording, categories)
        if not np.isnan(values).all():
            values = values[:, ~np.isnan(values).all(0)]
            low, high = confidence.nested_bootstrap_interval(values)
            row[name] = (100 * float(np.nanmean(values)), 100 * low, 100 * high)
    return row


def _format_shares(shares: Mapping[str, Shares]) -> str:
    columns = ["mean", *CATEGORIES, "action_order"]
    rows = [["cell", *columns]]
    for name, row in shares.items():
        cells = [
            f"{row[k][0]:.0f} ({row[k][1]:.0f} to {row[k][2]:.0f})" if k in row else "-"
            for k in columns
        ]
        rows.append([name, *cells])
    return tables.markdown(rows)


def _format_predictions(predictions: Sequence[Prediction], judged: Mapping[str, Clips]) -> str:
    rows = [["prediction", "wording", "difference", "95 % interval", "verdict"]]
    for prediction in predictions:
        for wording in WORDINGS:
            rows.append([prediction.text, wording, *check_prediction(prediction, judged, wording)])
    return (
        "## Predictions, stated before the runs\n\nDifferences in percentage points of the mean; "
        f"seeds and scenes are resampled.\n\n{tables.markdown(rows)}"
    )


def _head(settings: Mapping[str, Any], judged: Mapping[str, Clips]) -> str:
    scenes = len({clip["index"] for clip in judged[START][0]})
    seeds = {name: len(clips) for name, clips in judged.items() if name != START}
    return (
        f"# Sweep of {settings['steps']} steps\n\n{scenes} held-out scenes in each wording, "
        "the same noise for all. Shares that pass in percent, with 95 % intervals under "
        f"resampling of seeds and scenes; `mean` is over {', '.join(CATEGORIES)}. Seeds of a cell: "
        + ", ".join(f"{name} {count}" for name, count in seeds.items())
        + "."
    )


def _write_csv(
    out: pathlib.Path, judged: Mapping[str, Clips], shares: Mapping[str, Mapping[str, Shares]]
) -> None:
    with files.atomic_file(out / _CLIPS) as path, path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["cell", "seed", "scene", "wording", *evaluation.CATEGORIES])
        for name, clips in judged.items():
            for seed, clip in ((s, x) for s, run in clips.items() for x in run):
                scores = [clip["scores"].get(k) for k in evaluation.CATEGORIES]
                marks = ["" if score is None else int(score["passed"]) for score in scores]
                writer.writerow([name, seed, clip["index"], clip["style"], *marks])
    with files.atomic_file(out / "table.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["cell", "wording", "category", "passed", "low", "high", "seeds"])
        for (name, clips), wording in itertools.product(judged.items(), WORDINGS):
            for category, cell in shares[wording][name].items():
                numbers = [f"{x:.2f}" for x in cell]
                writer.writerow([name, wording, category, *numbers, len(clips)])


def _draw_sheets(out: pathlib.Path, steps: int, order: Sequence[str]) -> None:
    """Draws one prompt of each wording across the cells whose clips are here."""
    folders = {START: out / START}
    for workdir in sorted((out / "runs").glob("*-*")):
        folders.setdefault(
            workdir.name.rpartition("-")[0], workdir / before_after.FOLDER / str(steps)
        )
    folders = {k: folders[k] for k in order if (folders.get(k, out) / clips_lib.CLIPS).is_file()}
    if START not in folders:
        return
    clips = clips_lib.read_clips(folders[START])
    for wording in WORDINGS:
        clip = next(x for x in clips if x["style"] == wording)
        videos = [before_after.read_video(folder, clip["name"]) for folder in folders.values()]
        texts = [f"{name}: {clip['prompt']}" for name in folders]
        strips = [video_lib.strip(video) for video in videos]
        video_lib.contact_sheet(strips, texts).save(out / f"sheet-{wording}.png")
