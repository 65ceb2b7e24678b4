# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What each step kept and dropped: a page, and the decisions on one clip as text."""

import base64
import collections
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np

from mimir_jax import files, tables
from mimir_jax.errors import InputError, listed
from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage import scan, store

SHOWN = 24
"""Clips in a contact sheet."""

_BINS = 40
_PERCENTILES = (0.5, 99.5)
Line = dict[str, Any]


class Stage(NamedTuple):
    """A step of the funnel.

    Attributes:
        step: Its name.
        kept: Clips that are left after it.
        dropped: Clips that it dropped; of `read`, videos.
        reasons: Dropped clips by the rule that was the first to fail.
    """

    step: str
    kept: int
    dropped: int
    reasons: dict[str, int]


class Histogram(NamedTuple):
    """Distribution of a measure.

    Attributes:
        measure: Its name.
        step: Step that reads it.
        count: Clips that were measured.
        low: Left end.
        high: Right end.
        bars: Heights from 0 to 1.
        bounds: Bounds of the rule, from 0 to 1 between the ends, and as text.
        dropped: Clips beyond the bounds.
    """

    measure: str
    step: str
    count: int
    low: float
    high: float
    bars: list[float]
    bounds: list[tuple[float, str]]
    dropped: int


def funnel(lines: Sequence[Line]) -> list[Stage]:
    """Returns how many clips each step kept and dropped."""
    dropped = collections.Counter(line["dropped_by"] for line in lines)
    left, stages = len(lines), []
    for step in clip_lib.STEPS:
        left -= dropped[step]
        reasons = collections.Counter(
            first_failure(line)["measure"]
            for line in lines
            if line["dropped_by"] == step and "decisions" in line
        )
        stages.append(Stage(step, left, dropped[step], dict(reasons.most_common())))
    return stages


def first_failure(line: Line) -> dict[str, Any]:
    """Returns the decision that dropped a clip."""
    return next(d for d in line["decisions"] if not d["passed"])


def last_step(lines: Sequence[Line]) -> str:
    """Returns the last step that dropped a clip, with its rule, for a message."""
    stage = [stage for stage in funnel(lines) if stage.dropped][-1]
    return f"{stage.step} ({', '.join(stage.reasons)})" if stage.reasons else stage.step


