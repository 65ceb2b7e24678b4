# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a first frame, frames to continue and windows bring, judged exactly on Toyworld.

    python benchmarks/image_to_video.py [--checkpoint RUN] [--parts frame continue long memory]

Draws held-out scenes and stories from a miniature that reads first frames, and from the base that
it started from, with the same noise in every column. Writes docs/results/image_to_video.md, its
numbers and its sheets after every scene; the same command goes on after a stop.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import harness  # noqa: E402
from mimir_jax.cli import host  # noqa: E402

PAGE = ROOT / "docs" / "results" / "image_to_video.md"
CLIP = 17  # frames of a clip of the miniature
LOOKS = ("object_class", "colour", "size", "count", "background")
COUNTS = {"frame": 60, "continue": 40, "long": 10}
SEGMENTS = 5
OVERLAPS = (1, 9)
PARTS = ("frame", "continue", "long", "memory")
SHOWN = 2  # scenes of a sheet


class Models:
    """The model that reads first frames, and what it started from."""

    def __init__(self, checkpoint: str):
        from mimir_jax.sampling import open as open_lib

        self.trained = open_lib.open_pipeline(checkpoint)
        self.base = open_lib.open_pipeline(checkpoint, start=True)
        self.size = tuple(self.trained.size)

    def draw(self, pipeline: Any, **fields: Any) -> np.ndarray:
        """Returns the video of a request, a continuation without the frames that it continues."""
        from mimir_jax.sampling.request import Request

        return pipeline.generate([Request(**fields)])[0]

    def round_trip(self, clip: np.ndarray) -> np.ndarray:
        """Returns a clip through the VAE and back, the ceiling of every column."""
        from mimir_jax.sampling import video

        made = self.trained.decode(self.trained.encoder.encode_video(clip[None]))[0]
        return video.to_uint8(2.0 * made - 1.0)


def judge(scene: Any, clip: np.ndarray, categories: Any) -> dict[str, bool]:
    """Returns which of `categories` a clip passes, of those that the scene exercises."""
    from mimir_jax import evaluation

    verdict = evaluation.judge(scene, clip)
    return {k: bool(verdict[k].passed) for k in categories if verdict[k] is not None}


def frame_row(models: Models, index: int) -> dict[str, Any]:
    """Judges a scene drawn with its first frame and without."""
    from mimir_jax import evaluation
    from mimir_jax.data.toyworld import captions, renderer, sampling
    from mimir_jax.evaluation.suites import reconstruction

    scene = sampling.sample(0, "heldout", index, "single")
    clip = renderer.render(scene, *models.size)
    request = {"prompt": captions.caption(scene, "short", index), "seed": index}
    videos = {
        "base": models.draw(models.base, **request),
        "trained, no image": models.draw(models.trained, **request),
        "trained, first frame": models.draw(models.trained, first_frame=clip[0], **request),
        "VAE round trip": models.round_trip(clip),
    }
    row = {
        name: {
            "passed": judge(scene, video, evaluation.CATEGORIES),
            "psnr": reconstruction.psnr(clip[:1], video[:1]),
        }
        for name, video in videos.items()
    }
    return {"prompt": request["prompt"], "columns": row, "videos": {"true clip": clip} | videos}


def _story(index: int, pages: int) -> Any:
    from mimir_jax.data.toyworld import source, stories

    scenes = source.ToyworldSource("heldout", scenery="single")
    return stories.ToyworldStories(scenes, pages).story(index)


def continue_row(models: Models, index: int) -> dict[str, Any]:
    """Judges the second act of a story, drawn as the continuation of the first one."""
    from mimir_jax.data.toyworld import renderer

    story = _story(index, 4)
    shown, told = story.pages[1:3]
    clip = renderer.render(shown, *models.size)
    request = {"prompt": story.texts[2], "seed": index}
    videos = {"base, prompt alone": models.draw(models.base, **request)}
    for overlap in OVERLAPS:
        for name in ("base", "trained"):
            given = {"extend": clip, "overlap": overlap, "frames": CLIP}
            video = models.draw(getattr(models, name), **request, **given)
            videos[f"{name}, {overlap}"] = video[overlap - 1 :]
    videos["VAE round trip"] = models.round_trip(renderer.render(told, *models.size))
    row = {n: {"passed": judge(told, v, (*LOOKS, "action"))} for n, v in videos.items()}
    return {"prompt": request["prompt"], "columns": row, "videos": {"before": clip} | videos}


