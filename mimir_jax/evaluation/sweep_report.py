# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The report of a sweep: tables, verdicts on predictions, plots and sheets."""

import csv
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mimir_jax import evaluation, files, tables
from mimir_jax.evaluation import before_after, confidence, generation, plots, results, sweep
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation import judging as judging_lib
from mimir_jax.sampling import video as video_lib
from mimir_jax.systems.ablations import START, Ablation, Prediction

CATEGORIES = ("object_class", "colour", "size", "count", "layout", "action")
"""Categories that the mean of a clip is over: what a prompt asks for, not how the image looks."""

Shares = dict[str, tuple[float, float, float]]
"""Share that passes and its interval, in percent, by category."""


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
    judging = judging_lib.make_judging(ablation.demos)
    judged = sweep.read_judged(out, settings, list(ablation.cells), judging.kind)
    tables_of = {
        style: {name: _shares(clips, style) for name, clips in judged.items()}
        for style in judging.styles
    }
    _write_csv(out, judged, tables_of, judging.kind)
    draw_sheets(out, settings["steps"], list(judged), judging.styles)
    parts = [_head(settings, judged, judging.kind)]
    for style, shares in tables_of.items():
        seeds = {name: _seed_means(clips, style) for name, clips in judged.items()}
        title = f"{style.capitalize()} {judging.kind}"
        if judging.kind == "condition":
            title = f"Condition {style}"
        parts.append(f"## {title}\n\n{_format_shares(shares, seeds)}")
        parts.append(f"![Shares with intervals]({style}.png)")
        if (out / f"sheet-{style}.png").is_file():
            parts.append(f"![A prompt drawn by each cell](sheet-{style}.png)")
        plots.plot_bars(
            out / f"{style}.png",
            {
                name: {k: tuple(v / 100 for v in cell) for k, cell in row.items()}
                for name, row in shares.items()
            },
            label=f"clips that pass, %, {style}",
        )
    if ablation.predictions:
        parts.append(_format_predictions(ablation.predictions, judged, judging))
    if ablation.published:
        rows = [["row", *ablation.columns]]
        rows += [[n, *(f"{x:g}" for x in row)] for n, row in ablation.published.items()]
        parts.append(f"## Published, {ablation.measured}\n\n{tables.markdown(rows)}")
    text = "\n\n".join(parts) + "\n"
    files.write_text(out / "report.md", text)
    return text


def mean_passed(
    clips: sweep.Clips, style: str, categories: Sequence[str] = CATEGORIES
) -> Float[np.ndarray, "seeds scenes"]:
    """Returns the share of `categories` that each clip of a style passes; NaN without any."""
    names = sorted({clip["index"] for run in clips.values() for clip in run})
    values = np.full((len(clips), len(names)), np.nan)
    for row, run in enumerate(clips.values()):
        for clip in run:
            scores = [clip["scores"][k]["passed"] for k in categories if k in clip["scores"]]
            if clip["style"] == style and scores:
                values[row, names.index(clip["index"])] = np.mean(scores)
    return values


