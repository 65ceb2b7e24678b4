# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A folder of samples: an mp4 and a record a video, a contact sheet, and a page that plays them."""

import base64
import dataclasses
import html
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mimir_jax.sampling import video as video_lib

MIN_SHOWN = 256  # pixels; smaller clips are enlarged in their files by repeating pixels


@dataclasses.dataclass(frozen=True)
class Sample:
    """A video with what made it.

    Attributes:
        frames: Its pixels.
        record: Prompt, seed and settings; enough to make it again.
    """

    frames: UInt8[np.ndarray, "f h w 3"]
    record: Mapping[str, Any]


def write(folder: pathlib.Path, samples: Sequence[Sample], *, fps: float) -> None:
    """Writes `NNN.mp4` and `NNN.json` a sample, `sheet.png` and `index.html`.

    Args:
        folder: An existing folder.
        samples: At least one.
        fps: Frames a second.
    """
    for index, sample in enumerate(samples):
        scale = max(1, MIN_SHOWN // min(sample.frames.shape[1:3]))
        video_lib.write_mp4(folder / f"{index:03d}.mp4", sample.frames, fps=fps, scale=scale)
        record = {"video": f"{index:03d}.mp4", **sample.record}
        (folder / f"{index:03d}.json").write_text(json.dumps(record, indent=2) + "\n")
    frames = [sample.frames for sample in samples]
    prompts = [sample.record["prompt"] for sample in samples]
    video_lib.contact_sheet(frames, prompts).save(folder / "sheet.png")
    page = _page([(folder / f"{i:03d}.mp4", s.record) for i, s in enumerate(samples)])
    (folder / "index.html").write_text(page)


def _page(entries: Sequence[tuple[pathlib.Path, Mapping[str, Any]]]) -> str:
    """Returns one page that needs no other file."""
    cards = "\n".join(_card(path, record) for path, record in entries)
    return _PAGE.replace("{{cards}}", cards).replace("{{count}}", str(len(entries)))


def _card(path: pathlib.Path, record: Mapping[str, Any]) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    prompt = html.escape(record["prompt"])
    answer, heard = record.get("answer"), ""
    if answer is not None:
        others = "".join(f"<li>{html.escape(text)}</li>" for text in record["other_answers"])
        heard = f"<details><summary>LLM</summary><p>{html.escape(answer)}</p>"
        heard += f"<small>not used</small><ul>{others}</ul></details>" if others else "</details>"
    details = html.escape(json.dumps(record, indent=2))
    return (
        f'<figure><video src="data:video/mp4;base64,{data}" aria-label="{prompt}" autoplay loop '
        f"muted playsinline controls></video><figcaption><p>{prompt}</p>"
        f"<small>seed {record['seed']}</small>{heard}"
        f"<details><summary>record</summary><pre>{details}</pre></details></figcaption></figure>"
    )


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{count}} samples</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
  body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
  main { display: grid; gap: 2rem; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); }
  figure { margin: 0; }
  video { width: 100%; border-radius: .5rem; background: #8884; }
  p { margin: .5rem 0 0; }
  small, summary { opacity: .7; }
  pre { overflow-x: auto; font-size: .75rem; }
</style>
<main>
{{cards}}
</main>
</html>
"""
