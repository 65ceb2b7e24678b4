# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos named as VBench (arXiv 2311.17982) reads them, and its results in the layout of Mimir.

VBench itself runs elsewhere, on a user's copy of its prompts: this module writes the videos it
scores and reads the scores back, beside the published rows of Mimir's Table 1. Whether a row used
the raw prompts or the enhanced ones moves every number (M-U25), so both can be asked for: videos
are always named after the raw prompt.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mimir_jax import files, hashing, tables
from mimir_jax.errors import InputError
from mimir_jax.evaluation import results as folder_lib
from mimir_jax.evaluation.suites.toyworld import Maker
from mimir_jax.parallel import distributed
from mimir_jax.sampling import video as video_lib

VIDEOS_PER_PROMPT = 5
SEEDS = "seeds.json"

COLUMNS = {
    "background_consistency": "bg. cons.",
    "aesthetic_quality": "aesthetic",
    "imaging_quality": "imaging",
    "object_class": "obj. class",
    "multiple_objects": "mult. obj.",
    "color": "color",
    "spatial_relationship": "spatial",
    "temporal_style": "temp. style",
}
"""VBench's name of each column of Table 1, and the column's heading."""

_SOURCES = {
    "background_consistency": "scene",
    "aesthetic_quality": "overall_consistency",
    "imaging_quality": "overall_consistency",
}
"""Columns that VBench scores on the prompts of another of its dimensions."""

PUBLISHED: dict[str, tuple[float, ...]] = {
    "ModelScopeT2V": (92.00, 37.14, 55.85, 31.17, 1.52, 63.20, 8.26, 14.52),
    "OpenSora": (97.20, 58.57, 63.38, 90.79, 64.81, 84.67, 76.63, 25.51),
    "OpenSoraPlan": (97.50, 59.40, 57.79, 67.39, 26.98, 83.38, 38.69, 21.86),
    "CogVideoX-2B": (94.71, 60.27, 60.52, 84.86, 65.70, 86.21, 70.49, 25.10),
    "CogVideoX-5B": (95.60, 60.62, 61.35, 87.82, 65.70, 84.17, 64.86, 25.86),
    "Mimir": (97.68, 62.92, 63.91, 92.87, 85.29, 86.50, 78.67, 26.22),
}
"""Table 1 of Mimir (arXiv 2412.03085), percent, in the order of `COLUMNS`."""


@dataclasses.dataclass(frozen=True)
class Ask:
    """One video: what the model reads, the file it is written to, and its seed."""

    prompt: str
    file: str
    seed: int


def plan(
    prompts: pathlib.Path,
    *,
    enhanced: pathlib.Path | None = None,
    videos: int = VIDEOS_PER_PROMPT,
    seed: int = 0,
) -> list[Ask]:
    """Reads VBench's prompts: a prompt a line, or its JSON with prompts by dimension.

    Of the JSON, only prompts that a column of Table 1 is scored on are made.

    Args:
        prompts: VBench's `VBench_full_info.json`, or a text file.
        enhanced: Text file with a longer version of every prompt of the file, line by line.
        videos: Videos of each prompt.
        seed: Of the first video of each prompt.

    Raises:
        ValueError: if a file cannot be read, holds no prompts, or the two do not match.
    """
    if videos < 1:
        raise InputError(f"videos of a prompt must be at least 1 to evaluate any, got {videos}")
    listed = _read_prompts(prompts)
    spoken = [name for name, _ in listed] if enhanced is None else _read_lines(enhanced)
    if len(spoken) != len(listed):
        raise InputError(
            f"enhanced prompts {enhanced} must be as many as the prompts of {prompts}, got "
            f"{len(spoken)} for {len(listed)}; give the file that belongs to it"
        )
    # A prompt of two dimensions is made once.
    spoken_of = {name: text for (name, scored), text in zip(listed, spoken, strict=True) if scored}
    for name in spoken_of:
        if "/" in name or len(name.encode()) > 240:
            raise InputError(
                f"prompt {name[:60]!r} must fit a file name: no slash, at most 240 bytes; VBench "
                "finds a video by its prompt"
            )
    return [
        Ask(spoken_of[name], f"{name}-{number}.mp4", seed + number)
        for name in spoken_of
        for number in range(videos)
    ]


def describe(file: pathlib.Path) -> dict[str, str]:
    """Returns a prompt file's hash and name, to tell whether a folder of videos is of it."""
    return {"sha256": hashing.sha256_file(file)[:12], "file": file.name}


