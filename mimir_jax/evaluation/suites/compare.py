# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The results of several runs side by side."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mimir_jax import evaluation, files, tables
from mimir_jax.errors import InputError
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation import confidence, plots, results
from mimir_jax.evaluation.config import CompareConfig
from mimir_jax.evaluation.suites import loss


def evaluate(config: CompareConfig, paths: Sequence[str]) -> results.Report:
    """Compares results; for Toyworld the changes from the first run have confidence intervals.

    Args:
        config: Settings.
        paths: Runs, each standing for its newest results, or folders of results.

    Raises:
        InputError: for fewer than two paths, one without results, or one given twice.
    """
    runs = _find_all(config.suite, paths)
    if config.suite == "loss":
        losses = {name: loss.read_losses(content, folder) for name, folder, content in runs}
        result, shares = {"heldout": losses}, {}
        text = loss.format_table(losses)
    else:
        result = compare_clips({name: clips_lib.read_clips(folder) for name, folder, _ in runs})
        shares = pass_shares(result)
        head = f"{result['clips']} clips in common; in brackets the change from the first, 95 %"
        text = f"{head}\n{format_table(result)}"
    if config.out is None:
        return results.Report(text)
    folder = files.expand_path(config.out)
    settings = {"suite": "compare", "of": config.suite, "runs": list(paths)}
    names = (results.RESULTS, "results.png") if shares else (results.RESULTS,)
    with results.open_results(folder, settings):
        files.write_json(folder / results.RESULTS, {**settings, **result})
        if shares:
            plots.plot_bars(folder / "results.png", shares, label="clips that pass, %")
    return results.Report(text, folder, names)


def compare_clips(runs: Mapping[str, Sequence[clips_lib.JudgedClip]]) -> dict[str, Any]:
    """Compares runs on the clips that all of them have: same scene, style and seed.

    Args:
        runs: Judged clips by run; the first is the reference.

    Returns:
        `clips`, the number they share, and `categories`: for each the share that passes by run,
        and the difference from the first with its 95 % bootstrap interval over scenes. A clip
        counts in a category if all runs have it judged there.

    Raises:
        InputError: if they share none.
    """
    clips = {run: {clip["name"]: clip for clip in judged} for run, judged in runs.items()}
    first, *others = clips
    shared = [
        name
        for name, clip in clips[first].items()
        if all(name in clips[o] and clips[o][name]["prompt"] == clip["prompt"] for o in others)
    ]
    result: dict[str, Any] = {"clips": len(shared), "categories": {}}
    for category in evaluation.CATEGORIES:
        names = [n for n in shared if all(category in c[n]["scores"] for c in clips.values())]
        if names:
            result["categories"][category] = _compare_category(clips, names, category)
    if not result["categories"]:
        raise InputError(
            f"compare needs clips of the same prompts and seeds, {' and '.join(clips)} share "
            "none; evaluate them with the same --split, --variety, --scenes, --styles and --seeds"
        )
    return result


def format_table(result: Mapping[str, Any]) -> str:
    """Formats a comparison of clips: one row per category, one column per run."""
    runs = list(next(iter(result["categories"].values()))["passed"])
    rows = [["passed, %", "scenes", *runs]]
    for category, row in result["categories"].items():
        rows.append([category, str(row["scenes"]), f"{100 * row['passed'][runs[0]]:.1f}"])
        for run in runs[1:]:
            low, high = row["difference"][run]["interval"]
            change = 100 * row["difference"][run]["mean"]
            rows[-1].append(
                f"{100 * row['passed'][run]:.1f} "
                f"({change:+.1f}: {100 * low:+.1f} to {100 * high:+.1f})"
            )
    return tables.align(rows)


def pass_shares(result: Mapping[str, Any]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Returns `{run: {category: (passed, low, high)}}` of a comparison, with Wilson bounds."""
    table: dict[str, dict[str, tuple[float, float, float]]] = {}
    for category, row in result["categories"].items():
        for run, passed in row["passed"].items():
            bounds = confidence.wilson_interval(passed, row["scenes"])
            table.setdefault(run, {})[category] = (passed, *bounds)
    return table


def _find_all(suite: str, paths: Sequence[str]) -> list[tuple[str, pathlib.Path, dict[str, Any]]]:
    """Returns a unique name, the folder and the content of the results at every path."""
    if len(paths) < 2:
        raise InputError(f"compare needs two or more runs or folders of results, got {len(paths)}")
    runs: dict[str, tuple[pathlib.Path, dict[str, Any]]] = {}
    for path in map(files.expand_path, paths):
        folder, content = results.find_results(path, suite)
        if any(folder.samefile(other) for other, _ in runs.values()):
            raise InputError(f"compare must be given each run once, got {path} twice")
        name = path.name if path.name not in runs else str(path)
        runs[name] = folder, content
    return [(name, *result) for name, result in runs.items()]


def _compare_category(
    clips: Mapping[str, Mapping[str, clips_lib.JudgedClip]], names: Sequence[str], category: str
) -> dict[str, Any]:
    first = next(iter(clips))
    passed = {
        run: np.array([float(judged[name]["scores"][category]["passed"]) for name in names])
        for run, judged in clips.items()
    }
    _, scenes = np.unique([clips[first][n]["index"] for n in names], return_inverse=True)
    sizes = np.bincount(scenes)  # clips of each scene
    row: dict[str, Any] = {"scenes": len(sizes), "passed": {}, "difference": {}}
    for run, values in passed.items():
        row["passed"][run] = float(values.mean())
        if run != first:
            gain = values - passed[first]
            interval = confidence.bootstrap_interval(np.bincount(scenes, gain), sizes)
            row["difference"][run] = {"mean": float(gain.mean()), "interval": interval}
    return row
