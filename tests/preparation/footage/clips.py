# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Small videos, and how tests prepare them."""

import numpy as np

from mimir_jax.preparation.footage import config as c
from mimir_jax.preparation.footage import runner
from tests.data import video_files

PLAIN = c.FootageConfig(
    shots=c.ShotsConfig(detector="none", max_seconds=2.0),
    basic=c.BasicConfig(min_seconds=1.0, min_side=32.0),
    quality=c.QualityConfig(flow="none"),
    watermark=c.WatermarkConfig(detector="none"),
)


def images(seed, count=12, height=48, width=64, speed=2, grain=4):
    """A texture that moves to the left."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 256, (height // grain, 256 // grain, 3), np.uint8)
    wide = wide.repeat(grain, 0).repeat(grain, 1)
    return [wide[:, i * speed : i * speed + width] for i in range(count)]


def write(folder, **videos):
    folder.mkdir(exist_ok=True)
    for name, frames in videos.items():
        video_files.write_video(folder / f"{name}.mp4", frames, fps=8, options={"crf": "10"})
        (folder / f"{name}.txt").write_text(f"a texture, {name}")


def run(raw, out, config=PLAIN):
    preparation = runner.Preparation(raw, out, config)
    preparation.work()
    return {line.get("clip", line["video"]): line for line in preparation.finish()}
