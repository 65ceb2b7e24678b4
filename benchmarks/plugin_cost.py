# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Seconds per clip of a network of `mimir-jax prepare` on this machine, and hours of many clips.

    python benchmarks/plugin_cost.py CLIP --config.captions.captioner=llava \
        --config.captions.folder=FOLDER [--rounds 3]
    python benchmarks/plugin_cost.py CLIP --config.aesthetic.scorer=clip_head \
        --config.aesthetic.folder=FOLDER

Times the captioner, the scorer or the detector that the flags name, after a first call that
compiles. Frames are decoded beforehand: it is time of the device and of the host that waits for it.
"""

import argparse
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from mimir_jax import tables  # noqa: E402
from mimir_jax.cli import dataclass_flags  # noqa: E402
from mimir_jax.data import video_stream  # noqa: E402
from mimir_jax.preparation import plugins  # noqa: E402
from mimir_jax.preparation.footage import clip as clip_lib  # noqa: E402
from mimir_jax.preparation.footage import config as c  # noqa: E402

CLIPS = 500_000, 100_000_000


def main(argv: Sequence[str] | None = None) -> None:
    """Times the plug-ins and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=pathlib.Path, help="a clip of usual size and length")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is timed")
    args, rest = parser.parse_known_args(argv)
    values = flags.FlagValues()
    dataclass_flags.define(values, c.FootageConfig, prefix="config.")
    values([sys.argv[0], *rest])
    config = dataclass_flags.read(values, c.FootageConfig, prefix="config.")
    rows = [["plug-in", "seconds per clip", *(f"hours for {n:,} clips" for n in CLIPS)]]
    for name, action in _actions(args.clip, config):
        action()  # compiles
        seconds = statistics.median(_seconds(action) for _ in range(args.rounds))
        rows.append([name, f"{seconds:.3f}", *(f"{n * seconds / 3600:,.0f}" for n in CLIPS)])
    print(tables.markdown(rows))


def _actions(path: pathlib.Path, config: c.FootageConfig) -> Iterator[tuple[str, Callable]]:
    """Yields the plug-ins that are set, and what each does with the clip."""
    frames = _frames(path, config.quality.detail_seconds, config.quality.detail_side)
    for field, name, section in (
        ("aesthetic.scorer", config.aesthetic.scorer, config.aesthetic),
        ("watermark.detector", config.watermark.detector, config.watermark),
    ):
        if name != plugins.NONE:
            scorer = plugins.find(field, name)(section.folder)
            seen = clip_lib.stacked(frames, section.frames)
            yield f"{field}={name}", lambda scorer=scorer, seen=seen: scorer.score(seen)
    captioner = plugins.find("captions.captioner", config.captions.captioner)
    caption = captioner(config.captions, path.parent)
    seen = clip_lib.stacked(
        _frames(path, 1 / config.captions.fps, config.quality.detail_side), config.captions.frames
    )
    clip: dict[str, Any] = {"clip": path.stem, "video": path.name, "path": path}
    name = f"captions.captioner={config.captions.captioner}"
    yield name, lambda: caption(lambda: seen, clip)


def _frames(path: pathlib.Path, gap: float, side: int) -> list[video_stream.Picture]:
    """Returns pictures of a clip, `gap` seconds apart."""
    kept, following = [], 0.0
    with video_stream.open_video(path) as (timeline, frames):
        for frame in frames:
            if timeline.times[frame.number] >= following - timeline.tick:
                kept.append(frame.picture(side))
                following += gap
    return kept


def _seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