def long_row(models: Models, index: int) -> dict[str, Any]:
    """Judges the five acts of a long video by windows, and by continuations one after the other."""
    from mimir_jax.data.toyworld import renderer
    from mimir_jax.sampling.scenes import Scene

    story = _story(index, SEGMENTS + 2)
    pages, texts = story.pages[1:-1], story.texts[1:-1]
    first = renderer.render(pages[0], *models.size)[0]
    seconds = (CLIP - 1) / models.trained.fps
    scenes = tuple(Scene(i * seconds, (i + 1) * seconds, text) for i, text in enumerate(texts))
    length = SEGMENTS * (CLIP - 1) + 1
    request = {"prompt": texts[0], "scenes": scenes, "length": length, "seed": index}
    videos = {}
    for overlap in (0.2, 0.5):
        given = {**request, "window_overlap": overlap, "first_frame": first}
        videos[f"windows, {overlap}"] = models.draw(models.trained, **given)
    videos["continued"] = _chain(models, texts, first, index)
    row = {}
    for name, video in videos.items():
        parts = [video[i * (CLIP - 1) :][:CLIP] for i in range(SEGMENTS)]
        judged = [
            judge(page, part, (*LOOKS, "action")) for page, part in zip(pages, parts, strict=True)
        ]
        row[name] = {"segments": judged}
    return {"prompt": " / ".join(texts), "columns": row, "videos": videos}


def _chain(models: Models, texts: Any, first: Any, seed: int) -> np.ndarray:
    """Returns a clip of the first text, continued from its last frame with each other one."""
    video = models.draw(models.trained, prompt=texts[0], seed=seed, first_frame=first)
    for number, text in enumerate(texts[1:], 1):
        given = {"extend": video, "overlap": 1, "frames": CLIP, "seed": seed + 1000 * number}
        made = models.draw(models.trained, prompt=text, **given)
        video = np.concatenate([video, made[1:]])
    return video


ROWS = {"frame": frame_row, "continue": continue_row, "long": long_row}


def memory_rows(checkpoint: str) -> list[dict[str, float]]:
    """Returns the peak memory of a command that makes one video, at three lengths."""
    rows = []
    for times in (1, 5, 20):
        length = times * (CLIP - 1) + 1
        with tempfile.TemporaryDirectory() as folder:
            words = ["--checkpoint", checkpoint, "--prompt", "a red circle moves up", "--length",
                     str(length), "--steps", "2", "--out", f"{folder}/out"]  # fmt: skip
            command = [sys.executable, ROOT / "launch" / "sample.py", *words]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # the most so far
        rows.append({"times": times, "frames": length, "peak": peak})
        print(f"{length} frames: {peak / 1e9:.2f} GB", flush=True)
    return rows


def page(found: dict[str, Any], args: argparse.Namespace) -> str:
    """Returns the page of what was measured so far."""
    parts = [
        "# First frames, continuations and long videos, judged\n\n```bash\n"
        f"python benchmarks/image_to_video.py --checkpoint {args.checkpoint}\n```\n\n"
        f"{harness.device_name('cpu')}. Held-out scenes of Toyworld in 64x64 and 17 frames, drawn "
        "by the miniature that reads first frames (`trained`) and by the text-to-video base that "
        "it started from (`base`), with the same noise in every column. Shares of clips that pass "
        "the exact judge in percent, with 95 % Wilson intervals; one training seed. `VAE round "
        "trip` is the ceiling: the true clip, encoded and decoded."
    ]
    if rows := found["frame"]:
        cells = {n: [r["columns"][n]["psnr"] for r in rows] for n in rows[0]["columns"]}
        psnr = ["PSNR of frame 0, dB", str(len(rows)), *(_mean(v) for v in cells.values())]
        parts.append(
            "## A first frame\n\nShort captions, with and without the first frame of the true "
            "clip. A short caption leaves out much that the image shows and the judge asks for, "
            f"such as background and place.\n\n{_table(rows, extra=[psnr])}"
        )
    if rows := found["continue"]:
        parts.append(
            "## Continuation\n\nThe first act of a story is continued with the text of the second "
            "one. `base, N` and `trained, N` repeat its last N frames: the base by replaced "
            "latents alone, the trained model also reads them. Judged are the new frames and the "
            "last old one; `trained, 1` reads one frame, as image-to-video models do.\n\n"
            f"{_table(rows)}"
        )
    if rows := found["long"]:
        parts.append(
            f"## Five times longer\n\nStories of {SEGMENTS} acts, one object, "
            f"{SEGMENTS * (CLIP - 1) + 1} frames, drawn by the trained model from a first frame: "
            "by windows of which the share 0.2 or 0.5 overlaps, and act by act, each continued "
            "from the last frame before it. Every act is judged in its own 17 frames; `kept to the "
            "end` is the last act in object and colour, `order` all actions in their places. "
            f"Intervals take stories as independent.\n\n{_long_table(rows)}"
        )
    if rows := found["memory"]:
        lines = ["| length | frames | peak memory of the command, GB |", "|---|---|---|"]
        lines += [f"| {r['times']} | {r['frames']} | {r['peak'] / 1e9:.2f} |" for r in rows]
        parts.append("## Memory\n\nTwo sampling steps, one process.\n\n" + "\n".join(lines))
    for name, caption in {
        "frame": "True clip, base, trained without and with the first frame, VAE round trip",
        "continue": "The act before, then every column of the table",
        "long": "Every column of the table",
    }.items():
        if found[name]:
            parts.append(f"![{caption}](image_to_video_{name}.png)\n\n*{caption}.*")
    return "\n\n".join(parts) + "\n"