def run(
    asks: Sequence[Ask],
    maker: Maker,
    folder: pathlib.Path,
    *,
    batch_size: int,
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Writes the videos that `folder/videos` lacks, and their seeds.

    A video is complete or absent: see `files.atomic_file`. Of many processes, all make and
    process 0 writes.
    """
    first_process = distributed.is_first()
    videos = folder / "videos"
    if first_process:
        videos.mkdir(exist_ok=True)
        files.write_json(folder / SEEDS, {ask.file: ask.seed for ask in asks})
    done = distributed.from_first(lambda: [path.name for path in videos.iterdir()])
    open_asks = [ask for ask in asks if ask.file not in done]
    report(len(asks) - len(open_asks))
    for first in range(0, len(open_asks), batch_size):
        batch = open_asks[first : first + batch_size]
        prompts, seeds = [ask.prompt for ask in batch], [ask.seed for ask in batch]
        frames = maker.generate(prompts, seeds, batch_size=batch_size)
        if not first_process:
            continue
        for ask, clip in zip(batch, frames, strict=True):
            with files.atomic_file(videos / ask.file) as temporary:
                video_lib.write_mp4(temporary, clip, fps=maker.fps)
        report(len(asks) - len(open_asks) + first + len(batch))


def read_results(paths: Sequence[pathlib.Path]) -> dict[str, float]:
    """Reads result files of VBench, `{dimension: [score, details], ...}` with scores 0 to 1.

    Returns:
        Percent by dimension, those of `COLUMNS` alone.

    Raises:
        ValueError: if a file is none of VBench, or two give different scores.
    """
    scores: dict[str, float] = {}
    for path in paths:
        content = folder_lib.read_json(path)
        found = {name: content[name] for name in COLUMNS if name in content}
        if not found:
            raise InputError(
                f"result file {path} must hold scores of VBench, got none of "
                f"{', '.join(COLUMNS)}; give its *_eval_results.json"
            )
        for name, value in found.items():
            score = _score(path, name, value)
            if scores.setdefault(name, score) != score:
                raise InputError(
                    f"result file {path} must agree with the others, {name} is {score:.2f} here "
                    f"and {scores[name]:.2f} before; give results of one set of videos"
                )
    return scores


def text(runs: Mapping[str, Mapping[str, float]]) -> str:
    """Lays out Table 1: the published rows, then ours, and how ours differ from CogVideoX-5B."""
    rows = [["VBench, %", *COLUMNS.values()]]
    for name, row in PUBLISHED.items():
        rows.append([f"{name} (published)", *(f"{value:.2f}" for value in row)])
    base = dict(zip(COLUMNS, PUBLISHED["CogVideoX-5B"], strict=True))
    for name, scores in runs.items():
        rows.append([name, *(f"{scores[c]:.2f}" if c in scores else "-" for c in COLUMNS)])
        gains = [f"{scores[c] - base[c]:+.2f}" if c in scores else "-" for c in COLUMNS]
        rows.append(["  against CogVideoX-5B", *gains])
    return tables.align(rows)


def _score(path: pathlib.Path, name: str, value: Any) -> float:
    score = value[0] if isinstance(value, list) and value else value
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise InputError(
            f"result file {path} must give a number for {name}, got {json.dumps(score)[:40]}"
        )
    if not 0 <= score <= 1:
        raise InputError(
            f"result file {path} must give scores of 0 to 1, got {score} for {name}; give the file "
            "as VBench wrote it"
        )
    return 100 * score


def _read_prompts(path: pathlib.Path) -> list[tuple[str, bool]]:
    """Returns all prompts of a file, and whether a column of Table 1 is scored on each."""
    if path.suffix != ".json":
        return [(line, True) for line in _read_lines(path)]
    wanted = {_SOURCES.get(name, name) for name in COLUMNS} | set(COLUMNS)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        prompts = [(e["prompt_en"].strip(), bool(wanted & {*e["dimension"]})) for e in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"prompt file {path} must be VBench's JSON of prompts: {error!r}"
        ) from None
    _require_some(path, [prompt for prompt, scored in prompts if scored])
    return prompts


def _read_lines(path: pathlib.Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"prompt file {path} must be readable text: {reason}") from None
    return _require_some(path, [line.strip() for line in lines if line.strip()])


def _require_some(path: pathlib.Path, prompts: list[str]) -> list[str]:
    if not prompts:
        raise InputError(f"prompt file {path} must hold at least one prompt, got none")
    return prompts