def check_prediction(
    prediction: Prediction, judged: Mapping[str, sweep.Clips], style: str
) -> list[str]:
    """Returns difference, interval and verdict of a prediction as cells of a table.

    Cells are compared by the seeds that both have; the start has no seed and stands for each. With
    one seed, the interval is over scenes alone, and the verdict says so.
    """
    names = (prediction.cell, prediction.other)
    seeds = [set(judged.get(name, ())) for name in names if name != START]
    shared = sorted(set.intersection(*seeds))
    if not shared or not all(name in judged for name in names):
        return ["-", "-", "not run"]
    ours, other = (
        mean_passed(
            judged[name] if name == START else {seed: judged[name][seed] for seed in shared},
            style,
            CATEGORIES if prediction.category is None else (prediction.category,),
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
    if len(shared) == 1:
        verdict += ", one seed"
    return [f"{middle:+.1f}", f"{low:+.1f} to {high:+.1f}", verdict]


def _shares(clips: sweep.Clips, style: str) -> Shares:
    """Returns share and interval in percent by category, and of the mean over them."""
    row = {}
    for name, categories in {
        "mean": CATEGORIES,
        **{k: (k,) for k in evaluation.CATEGORIES},
    }.items():
        values = mean_passed(clips, style, categories)
        if not np.isnan(values).all():
            values = values[:, ~np.isnan(values).all(0)]
            low, high = confidence.nested_bootstrap_interval(values)
            row[name] = (100 * float(np.nanmean(values)), 100 * low, 100 * high)
    return row


def _seed_means(clips: sweep.Clips, style: str) -> list[float]:
    """Returns the mean score of each seed in percent, in the order of the seeds."""
    return [
        100 * float(np.nanmean(mean_passed({seed: clips[seed]}, style))) for seed in sorted(clips)
    ]


def _format_shares(shares: Mapping[str, Shares], seeds: Mapping[str, Sequence[float]]) -> str:
    columns = ["mean", *CATEGORIES, "action_order"]
    rows = [["cell", "mean of each seed", *columns]]
    for name, row in shares.items():
        cells = [
            f"{row[k][0]:.0f} ({row[k][1]:.0f} to {row[k][2]:.0f})" if k in row else "-"
            for k in columns
        ]
        rows.append([name, ", ".join(f"{x:.0f}" for x in seeds[name]), *cells])
    return tables.markdown(rows)


def _format_predictions(
    predictions: Sequence[Prediction],
    judged: Mapping[str, sweep.Clips],
    judging: judging_lib.Judging,
) -> str:
    rows = [["prediction", judging.kind, "difference", "95 % interval", "verdict"]]
    for prediction in predictions:
        text = prediction.text + (f" ({prediction.category})" if prediction.category else "")
        for style in prediction.styles or judging.styles:
            rows.append([text, style, *check_prediction(prediction, judged, style)])
    return (
        "## Predictions, stated before the runs\n\nDifferences in percentage points of the mean, "
        "or of the category in brackets; seeds and scenes are resampled."
        f"\n\n{tables.markdown(rows)}"
    )


def _head(settings: Mapping[str, Any], judged: Mapping[str, sweep.Clips], kind: str) -> str:
    scenes = len({clip["index"] for clip in judged[START][0]})
    seeds = {name: len(clips) for name, clips in judged.items() if name != START}
    return (
        f"# Sweep of {settings['steps']} steps\n\n{scenes} held-out scenes in each {kind}, "
        "the same noise for all. Shares that pass in percent, with 95 % intervals under "
        f"resampling of seeds and scenes; `mean` is over {', '.join(CATEGORIES)}. Seeds of a cell: "
        + ", ".join(f"{name} {count}" for name, count in seeds.items())
        + "."
    )


def _write_csv(
    out: pathlib.Path,
    judged: Mapping[str, sweep.Clips],
    shares: Mapping[str, Mapping[str, Shares]],
    kind: str,
) -> None:
    with files.atomic_file(out / sweep.CLIPS) as path, path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["cell", "seed", "scene", kind, *evaluation.CATEGORIES])
        for name, clips in judged.items():
            for seed, clip in ((s, x) for s, run in clips.items() for x in run):
                scores = [clip["scores"].get(k) for k in evaluation.CATEGORIES]
                marks = ["" if score is None else int(score["passed"]) for score in scores]
                writer.writerow([name, seed, clip["index"], clip["style"], *marks])
    with files.atomic_file(out / "table.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["cell", kind, "category", "passed", "low", "high", "seeds"])
        for (name, clips), style in itertools.product(judged.items(), shares):
            for category, cell in shares[style][name].items():
                numbers = [f"{x:.2f}" for x in cell]
                writer.writerow([name, style, category, *numbers, len(clips)])


def draw_sheets(out: pathlib.Path, steps: int, order: Sequence[str], styles: Sequence[str]) -> None:
    """Draws one prompt of each wording or condition across the cells whose clips are here.

    Args:
        out: Folder of the sweep, where the sheets go.
        steps: Steps of each run.
        order: Cells from top to bottom.
        styles: Wordings or conditions.
    """
    folders = {START: out / START}
    for workdir in sorted((out / "runs").glob("*-*")):
        folders.setdefault(
            workdir.name.rpartition("-")[0], workdir / before_after.FOLDER / str(steps)
        )
    folders = {k: folders[k] for k in order if (folders.get(k, out) / clips_lib.CLIPS).is_file()}
    if START not in folders:
        return
    clips = clips_lib.read_clips(folders[START])
    for style in styles:
        asked = [clip for clip in clips if clip["style"] == style]
        if not asked:
            continue
        clip = max(asked, key=lambda clip: len(clip["scores"]))  # the first that tells most
        file = f"{generation.VIDEOS}/{clip['name']}.mp4"
        shown = {name: folder for name, folder in folders.items() if (folder / file).is_file()}
        videos = [before_after.read_video(folder, clip["name"]) for folder in shown.values()]
        texts = [f"{name}: {clip['prompt']}" for name in shown]
        strips = [video_lib.strip(video) for video in videos]
        video_lib.contact_sheet(strips, texts).save(out / f"sheet-{style}.png")