def write(folder: store.Store, lines: Sequence[Line]) -> pathlib.Path:
    """Writes `report.html`, one file with its images."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mimir_jax", "preparation/footage"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    stages = funnel(lines)
    page = environment.get_template("report.html.jinja").render(
        total=sum("clip" in line for line in lines),
        videos=len({line["video"] for line in lines}),
        seconds=sum(line["seconds"] for line in lines if line["dropped_by"] is None),
        stages=stages,
        failures=[line for line in lines if line["dropped_by"] == "read"],
        histograms=histograms(lines),
        sheets=list(_sheets(folder, lines, stages)),
        settings=files.read_text(folder.work / "settings.json", "settings"),
    )
    path = folder.folder / "report.html"
    files.write_text(path, page)
    return path


def histograms(lines: Sequence[Line]) -> list[Histogram]:
    """Returns the distribution of every measure that a rule has read, in order of the steps."""
    rules: dict[str, dict[str, Any]] = {}
    values = collections.defaultdict(list)
    failed: collections.Counter[str] = collections.Counter()
    for line in lines:
        for decision in line.get("decisions", ()):
            rules.setdefault(decision["measure"], decision)
            values[decision["measure"]].append(decision["value"])
            failed[decision["measure"]] += not decision["passed"]
    order = {step: number for number, step in enumerate(clip_lib.STEPS)}
    return [
        _histogram(rules[name], np.array(values[name]), failed[name])
        for name in sorted(rules, key=lambda name: order[rules[name]["step"]])
    ]


def _histogram(rule: dict[str, Any], values: np.ndarray, dropped: int) -> Histogram:
    bounds = [rule[name] for name in ("low", "high") if rule[name] is not None]
    low, high = np.percentile(values, _PERCENTILES)
    low, high = min(low, *bounds, high), max(high, *bounds, low)
    span = (high - low) or 1.0
    counts, _ = np.histogram(values.clip(low, high), _BINS, (low, low + span))
    return Histogram(
        rule["measure"], rule["step"], len(values), low, low + span,
        (counts / counts.max()).tolist(), [((x - low) / span, f"{x:g}") for x in bounds], dropped,
    )  # fmt: skip


def _sheets(
    folder: store.Store, lines: Sequence[Line], stages: Sequence[Stage]
) -> Iterator[dict[str, Any]]:
    """Yields the contact sheets: what is kept, then what each step dropped."""
    seen: collections.Counter[str] = collections.Counter()
    rows = []
    for line in lines:
        if "clip" in line:
            rows.append((line, seen[line["video"]]))
            seen[line["video"]] += 1
    for step, title in ((None, "Kept"), *((s.step, f"Dropped by {s.step}") for s in stages)):
        some = [(line, row) for line, row in rows if line["dropped_by"] == step]
        if some:
            picked = some[:: max(1, len(some) // SHOWN)][:SHOWN]
            cards = [_card(folder, line, row) for line, row in picked]
            yield {"title": title, "count": len(some), "cards": cards}


def _card(folder: store.Store, line: Line, row: int) -> dict[str, Any]:
    path = folder.work / "images" / f"{store.video_key(line['video'])}.jpg"
    image = scan.row(path.read_bytes(), row) if path.is_file() else None
    source = image and f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
    text = " / ".join(line.get("captions", ()))
    if line["dropped_by"] is not None:
        text = sentence(first_failure(line))
    return {"source": source, "name": line["clip"], "text": text}


def sentence(decision: dict[str, Any]) -> str:
    """Returns a decision in words, such as "luma 3.1, at least 20"."""
    bounds = (("at least", decision["low"]), ("at most", decision["high"]))
    wanted = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
    other = f" (like {decision['of']})" if "of" in decision else ""
    return f"{decision['measure']} {decision['value']:.4g}, {wanted}{other}"


def explain(folder: store.Store, name: str) -> list[str]:
    """Returns the decisions on a clip, or on all clips of a raw video, line by line.

    Args:
        folder: The prepared clips.
        name: A clip or its file, or a raw video by its path in RAW or its file name.

    Raises:
        InputError: for a folder without decisions, or a name that has none.
    """
    path = folder.folder / "decisions.jsonl"
    lines = [json.loads(text) for _, text in files.read_lines(path, "list of decisions")]
    asked = pathlib.PurePath(name)
    found = [
        line
        for line in lines
        if line.get("clip") in (asked.name, asked.stem)
        or line["video"] == name
        or pathlib.PurePath(line["video"]).name == name
    ]
    if not found:
        names = [line["clip"] for line in lines if "clip" in line]
        raise InputError(
            f"--explain must name a clip or a raw video, found none of {name!r}; there are "
            f"{listed(names)}"
        )
    return [text for line in found for text in _explain(line)]


def _explain(line: Line) -> Iterator[str]:
    if "clip" not in line:
        yield f"{line['video']}: not readable: {line['reason']}"
        return
    verdict = "kept" if line["dropped_by"] is None else f"dropped by {line['dropped_by']}"
    end = line["start"] + line["seconds"]
    yield f"{line['clip']}: {verdict}; {line['start']:.2f} to {end:.2f} s of {line['video']}"
    rows = [("step", "measure", "value", "least", "most", "")]
    for d in line["decisions"]:
        bounds = ["" if d[name] is None else f"{d[name]:g}" for name in ("low", "high")]
        verdict = "ok" if d["passed"] else "drop" + (f", like {d['of']}" if "of" in d else "")
        rows.append((d["step"], d["measure"], f"{d['value']:.4g}", *bounds, verdict))
    yield tables.align(rows)
    for text in line.get("captions", ()):
        yield f"caption: {text}"
