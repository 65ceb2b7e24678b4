# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompts of Toyworld, videos of a model, and the exact judge between them.

Every scene is asked for in several styles of caption and with several seeds. A clip counts in a
category only if its scene exercises it and its prompt tells it.
"""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from mimir_jax import evaluation, files, tables
from mimir_jax.data.toyworld import captions, sampling
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.errors import InputError
from mimir_jax.evaluation import confidence
from mimir_jax.evaluation.judge import ground_truth, prompt_coverage
from mimir_jax.parallel import distributed
from mimir_jax.sampling import video as video_lib

CLIPS = "clips.jsonl"

_FIELDS = (
    ("name", str, "a text"),
    ("index", int, "a whole number"),
    ("style", str, "a text"),
    ("prompt", str, "a text"),
    ("scores", dict, "scores by category"),
)
_SCANNED = 40  # scenes looked at for each that is asked for, before a rare category is given up


@runtime_checkable
class Maker(Protocol):
    """What the suite needs of `sampling.generator.Generator`."""

    fps: float

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], *, batch_size: int
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video a prompt."""
        ...


@dataclasses.dataclass(frozen=True)
class Ask:
    """One video to make and judge.

    Attributes:
        index: Number of the scene in its split.
        scene: What is asked for.
        style: Style of the caption.
        prompt: The caption.
        seed: Of the video's noise.
        categories: Those that the clip is judged in.
    """

    index: int
    scene: scene_lib.Scene
    style: str
    prompt: str
    seed: int
    categories: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its video, unique in a plan."""
        return f"{self.index:05d}-{self.style}-{self.seed}"


def plan(
    *,
    split: str,
    scenery: sampling.Scenery,
    scenes: int,
    styles: Sequence[str] = captions.STYLES,
    seeds: int = 1,
    seed: int = 0,
    data_seed: int = 0,
) -> list[Ask]:
    """Chooses scenes so that at least `scenes` exercise each category, as far as the split has any.

    Args:
        split: `heldout` for combinations that training never shows, or `validation`.
        scenery: As in training.
        scenes: Least number of scenes a category.
        styles: Caption styles; each asks for every scene.
        seeds: Videos of each prompt.
        seed: Of the first video of each prompt.
        data_seed: Names the dataset.

    Raises:
        ValueError: if nothing would be evaluated.
    """
    for name, value in {"scenes": scenes, "seeds": seeds, "styles": len(styles)}.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1 to evaluate any video, got {value}")
    lacking = dict.fromkeys(evaluation.CATEGORIES, scenes)
    asks = []
    for index in range(_SCANNED * scenes):
        scene = sampling.sample(data_seed, split, index, scenery)
        exercised = _exercised(scene)
        if not any(lacking[name] > 0 for name in exercised):
            continue
        for name in exercised:
            lacking[name] -= 1
        for style in styles:
            prompt = captions.caption(scene, style, index)
            facts = prompt_coverage.mentioned_categories(scene, prompt)
            names = tuple(name for name in exercised if name in facts)
            asks += [
                Ask(index, scene, style, prompt, number, names)
                for number in range(seed, seed + seeds)
            ]
    return asks


def run(
    asks: Sequence[Ask],
    maker: Maker,
    folder: pathlib.Path,
    *,
    batch_size: int,
    report: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Makes and judges what `folder` does not hold yet; a clip is one line of clips.jsonl.

    Of many processes, all make and process 0 judges, writes and returns.

    Args:
        asks: The plan.
        maker: Makes the videos.
        folder: Receives `clips.jsonl` and `videos/`.
        batch_size: Videos at a time.
        report: Called with the number of clips done.

    Returns:
        All lines of the plan, in its order; none but on process 0.
    """
    first_process = distributed.is_first()
    lines = {line["name"]: line for line in distributed.from_first(lambda: _judged(folder))}
    open_asks = [ask for ask in asks if ask.name not in lines]
    if first_process:
        (folder / "videos").mkdir(exist_ok=True)
    report(len(asks) - len(open_asks))
    for first in range(0, len(open_asks), batch_size):
        batch = open_asks[first : first + batch_size]
        prompts, seeds = [ask.prompt for ask in batch], [ask.seed for ask in batch]
        videos = maker.generate(prompts, seeds, batch_size=batch_size)
        if not first_process:
            continue
        for ask, frames in zip(batch, videos, strict=True):
            scale = max(1, 256 // min(frames.shape[1:3]))
            path = folder / "videos" / f"{ask.name}.mp4"
            video_lib.write_mp4(path, frames, fps=maker.fps, scale=scale)
            lines[ask.name] = _line(ask, evaluation.judge(ask.scene, frames))
        with (folder / CLIPS).open("a") as file:
            file.writelines(json.dumps(lines[ask.name]) + "\n" for ask in batch)
        report(len(asks) - len(open_asks) + first + len(batch))
    return [lines[ask.name] for ask in asks] if first_process else []


def read_clips(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the clips judged in a folder of results; a last line that was cut off is left out.

    Raises:
        ValueError: for a file that cannot be read, or a line that is none of ours.
    """
    path = folder / CLIPS
    try:
        complete = path.read_text(encoding="utf-8").rpartition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(
            f"result file {path} must hold the judged clips: {reason}; delete the folder and "
            "evaluate again"
        ) from None
    lines = []
    for number, line in enumerate(complete.splitlines(), 1):
        try:
            lines.append(_checked(json.loads(line)))
        except ValueError as error:
            raise InputError(
                f"result file {path} line {number} must be a judged clip: {error}; delete the "
                "folder and evaluate again"
            ) from None
    return lines


def summarise(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Averages judged clips by category and, within it, by style and over `all` of them.

    Returns:
        `{category: {style: {"scenes", "clips", "value", "passed", "interval"}}}`: means of value
        and of passing, and the 95 % Wilson interval of the latter at the number of scenes. A
        category without clips is left out.
    """
    table: dict[str, dict[str, Any]] = {}
    for category in evaluation.CATEGORIES:
        scored = [line for line in lines if category in line["scores"]]
        styles = dict.fromkeys(line["style"] for line in scored)
        groups = {"all": scored} | {s: [x for x in scored if x["style"] == s] for s in styles}
        if scored:
            table[category] = {name: _cell(group, category) for name, group in groups.items()}
    return table


def text(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Lays out a summary: a row a category, a column a style."""
    styles = _styles(summary)
    rows = [["passed, %", "scenes", "all", *styles]]
    for category, cells in summary.items():
        rows.append([category, str(cells["all"]["scenes"]), _share(cells["all"], interval=True)])
        rows[-1] += [_share(cells[style]) if style in cells else "-" for style in styles]
    return tables.align(rows)


def csv_text(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a summary as CSV, a line a category and style."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["category", "style", "scenes", "clips", "value", "passed", "low", "high"])
    for category, cells in summary.items():
        for style, cell in cells.items():
            numbers = (cell["value"], cell["passed"], *cell["interval"])
            counts = (cell["scenes"], cell["clips"])
            writer.writerow([category, style, *counts, *(f"{x:.6f}" for x in numbers)])
    return file.getvalue()


def compare(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Compares systems on the clips that all of them made: same scene, style and seed.

    Args:
        runs: Judged clips by system; the first is what the others are compared with.

    Returns:
        `clips`, how many they share, and `categories`: for each the share that passes by system,
        and the difference from the first with its 95 % bootstrap interval over scenes. A clip
        counts in a category if all systems have it judged there.

    Raises:
        ValueError: if they share none.
    """
    clips = {name: {line["name"]: line for line in lines} for name, lines in runs.items()}
    first, *others = clips
    shared = [
        name
        for name, line in clips[first].items()
        if all(name in clips[o] and clips[o][name]["prompt"] == line["prompt"] for o in others)
    ]
    result: dict[str, Any] = {"clips": len(shared), "categories": {}}
    for category in evaluation.CATEGORIES:
        names = [
            name for name in shared if all(category in c[name]["scores"] for c in clips.values())
        ]
        if not names:
            continue
        passed = {
            system: np.array([_passed(clips[system][name], category) for name in names])
            for system in clips
        }
        _, scenes = np.unique([clips[first][n]["index"] for n in names], return_inverse=True)
        sizes = np.bincount(scenes)  # clips of each scene
        row: dict[str, Any] = {"scenes": len(sizes), "passed": {}, "difference": {}}
        for system, values in passed.items():
            row["passed"][system] = float(values.mean())
            if system != first:
                gain = values - passed[first]
                interval = confidence.bootstrap_interval(np.bincount(scenes, gain), sizes)
                row["difference"][system] = {"mean": float(gain.mean()), "interval": interval}
        result["categories"][category] = row
    if not result["categories"]:
        raise InputError(
            f"--compare needs clips of the same prompts and seeds, {' and '.join(clips)} share "
            "none; evaluate them with the same --split, --scenery, --scenes, --styles and --seeds"
        )
    return result


def comparison_text(result: Mapping[str, Any]) -> str:
    """Lays out a comparison: a row a category, a column a system."""
    systems = list(next(iter(result["categories"].values()))["passed"])
    rows = [["passed, %", "scenes", systems[0], *systems[1:]]]
    for category, row in result["categories"].items():
        rows.append([category, str(row["scenes"]), f"{100 * row['passed'][systems[0]]:.1f}"])
        for system in systems[1:]:
            low, high = row["difference"][system]["interval"]
            change = 100 * row["difference"][system]["mean"]
            rows[-1].append(
                f"{100 * row['passed'][system]:.1f} "
                f"({change:+.1f}: {100 * low:+.1f} to {100 * high:+.1f})"
            )
    return tables.align(rows)


def shares(result: Mapping[str, Any]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Returns `{system: {category: (passed, low, high)}}` of a comparison, with Wilson bounds."""
    table: dict[str, dict[str, tuple[float, float, float]]] = {}
    for category, row in result["categories"].items():
        for system, passed in row["passed"].items():
            bounds = confidence.wilson_interval(passed, row["scenes"])
            table.setdefault(system, {})[category] = (passed, *bounds)
    return table


def _exercised(scene: scene_lib.Scene) -> tuple[str, ...]:
    scores = evaluation.compare(scene, ground_truth.observe_scene(scene))
    return tuple(name for name, score in scores.items() if score is not None)


def _judged(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Reads what an evaluation judged before it stopped, and drops a line that was cut off."""
    path = folder / CLIPS
    if not path.exists():
        return []
    lines = read_clips(folder)
    files.write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    return lines


def _checked(line: Any) -> dict[str, Any]:
    """Returns a line of clips.jsonl; raises `ValueError` for what is wrong with it."""
    fields = line if isinstance(line, dict) else {}
    for name, kind, what in _FIELDS:
        if not isinstance(fields.get(name), kind):
            raise InputError(f"{name} must be {what}, got {json.dumps(fields.get(name))[:40]}")
    for category, score in line["scores"].items():
        parts = score if isinstance(score, dict) else {}
        value, passed = parts.get("value"), parts.get("passed")
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"value of {category} must be 0 to 1, got {json.dumps(value)[:40]}")
        if not isinstance(passed, bool):
            raise InputError(
                f"passed of {category} must be true or false, got {json.dumps(passed)[:40]}"
            )
    return line


def _line(ask: Ask, verdict: evaluation.Verdict) -> dict[str, Any]:
    return {
        "name": ask.name,
        "index": ask.index,
        "style": ask.style,
        "seed": ask.seed,
        "prompt": ask.prompt,
        "scores": {name: dataclasses.asdict(verdict[name]) for name in ask.categories},
    }


def _cell(lines: Sequence[Mapping[str, Any]], category: str) -> dict[str, Any]:
    scenes = len({line["index"] for line in lines})
    passed = float(np.mean([_passed(line, category) for line in lines]))
    return {
        "scenes": scenes,
        "clips": len(lines),
        "value": float(np.mean([line["scores"][category]["value"] for line in lines])),
        "passed": passed,
        "interval": confidence.wilson_interval(passed, scenes),
    }


def _passed(line: Mapping[str, Any], category: str) -> float:
    return float(line["scores"][category]["passed"])


def _styles(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found: Iterable[str] = dict.fromkeys(name for cells in summary.values() for name in cells)
    return [name for name in found if name != "all"]


def _share(cell: Mapping[str, Any], *, interval: bool = False) -> str:
    share = f"{100 * cell['passed']:.1f}"
    if not interval:
        return share
    low, high = cell["interval"]
    return f"{share} ({100 * low:.0f} to {100 * high:.0f})"