def _table(rows: list[dict[str, Any]], extra: Any = ()) -> str:
    from mimir_jax import evaluation, tables

    names = list(rows[0]["columns"])
    lines = [["passed, %", "scenes", *names]]
    for category in evaluation.CATEGORIES:
        judged = [r for r in rows if category in r["columns"][names[0]]["passed"]]
        if judged:
            cells = [[r["columns"][n]["passed"][category] for r in judged] for n in names]
            lines.append([category, str(len(judged)), *map(_percent, cells)])
    return tables.markdown([*lines, *extra])


def _long_table(rows: list[dict[str, Any]]) -> str:
    from mimir_jax import tables

    names = list(rows[0]["columns"])
    lines = [["passed, %", "stories", *names]]

    def add(label: str, value: Any) -> None:
        cells = [[value(r["columns"][n]["segments"]) for r in rows] for n in names]
        lines.append([label, str(len(rows)), *map(_percent, cells)])

    for category in (*LOOKS, "action"):
        add(category, lambda acts, k=category: float(np.mean([a[k] for a in acts])))
    add("kept to the end", lambda acts: acts[-1]["object_class"] and acts[-1]["colour"])
    add("order", lambda acts: all(a["action"] for a in acts))
    return tables.markdown(lines)


def _percent(values: list[Any]) -> str:
    from mimir_jax.evaluation import confidence

    share = float(np.mean(values))
    low, high = confidence.wilson_interval(share, len(values))
    return f"{100 * share:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def _mean(values: list[float]) -> str:
    from mimir_jax.evaluation import confidence

    low, high = confidence.bootstrap_interval(np.array(values), np.ones(len(values), int))
    return f"{np.mean(values):.1f} ({low:.1f} to {high:.1f})"


def _sheet(name: str, shown: list[dict[str, Any]]) -> None:
    from mimir_jax.sampling import video

    strips, texts = [], []
    for row in shown:
        for column, clip in row["videos"].items():
            strips.append(video.strip(clip, columns=11 if name == "long" else 5))
            texts.append(f"{column}: {row['prompt']}")
    video.contact_sheet(strips, texts).save(PAGE.with_name(f"image_to_video_{name}.png"))


def main() -> None:
    """Measures what is missing and writes the page after every scene."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="package:tiny/i2v", help="a run that reads images")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the scenes")
    args = parser.parse_args()
    host.prepare_host()
    path = PAGE.with_suffix(".json")
    found = {name: [] for name in PARTS}
    if path.is_file():
        found |= json.loads(path.read_text())
    models = None
    for part in args.parts:
        if part == "memory":
            found[part] = found[part] or memory_rows(args.checkpoint)
        shown = []
        for index in range(len(found.get(part, ())), round(COUNTS.get(part, 0) * args.scale)):
            models = models or Models(args.checkpoint)
            row = ROWS[part](models, index)
            if index < SHOWN:
                shown.append(row)
                _sheet(part, shown)
            found[part].append({"prompt": row["prompt"], "columns": row["columns"]})
            path.write_text(json.dumps(found) + "\n")
            PAGE.write_text(page(found, args))
            print(f"{part}: {index + 1} scenes", flush=True)
        path.write_text(json.dumps(found) + "\n")
        PAGE.write_text(page(found, args))


if __name__ == "__main__":
    main()
